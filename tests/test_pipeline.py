"""Both stages through their commands, on the demo corpus: a small `make cv`."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from mfhca_cache.cli import main as cache_command
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_train.cli.main import main as train_command

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
    """One bad file is named and the others are computed; cv refuses until it is removed from the manifest."""
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
    assert "no features of 1 of 102 utterances" in result.output
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


def test_two_encoders_with_all_their_layers_share_a_cache(demo: Path, tmp_path: Path) -> None:
    rows = [u for u in read_manifest(demo / "demo.csv").utterances if u.speaker[0] in "12"]
    kept = {(u.speaker, u.emotion): u for u in rows}  # one of each emotion and speaker
    write_manifest(tmp_path / "demo.csv", [u for u in rows if u in kept.values()])
    (tmp_path / "data").symlink_to(demo / "data")
    other = tmp_path / "hubert-other"
    shutil.copytree(demo / "data/hubert-demo", other)
    tensors = load_file(other / "model.safetensors")
    tensors["feature_projection.projection.bias"] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    for encoder, layer in ((demo / "data/hubert-demo", "all"), (other, "all"), (other, "1")):
        places = [
            str(tmp_path / "demo.csv"),
            "--root",
            str(demo / "data"),
            "--cache",
            str(tmp_path / "cache"),
        ]
        options = ["--kind", "ssl", "--backbone", str(encoder), "--layer", layer]
        result = CliRunner().invoke(cache_command, ["features", *places, *options])
        assert result.exit_code == 0, result.output

    def cv(*more: str) -> Result:
        settings = ["--set", "model.inputs=ssl", "--set", "model.width=16", "--set", "train.epochs=1"]
        places = [
            str(tmp_path / "demo.csv"),
            "--cache",
            str(tmp_path / "cache"),
            "--out",
            str(tmp_path / "run"),
        ]
        return CliRunner().invoke(
            train_command, ["cv", *places, *settings, "--jobs", "1", "--fold", "1F", *more]
        )

    result = cv()
    assert result.exit_code == 1
    lines = result.output[result.output.index("error: ") :].splitlines()
    assert "3 recipes of ssl features; choose one with --ssl NAME (a unique prefix is enough)" in lines[0]
    listed = [(line.split()[0].rpartition("-")[0], line.split(" ", 3)[3]) for line in lines[1:]]
    assert listed == [
        ("ssl-hubert-demo-all", "(layer all)"),
        ("ssl-hubert-other-all", "(layer all)"),
        ("ssl-hubert-other-layer1", "(layer 1)"),
    ]
    result = cv("--ssl", "hubert-o", "--set", "model.ssl_layer=weighted")
    assert result.exit_code == 0, result.output
    about = json.loads((tmp_path / "run/run.json").read_text())
    assert list(about["recipe_names"].values()) == ["ssl-hubert-other-all"]
    unit = json.loads((tmp_path / "run/model/seed-0/fold-1F/result.json").read_text())
    assert list(unit["layer_weights"]) == ["0", "1", "2"]
    result = cv("--ssl", "hubert-demo")
    assert result.exit_code == 1
    assert "holds another run" in result.output
