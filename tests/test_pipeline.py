"""Both stages through their commands, on the demo corpus: what `make cv` does, in small."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mfhca_cache.cli import main as cache_command
from mfhca_cache.manifest import read_manifest, write_manifest
from mfhca_train.cli import main as train_command

QUICK = {"model.grf_channels": "4,4", "model.width": "16", "train.epochs": "1"}


def stage_one(folder: Path, *more: str) -> Result:
    root = folder / "data"
    arguments = [str(folder / "demo.csv"), "--root", str(root), "--cache", str(folder / "cache"), *more]
    return CliRunner().invoke(
        cache_command, ["features", *arguments, "--backbone", str(root / "hubert-demo")]
    )


def stage_two(folder: Path, *more: str) -> Result:
    settings = [part for name, value in QUICK.items() for part in ("--set", f"{name}={value}")]
    arguments = [
        "cv",
        str(folder / "demo.csv"),
        "--cache",
        str(folder / "cache"),
        "--out",
        str(folder / "run"),
    ]
    return CliRunner().invoke(train_command, [*arguments, *settings, "--jobs", "1", *more])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo corpus and its manifest."""
    folder = tmp_path_factory.mktemp("demo")
    arguments = ["manifest", "demo", "--root", str(folder / "data"), "--out", str(folder / "demo.csv")]
    made = CliRunner().invoke(cache_command, arguments)
    assert made.exit_code == 0, made.output
    return folder


def test_from_nothing_to_a_report_past_a_file_that_cannot_be_read(demo: Path) -> None:
    """One bad file is named and the others are computed; cv refuses until it is struck from the manifest."""
    manifest = read_manifest(demo / "demo.csv")
    bad = manifest.utterances[7]
    audio = demo / "data" / bad.path
    sound = audio.read_bytes()
    audio.write_bytes(b"no sound")

    result = stage_one(demo)
    assert result.exit_code == 1, result.output
    assert bad.utterance in result.output
    assert "Traceback" not in result.output
    result = stage_two(demo)
    assert result.exit_code == 1, result.output
    assert "1 of 102 utterances have no features" in result.output
    assert bad.utterance in result.output

    write_manifest(demo / "demo.csv", [u for u in manifest.utterances if u != bad])
    result = stage_two(demo, "--fold", manifest.utterances[0].speaker)
    assert result.exit_code == 0, result.output
    assert "NOT COMPLETE" in result.output
    assert (demo / "run/report.html").read_text().count("<svg") >= 3

    audio.write_bytes(sound)
    write_manifest(demo / "demo.csv", manifest.utterances)
    result = stage_one(demo)
    assert result.exit_code == 0, result.output
    assert "computed 1 utterance" in result.output
    result = stage_one(demo)
    assert result.exit_code == 0, result.output
    assert "nothing to compute" in result.output
    result = stage_two(demo)
    assert result.exit_code == 1, result.output
    assert "holds another run" in result.output
    result = stage_two(demo, "--out", str(demo / "whole"))
    assert result.exit_code == 0, result.output
    results = json.loads((demo / "whole/results.json").read_text())
    tested = []
    for path in (demo / "whole/model/seed-0").glob("fold-*/predictions.csv"):
        with open(path, newline="") as file:
            tested += [row["utterance"] for row in csv.DictReader(file)]
    assert sorted(tested) == sorted(u.utterance for u in manifest.utterances)
    assert results["complete"]
    assert results["corpus"] == "demo"
