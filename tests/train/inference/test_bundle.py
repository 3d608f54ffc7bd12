"""One folder that predicts without run and cache; damage is named, never guessed over."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from corpus_factory import request
from safetensors import safe_open
from safetensors.torch import load, save
from voice_factory import trained

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.inference.bundle import CARD, NETWORKS, is_bundle, open_ensemble, read_bundle, write_bundle
from mfhca_train.inference.ensemble import Member, read_run
from mfhca_train.inference.predictor import Predictor
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.runs.crossval import cross_validate


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the run on real audio."""
    out = tmp_path_factory.mktemp("bundle") / "voices"
    write_bundle(read_run(trained().run), out)
    return out


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_the_folder_follows_umask_and_setgid(bundle: Path, tmp_path: Path, umask: int) -> None:
    (tmp_path / "group").mkdir()
    (tmp_path / "group").chmod(0o2775)
    before = os.umask(umask)
    try:
        write_bundle(read_bundle(bundle), tmp_path / "group/bundle")
    finally:
        os.umask(before)
    assert [path.name for path in (tmp_path / "group").iterdir()] == ["bundle"]
    assert (tmp_path / "group/bundle").stat().st_mode & 0o7777 == 0o2777 & ~umask
    for name in (CARD, NETWORKS):
        assert (tmp_path / "group/bundle" / name).stat().st_mode & 0o7777 == 0o666 & ~umask


def test_a_bundle_gives_the_runs_bits_without_run_and_cache(bundle: Path, tmp_path: Path) -> None:
    made = trained()
    torch.set_num_threads(1)
    moved = shutil.copytree(bundle, tmp_path / "elsewhere")
    text = (moved / CARD).read_text()
    for path in (made.run, made.cache, made.backbone, made.root, Path.home()):
        assert str(path) not in text
    paths = made.audio("1F")
    expected = Predictor.from_run(made.run, made.backbone).predict(paths, attention=True)
    found = Predictor.open(moved, made.backbone).predict(paths, attention=True)
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_array_equal(here.log_probabilities, there.log_probabilities)
        assert here.seen_by == there.seen_by == 3
    held = Predictor.open(moved, made.backbone, speaker="1F").predict(paths)
    assert {(one.seen_by, len(one.log_probabilities)) for one in held} == {(0, 1)}


def test_equal_runs_give_equal_bytes_and_nothing_is_left_beside(bundle: Path, tmp_path: Path) -> None:
    write_bundle(read_run(trained().run), tmp_path / "again")
    for name in (CARD, NETWORKS):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    with pytest.raises(MfhcaError, match="again: exists already"):
        write_bundle(read_run(trained().run), tmp_path / "again")
    (tmp_path / "file").touch()
    with pytest.raises(MfhcaError, match="cannot be written"):
        write_bundle(read_run(trained().run), tmp_path / "file" / "bundle")


def test_the_card_tells_what_the_networks_are(bundle: Path) -> None:
    made = trained()
    card = json.loads((bundle / CARD).read_text())
    results = json.loads((made.run / "results.json").read_text())
    assert card["scores"]["ua"] == results["ua"]
    assert (card["protocol"], card["oracle"], card["corpus"]) == ("strict", False, "voices")
    assert "warning" not in card
    assert card["inputs"]["ssl"]["name"] == "ssl-hubert-demo"
    assert [one["test_speakers"] for one in card["networks"]] == [["1F"], ["1M"], ["2F"], ["2M"]]
    assert "--backbone" in card["use"]
    with safe_open(bundle / NETWORKS, "np") as file:
        assert any(name.startswith("seed-0/fold-2M/weights.classifier") for name in file.keys())  # noqa: SIM118


def test_the_scores_of_all_folds_are_not_taken_for_those_of_some(bundle: Path, tmp_path: Path) -> None:
    write_bundle(read_run(trained().run).of_folds(["1F"]), tmp_path / "one")
    told = "These are the scores of the networks of all folds; of 1 of these folds the networks are here."
    assert told in (tmp_path / "one/README.md").read_text()
    assert "of all folds" not in (bundle / "README.md").read_text()


def test_a_bundle_keeps_every_networks_speakers_and_training_audio(bundle: Path) -> None:
    of_run, of_bundle = read_run(trained().run), read_bundle(bundle)
    for before, after in zip(of_run.members, of_bundle.members, strict=True):
        assert msgspec.structs.replace(after.card, train_speakers=()) == msgspec.structs.replace(
            before.card, train_speakers=()
        )
        assert sorted(after.card.train_speakers) == sorted(before.card.train_speakers)
        np.testing.assert_array_equal(after.inputs.training_audio, before.inputs.training_audio)
        assert after.state.keys() == before.state.keys()
        assert all(torch.equal(after.state[name], value) for name, value in before.state.items())


def test_the_card_grows_linearly_with_the_folds(tmp_path: Path) -> None:
    """Each of n networks is trained on n - 2 of n speakers; a card with all of them would grow with n squared."""
    one = read_run(trained().run)
    size = {}
    for n in (20, 40, 80):
        names = [f"speaker-{k:02d}" for k in range(n)]
        members = tuple(
            Member(
                msgspec.structs.replace(
                    one.members[0].card,
                    fold=name,
                    test_speakers=(name,),
                    validation_speakers=(names[k - 1],),
                    train_speakers=tuple(s for s in names if s not in (name, names[k - 1])),
                ),
                copy.deepcopy(
                    one.members[0].inputs
                ),  # tensors of several networks may not share their memory
                {"weight": torch.full((3,), float(k))},
            )
            for k, name in enumerate(names)
        )
        write_bundle(replace(one, members=members), tmp_path / str(n))
        size[n] = (tmp_path / str(n) / CARD).stat().st_size
        found = read_bundle(tmp_path / str(n))
        assert [m.card for m in found.members] == [m.card for m in members]
    assert size[80] - size[40] <= 2.05 * (size[40] - size[20])


def test_the_networks_are_written_as_safetensors_does(bundle: Path) -> None:
    data = (bundle / NETWORKS).read_bytes()
    assert save(load(data)) == data


def test_an_oracles_bundle_is_marked_and_holds_nobody_out(tmp_path: Path) -> None:
    wanted = request(tmp_path, settings={"train.epochs": "1"}, protocol="oracle", folds=("s0",))
    cross_validate(wanted)
    write_bundle(read_run(wanted.out), tmp_path / "bundle")
    card = json.loads((tmp_path / "bundle" / CARD).read_text())
    assert card["oracle"] is True
    assert "ORACLE" in card["warning"]
    ensemble = read_bundle(tmp_path / "bundle")
    assert "ORACLE" in ensemble.title
    with pytest.raises(MfhcaError, match="was selected on speaker s0"):
        ensemble.holding_out("s0")


def test_damage_is_named(bundle: Path, tmp_path: Path) -> None:
    whole = read_sealed(bundle / CARD)

    def broken(name: str, **changes: object) -> Path:
        folder = shutil.copytree(bundle, tmp_path / name)
        write_sealed(folder / CARD, {**whole, **changes})
        return folder

    with pytest.raises(MfhcaError, match="not a bundle's card"):
        open_ensemble(broken("foreign", format="another"))
    with pytest.raises(MfhcaError, match="a bundle of version 9, this program reads 2"):
        open_ensemble(broken("later", version=9))
    with pytest.raises(MfhcaError, match="a bundle of version 1, this program reads 2; export it again"):
        open_ensemble(broken("earlier", version=1))
    with pytest.raises(MfhcaError, match="networks is 'none', expected a list"):
        open_ensemble(broken("odd", networks="none"))
    with pytest.raises(MfhcaError, match="holds no network"):
        open_ensemble(broken("none", networks=[]))
    with pytest.raises(MfhcaError, match=r"damaged \(model\.hca = 'sideways' does not fit"):
        open_ensemble(broken("config", config={**whole["config"], "model": {"hca": "sideways"}}))
    small = broken("small", config={**whole["config"], "model": {**whole["config"]["model"], "width": 8}})
    with pytest.raises(MfhcaError, match=r"fold 1F, seed 0: the weights do not fit the settings"):
        Predictor.open(small, trained().backbone)
    lacking = broken("lacking")
    write_sealed(lacking / CARD, {k: v for k, v in whole.items() if k != "protocol"})
    with pytest.raises(MfhcaError, match="protocol is missing"):
        open_ensemble(lacking)
    (lacking / CARD).write_text("{")
    with pytest.raises(MfhcaError, match="not valid JSON"):
        open_ensemble(lacking)
    bad = broken("bits") / NETWORKS
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    with pytest.raises(
        MfhcaError, match=r"networks\.safetensors: not the file that card\.json was written with"
    ):
        open_ensemble(tmp_path / "bits")
    bad.unlink()
    with pytest.raises(MfhcaError, match=r"networks\.safetensors: cannot be read"):
        open_ensemble(tmp_path / "bits")


def test_only_the_networks_of_a_speaker_are_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_bundle(bundle)
    read: set[str] = set()

    @contextmanager
    def recorded(path: Path, framework: str) -> Iterator[SimpleNamespace]:
        with safe_open(path, framework) as file:
            yield SimpleNamespace(keys=file.keys, get_tensor=lambda n: read.add(n) or file.get_tensor(n))

    monkeypatch.setattr("mfhca_train.inference.bundle.safe_open", recorded)
    (one,) = open_ensemble(bundle, None, "1F").members
    assert {name.rsplit("/", 1)[0] for name in read} == {"seed-0/fold-1F"}
    expected = whole.holding_out("1F").members[0]
    assert one.card == expected.card
    for name, tensor in one.state.items():
        torch.testing.assert_close(tensor, expected.state[name], rtol=0, atol=0)
    with pytest.raises(MfhcaError, match=r"no network was tested on speaker 1f; did you mean 1F\?"):
        open_ensemble(bundle, None, "1f")


def test_what_is_neither_run_nor_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    assert is_bundle(bundle)
    assert not is_bundle(tmp_path)
    with pytest.raises(MfhcaError, match="no such folder"):
        open_ensemble(tmp_path / "gone")
    with pytest.raises(MfhcaError, match=r"no run\.json, so the run is not finished"):
        open_ensemble(tmp_path)
    with pytest.raises(MfhcaError, match="a bundle has no rows"):
        open_ensemble(bundle, "row")
