"""The networks of a run, and which of them were tested on a speaker."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from corpus_factory import request
from grid_factory import write_grid
from voice_factory import trained

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.inference.ensemble import read_run
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.results.rescore import rescore
from mfhca_train.runs.ablation import ablate


def test_members_are_all_folds_and_have_seen_all_but_their_test_speaker() -> None:
    made = trained()
    ensemble = read_run(made.run)
    assert [m.card.fold for m in ensemble.members] == ["1F", "1M", "2F", "2M"]
    assert "4 networks of 4 folds" in ensemble.title
    counts = [len(member.inputs.training_audio) for member in ensemble.members]
    per_speaker = [len(made.audio(speaker)) for speaker in ("1F", "1M", "2F", "2M")]
    assert counts == [
        3 * (sum(per_speaker) - own) for own in per_speaker
    ]  # of the file, the samples and the id


def test_a_speaker_selects_the_fold_that_held_them_out() -> None:
    ensemble = read_run(trained().run)
    assert [m.card.fold for m in ensemble.holding_out("2F").members] == ["2F"]
    with pytest.raises(MfhcaError, match="no network was tested on speaker X; there are: 1F, 1M, 2F, 2M"):
        ensemble.holding_out("X")
    assert [m.card.fold for m in ensemble.of_folds(["2M", "1F"]).members] == ["1F", "2M"]
    assert ensemble.of_folds([]) == ensemble
    with pytest.raises(MfhcaError, match="no fold is called '9'; there are: 1F, 1M, 2F, 2M"):
        ensemble.of_folds(["9"])


def test_only_the_networks_of_a_speaker_are_read(tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained().run, tmp_path / "run"))
    for fold in ("1F", "1M", "2M"):
        (run / f"model/seed-0/fold-{fold}/best.safetensors").write_bytes(b"never read")
    assert [m.card.fold for m in read_run(run, speaker="2F").members] == ["2F"]
    with pytest.raises(MfhcaError, match="no network was tested on speaker X; there are: 1F, 1M, 2F, 2M"):
        read_run(run, speaker="X")


def test_the_results_of_another_run_are_not_those_of_these_networks(tmp_path: Path) -> None:
    """A bundle would carry them in its card, and `predict` would say how far to trust its probabilities by them."""
    run = Path(shutil.copytree(trained().run, tmp_path / "run"))
    results = read_sealed(run / "results.json")
    results["folds"][1]["ua"] = 1.0
    write_sealed(run / "results.json", results)
    for use in (read_run, lambda run: rescore(run, "mean")):
        with pytest.raises(
            MfhcaError,
            match=r"fold 1M, seed 0: ua differs from that in .*fold-1M/result.json; run `mfhca-train cv`",
        ):
            use(run)


def test_an_ablation_wants_a_row(tmp_path: Path) -> None:
    grid = write_grid(
        tmp_path / "grid.toml",
        'title = "Two"\n[base]\nset = { "model.inputs" = "ssl" }\n'
        '[[row]]\nname = "one"\ntitle = "One"\nreference = true\n'
        '[[row]]\nname = "two"\ntitle = "Two"\nset = { "model.bilstm" = false }\n'
        '[[row]]\nname = "most"\ntitle = "Most frequent"\nkind = "majority"\n',
    )
    wanted = request(tmp_path, folds=("s0",), settings={"train.epochs": "1"})
    ablate(wanted, grid)
    with pytest.raises(MfhcaError, match="holds an ablation; name one with --row: one, two"):
        read_run(wanted.out)
    with pytest.raises(MfhcaError, match="has no row 'six' with networks; there are: one, two"):
        read_run(wanted.out, "six")
    ensemble = read_run(wanted.out, "two")
    assert ensemble.card.row == "two"
    assert not ensemble.config.model.bilstm
    assert len(ensemble.members) == 1


def test_what_is_not_whole_is_named(tmp_path: Path) -> None:
    run = shutil.copytree(trained().run, tmp_path / "run")
    with pytest.raises(MfhcaError, match="a run of cv has no rows"):
        read_run(run, "one")
    weights = run / "model/seed-0/fold-1M/best.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    with pytest.raises(MfhcaError, match=r"fold-1M/best\.safetensors: damaged"):
        read_run(run)
    weights.write_bytes(whole)
    results = read_sealed(run / "results.json")
    write_sealed(run / "results.json", {k: v for k, v in results.items() if k != "folds"})
    with pytest.raises(MfhcaError, match="folds is missing"):
        read_run(run)
    write_sealed(run / "results.json", results)
    write_sealed(run / "run.json", {**read_sealed(run / "run.json"), "threads": 7})
    with pytest.raises(MfhcaError, match="trained with other settings or data"):
        read_run(run)
    (run / "results.json").unlink()
    with pytest.raises(MfhcaError, match=r"no results\.json, so the run is not finished"):
        read_run(run)
