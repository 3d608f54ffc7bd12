"""Portraits: what is stored is what the networks give, it repeats to the last bit, and it is never of another run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from corpus_factory import CLASSES, request, utterances
from grid_factory import write_grid
from safetensors.numpy import load_file

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.log import FILE as LOG_FILE
from mfhca_train.analysis.stored import FILE, choose, portray, read
from mfhca_train.cli.main import main
from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.model.saved import load_network
from mfhca_train.report import analysis
from mfhca_train.report.page import write_report
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.results.schema import unit_folder
from mfhca_train.runs.ablation import ablate
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.runs.grid_rows import resolve, select
from mfhca_train.runs.plan import Corpora, Request, plan, read_ground

GRID = """
title = "Fusions"
[[row]]
name = "hca"
title = "With HCA"
reference = true
[[row]]
name = "masked"
title = "Masked"
set = { "model.mask_padding" = true }
[[row]]
name = "frames"
title = "Frames"
set = { "model.hca" = "frames", "model.mask_padding" = true }
[[row]]
name = "channel"
title = "Channel"
set = { "model.hca" = "channel" }
[[row]]
name = "released"
title = "Released"
set = { "model.hca" = "released", "model.grf" = "released" }
[[row]]
name = "coattention"
title = "Co-attention"
set = { "model.fusion" = "coattention" }
[[row]]
name = "concat"
title = "Concatenated"
set = { "model.fusion" = "concat" }
[[row]]
name = "spec"
title = "Spectrogram"
set = { "model.inputs" = "spec" }
[[row]]
name = "ssl"
title = "Hidden states"
set = { "model.inputs" = "ssl" }
[[row]]
name = "svm"
title = "No network"
kind = "svm"
set = { "model.inputs" = "ssl" }
"""
ROWS = ("hca", "masked", "frames", "channel", "released", "coattention", "concat", "spec", "ssl")
FOLDS = ("s0", "s2")


def asked(folder: Path, **changes: object) -> Request:
    """An epoch of two folds of five speakers, with portraits."""
    base = request(folder, utterances(speakers=5, each=8), {"train.epochs": "1"}, folds=FOLDS, portraits=True)
    return replace(base, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus, cache and an ablation of every kind of row, one fold; not to be written to."""
    folder = tmp_path_factory.mktemp("portrait")
    ablate(asked(folder, folds=FOLDS[:1]), write_grid(folder / "fusions.toml", GRID))
    return folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a run of `cv`."""
    folder = tmp_path_factory.mktemp("single")
    cross_validate(asked(folder))
    return folder


def copy(folder: Path, target: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(folder, target / "copy")
    return target / "copy"


@pytest.mark.parametrize("row", ["hca", "masked", "coattention", "ssl", "spec"])
def test_stored_features_are_the_network_s_own_segment_by_segment(finished: Path, row: str) -> None:
    portrait = read(finished / "run" / row / FILE)
    about, arrays = portrait.about, portrait.arrays
    settings = about["config"]["model"]
    config = ModelConfig(**settings | {"grf_channels": tuple(settings["grf_channels"])})
    folder = unit_folder(finished / "run", row, 0, about["fold"])
    model, inputs = load_network(folder, config, 4)
    ground = read_ground(asked(finished))
    recipes = choose_recipes(finished / "cache", config.inputs)
    with Corpus(recipes, ground.utterances, ground.label_set) as corpus:
        names = [u.utterance for u in corpus.utterances]
        for k in (0, 3, len(about["points"]["utterances"]) - 1):
            index = names.index(about["points"]["utterances"][k])
            segments = corpus.segments(np.array([index]))
            parts = []
            for s in range(len(segments)):
                given: dict[str, torch.Tensor] = {}
                for side, features in corpus.features.items():
                    shard, position = segments.rows[side][s]
                    x = torch.from_numpy(features.gather(np.array([shard]), np.array([position]))).float()
                    n = inputs.normalisers[side]
                    given[side] = (
                        x if n is None else x * torch.from_numpy(n.scale) + torch.from_numpy(n.shift)
                    )
                    given[f"{side}_valid"] = torch.tensor([int(segments.valid[side][s])])
                if "spec" in given:
                    given["spec"] = given["spec"][:, None]
                with torch.no_grad():
                    parts.append(model(**given).features[0].numpy())
            np.testing.assert_allclose(arrays["points.features"][k], np.mean(parts, axis=0), atol=1e-5)
            assert arrays["points.label"][k] == corpus.labels[index]


def test_roles_are_those_of_the_fold(finished: Path) -> None:
    about, arrays = (portrait := read(finished / "run" / "hca" / FILE)).about, portrait.arrays
    speakers = about["points"]["speakers"]
    assert speakers["test"] == [about["fold"]]
    roles = ("test", "validation", "training")
    for name, role in zip(about["points"]["utterances"], arrays["points.role"], strict=True):
        assert name.split("_")[0] in speakers[roles[role]]
    assert sum(map(len, speakers.values())) == 5
    assert len(about["points"]["utterances"]) == 5 * 8


@pytest.mark.parametrize("row", ["hca", "masked", "frames"])
def test_softmax_attention_sums_to_one(finished: Path, row: str) -> None:
    arrays = read(finished / "run" / row / FILE).arrays
    weights = np.concatenate([array for name, array in arrays.items() if name.endswith(".weights")])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)


def test_masked_padding_gets_nothing_and_unmasked_padding_something(finished: Path) -> None:
    for row in ROWS:
        for fold in read(finished / "run" / row / FILE).about["folds"]:
            mass, share = fold["attention"]["mass"], fold["attention"]["share"]
            if row in ("masked", "frames"):
                assert mass["mean"] == 0.0
            if row in ("hca", "masked", "frames", "released", "coattention"):
                assert (
                    mass["n"] == share["n"] == 8
                )  # every utterance ends with a segment half of which is padding
                np.testing.assert_allclose(share["mean"], 0.5)
            else:
                assert mass == {"n": 0, "mean": None}
    hca = read(finished / "run" / "hca" / FILE).about["folds"][0]["attention"]["mass"]["mean"]
    assert 0.1 < hca < 0.9


def test_all_rows_show_the_same_fold_and_utterances(finished: Path) -> None:
    portraits = {row: read(finished / "run" / row / FILE).about for row in ROWS}
    assert len({about["fold"] for about in portraits.values()}) == 1
    assert {about["origin"]["chosen_by"] for about in portraits.values()} == {"hca"}
    shown = {
        tuple(e["utterance"] for e in about["examples"]) for row, about in portraits.items() if row != "ssl"
    }
    assert len(shown) == 1
    assert len(next(iter(shown))) == 4
    assert not (finished / "run" / "svm" / FILE).exists()
    assert all((finished / "run" / row / FILE).stat().st_size < 2e6 for row in ROWS)


def test_the_report_shows_every_row_once_and_says_what_its_weights_are(finished: Path) -> None:
    (features_title, features), (_, attention) = analysis.sections(finished / "run", ROWS)
    assert features_title == "What the features look like"
    assert features.count("<svg") == len(ROWS)
    assert features.index(">Co-attention</") < features.index(">With HCA</")  # the pair, as in Fig. 3
    for words in (
        "With HCA, Masked: a softmax over the encoder's frames",
        "Channel: a softmax over the encoder's values, not over time",
        "Co-attention: the output of a ReLU",
        "Concatenated, Spectrogram, Hidden states: none",
        "The same with “Co-attention”",
    ):
        assert words in attention
    assert attention.count("<svg") == 2 * 4
    page = (finished / "run" / "report.html").read_text()
    assert "What the networks attend to" in page
    assert str(finished) not in page


def test_an_oracle_row_is_marked_in_every_table_and_picture_title(finished: Path, tmp_path: Path) -> None:
    run = copy(finished, tmp_path) / "run"
    results = read_sealed(run / "results.json")
    results["rows"]["hca"]["oracle"] = True
    write_sealed(run / "results.json", results)
    for _, body in analysis.sections(run, ROWS):
        tables = re.findall(r"<table.*?</table>", body, re.DOTALL)
        assert tables
        assert all("With HCA (ORACLE)" in table for table in tables)
        assert body.count("With HCA") == body.count("With HCA (ORACLE)")
        assert "Masked" in body
        assert "Masked (ORACLE)" not in body


def test_the_same_run_gives_the_same_bytes_again_and_elsewhere(single: Path, tmp_path: Path) -> None:
    moved = copy(single, tmp_path)
    before = (moved / "run" / "model" / FILE).read_bytes()
    (moved / "run" / "model" / FILE).unlink()
    (moved / "run" / "report.html").unlink()
    cross_validate(asked(moved))
    assert (moved / "run" / "model" / FILE).read_bytes() == before
    assert (moved / "run" / "report.html").read_bytes() == (single / "run" / "report.html").read_bytes()


def test_only_what_is_missing_or_damaged_is_made_again(finished: Path, tmp_path: Path) -> None:
    folder = copy(finished, tmp_path)
    paths = {row: folder / "run" / row / FILE for row in ROWS}
    whole = {row: path.read_bytes() for row, path in paths.items()}
    paths["hca"].unlink()
    flipped = bytearray(whole["spec"])
    flipped[-100] ^= 1
    paths["spec"].write_bytes(flipped)
    paths["ssl"].write_bytes(whole["ssl"][:1000])
    assert set(portray_rows(folder)) == {"hca", "spec", "ssl"}
    assert {row: path.read_bytes() for row, path in paths.items()} == whole
    assert portray_rows(folder) == []


def portray_rows(folder: Path) -> list[str]:
    """What the end of `ablate` does for portraits; the rows that were made."""
    wanted, grid = asked(folder, folds=FOLDS[:1]), write_grid(folder / "fusions.toml", GRID)
    ground = read_ground(wanted)
    rows, _ = resolve(wanted, grid, ground, select(grid, ()))
    with Corpora(ground) as corpora:
        plans = [plan(wanted, ground, row, corpora.of(row.recipes)) for row in rows]
    return portray(wanted.out, plans, ground, "cpu", grid.reference)


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "version", "text"])
def test_a_damaged_portrait_stops_the_report_with_one_line(single: Path, tmp_path: Path, damage: str) -> None:
    folder = copy(single, tmp_path)
    path = folder / "run" / "model" / FILE
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "flipped": bytes(flipped),
            "version": whole.replace(b'\\"format\\":1', b'\\"format\\":9'),
            "text": b"x" * 200,
        }[damage]
    )
    assert path.read_bytes() != whole
    with pytest.raises(MfhcaError, match=r"model/portrait\.safetensors: cannot be read .*; delete it"):
        write_report(folder / "run")
    path.unlink()
    assert "attend to" not in write_report(folder / "run").read_text()


def test_a_portrait_of_other_folds_is_not_shown_and_made_again(single: Path, tmp_path: Path) -> None:
    folder = copy(single, tmp_path)
    cross_validate(asked(folder, folds=("s0", "s1", "s2"), portraits=False))
    assert "attend to" not in (folder / "run" / "report.html").read_text()
    cross_validate(asked(folder, folds=("s0", "s1", "s2")))
    assert [fold["id"] for fold in read(folder / "run" / "model" / FILE).about["folds"]] == ["s0", "s1", "s2"]
    assert "attend to" in (folder / "run" / "report.html").read_text()


def test_absent_audio_costs_the_waveforms_alone(single: Path, tmp_path: Path) -> None:
    folder = copy(single, tmp_path)
    cross_validate(asked(folder, root=tmp_path / "nowhere"))
    assert "warning: pictures without waveforms: " in (folder / "run" / LOG_FILE).read_text()
    assert (folder / "run" / "model" / FILE).read_bytes() == (single / "run" / "model" / FILE).read_bytes()


def test_the_command_can_do_without(tmp_path: Path) -> None:
    asked(tmp_path)
    small = ["--set", "model.grf_channels=8,8", "--set", "model.width=16", "--set", "train.epochs=1"]
    usual = [
        "--cache",
        str(tmp_path / "cache"),
        "--out",
        str(tmp_path / "run"),
        "--fold",
        "s0",
        "--jobs",
        "1",
    ]
    done = CliRunner().invoke(main, ["cv", str(tmp_path / "corpus.csv"), *usual, *small, "--no-portraits"])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "run" / "model" / FILE).exists()
    done = CliRunner().invoke(main, ["cv", str(tmp_path / "corpus.csv"), *usual, *small])
    assert done.exit_code == 0, done.output
    assert load_file(tmp_path / "run" / "model" / FILE)["points.features"].shape == (5 * 8, 32)


def test_the_fold_with_the_median_ua_and_the_median_probability_are_chosen(tmp_path: Path) -> None:
    folders = []
    for fold, ua in (("a", 0.9), ("b", 0.4), ("c", 0.6), ("d", 0.5)):
        folder = tmp_path / f"fold-{fold}"
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps({"id": fold, "ua": ua, "test_speakers": [fold]}))
        head = ["utterance", "speaker", "label", "prediction", *(f"logp_{name}" for name in CLASSES)]
        joy = [
            (f"{fold}{k}", fold, "joy", "joy" if k else "anger", -9, logp, -9, -9)
            for k, logp in enumerate((-0.01, -0.5, -0.3, -0.9))
        ]
        other = [("x1", fold, "anger", "joy", -3, -1, -9, -9), ("x2", fold, "anger", "joy", -4, -1, -9, -9)]
        rows = [head, *joy, *other, ("y", "z", "neutral", "neutral", -1, -1, -1, -1)]
        (folder / "predictions.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
        folders.append(folder)
    choice = choose(folders, CLASSES, "row")
    assert choice.fold == "d"  # 0.5, the lower of the two in the middle
    assert choice.utterances == ("x2", "d1")  # of anger none is recognised; nobody who is tested is neutral
