"""The commands predict, export and evaluate, as they are typed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from click.testing import CliRunner, Result
from voice_factory import invoke, trained

from mfhca_cache.cli import main as cache_command
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_train.cli import inference
from mfhca_train.cli.main import main


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


def predict(*arguments: object) -> Result:
    made = trained()
    return run("predict", made.run, *arguments, "--backbone", made.backbone, "--threads", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sound files, and things that are none."""
    first, second = trained().audio("1F")[:2]
    (tmp_path / "sub").mkdir()
    shutil.copy(first, tmp_path / "a.wav")
    shutil.copy(second, tmp_path / "sub/b.WAV")
    (tmp_path / "text.wav").write_text("hello")
    (tmp_path / "empty.wav").touch()
    (tmp_path / ".hidden.wav").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_a_folder_with_junk_is_judged_and_the_command_fails(folder: Path) -> None:
    result = predict(folder)
    assert result.exit_code == 1
    assert result.stdout.count("\n") == 5
    assert "expected calibration error" in result.stdout
    assert str(folder / "a.wav")[-20:] in result.stdout
    assert "4 networks of 4 folds" in result.stdout
    assert "skipped: 1 hidden and 1 without an audio suffix (.txt 1)" in result.stderr
    assert "error: 2 of 4 could not be used" in result.stderr
    assert "empty.wav: the file is empty" in result.stderr
    assert "text.wav: not readable as audio" in result.stderr
    assert "selected on 2 of these 2 files" in result.stderr
    assert "pass --speaker" in result.stderr


def test_speaker_json_and_out_reach_the_prediction(folder: Path, tmp_path: Path) -> None:
    paths = [folder / "a.wav", folder / "sub"]
    result = predict(*paths, "--speaker", "1F", "--json", "--attention", "--out", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "out.json")
    assert result.stderr == ""
    value = json.loads((tmp_path / "out.json").read_text())
    assert value["model"]["networks"] == [{"fold": "1F", "seed": 0}]
    assert [Path(one["file"]).name for one in value["predictions"]] == ["a.wav", "b.WAV"]
    assert all(one["attention"]["weight"] for one in value["predictions"])
    with open(trained().run / "model/seed-0/fold-1F/predictions.csv", newline="") as file:
        expected = [row["prediction"] for row in csv.DictReader(file)][:2]
    assert [one["emotion"] for one in value["predictions"]] == expected
    frames = predict(*paths, "--format", "csv", "--attention", "--speaker", "1F")
    rows = list(csv.DictReader(io.StringIO(frames.stdout)))
    assert len(rows) == sum(len(one["attention"]["weight"]) for one in value["predictions"])
    assert "p_anger" in predict(*paths, "--format", "csv", "--speaker", "1F").stdout.splitlines()[0]


def test_wrong_usage_and_foreseen_failures_are_told_apart(folder: Path) -> None:
    sound = folder / "a.wav"
    for arguments, code, said in (
        ((sound, "--attention"), 2, "too much for a table"),
        ((sound, "--json", "--format", "csv"), 2, "contradict each other"),
        ((), 2, "Missing argument"),
        ((folder / "notes.txt",), 1, "notes.txt: the file is empty"),
        (
            (sound, "--speaker", "nobody"),
            1,
            "no network was tested on speaker nobody; there are: 1F, 1M, 2F, 2M",
        ),
        ((sound, "--row", "x"), 1, "leave --row out"),
    ):
        result = predict(*arguments)
        assert result.exit_code == code, result.output
        assert said in result.output
    (folder / "bare").mkdir()
    nothing = predict(folder / "bare")
    assert (nothing.exit_code, "bare: no audio files" in nothing.output) == (1, True)
    without = run("predict", trained().run, sound)
    assert (without.exit_code, "pass --backbone" in without.output) == (1, True)


def test_an_exported_bundle_predicts_and_is_scored(folder: Path, tmp_path: Path) -> None:
    made = trained()
    done = run("export", made.run, "--out", tmp_path / "bundle", "--fold", "1F", "--fold", "1M")
    assert done.exit_code == 0, done.output
    assert "2 networks of 2 folds, trained on voices" in done.output
    arguments = [folder / "a.wav", "--backbone", made.backbone, "--threads", 1]
    result = run("predict", tmp_path / "bundle", *arguments)
    assert result.exit_code == 0, result.output
    assert "2 networks of 2 folds" in result.stdout
    again = run("export", made.run, "--out", tmp_path / "bundle")
    assert (again.exit_code, "exists already" in again.output) == (1, True)
    scores = run("evaluate", tmp_path / "bundle", made.manifest.path, "--cache", made.cache)
    assert (scores.exit_code, "pass --out for the scores" in scores.output) == (2, True)


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("model", ["run", "bundle"])
def test_nothing_of_a_hostile_encoder_is_executed(model: str, folder: Path, tmp_path: Path) -> None:
    made = trained()
    networks = made.run
    if model == "bundle":
        networks = tmp_path / "bundle"
        assert run("export", made.run, "--out", networks, "--fold", "1F").exit_code == 0
    evil = tmp_path / "executed"
    code, pickled = (Path(shutil.copytree(made.backbone, tmp_path / name)) for name in ("code", "pickled"))
    (code / "evil.py").write_text(f"open({str(evil)!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((code / "config.json").read_text())
    (code / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "evil.Evil"}}))
    (pickled / "model.safetensors").unlink()
    torch.save({"x": Hostile(evil)}, pickled / "pytorch_model.bin")
    for encoder, said in ((code, "auto_map in config.json"), (pickled, "weights_sha256")):
        result = CliRunner().invoke(
            main,
            ["predict", str(networks), str(folder / "a.wav"), "--backbone", str(encoder)],
            input="y\ny\n",
        )
        assert result.exit_code == 1
        assert said in result.output
        assert "Traceback" not in result.output
        assert not evil.exists()


def test_training_recordings_are_recognised_in_another_container_and_by_name(tmp_path: Path) -> None:
    made = trained()
    rows = [u for u in read_manifest(made.manifest.path).utterances if u.speaker == "1F"][:2]
    for u in rows:
        samples, rate = soundfile.read(made.root / u.path, dtype="int16")
        copy = (tmp_path / u.path).with_suffix(".flac")
        copy.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(copy, samples, rate)
        soundfile.write(tmp_path / f"{u.utterance}.wav", samples // 2, rate)
    flac = [
        replace(u, utterance=f"x{u.utterance}", path=f"{Path(u.path).with_suffix('.flac')}") for u in rows
    ]
    write_manifest(tmp_path / "copy.csv", flac)
    places = ["--root", tmp_path, "--cache", tmp_path / "cache", "--backbone", made.backbone, "--threads", 1]
    invoke(cache_command, "features", tmp_path / "copy.csv", *places)
    result = run("evaluate", made.run, tmp_path / "copy.csv", "--cache", tmp_path / "cache")
    assert result.exit_code == 1
    assert "trained or selected on 2 of 2 utterances" in result.output
    quiet = predict(tmp_path / f"{rows[0].utterance}.wav", tmp_path / f"{rows[1].utterance}.wav")
    assert quiet.exit_code == 0
    assert "utterances that networks were trained or selected on: 2 of these 2 files (" in quiet.stderr


def test_evaluate_writes_scores_and_predictions_beside_the_run(tmp_path: Path) -> None:
    """A speaker whom the exported fold has never met stands for another corpus."""
    made = trained()
    assert run("export", made.run, "--out", tmp_path / "bundle", "--fold", "1F").exit_code == 0
    rows = [u for u in read_manifest(made.manifest.path).utterances if u.speaker == "1F"]
    write_manifest(tmp_path / "other.csv", rows)
    out = tmp_path / "scores.json"
    arguments = [
        tmp_path / "bundle",
        tmp_path / "other.csv",
        "--cache",
        made.cache,
        "--out",
        out,
        "--threads",
        1,
    ]
    result = run("evaluate", *arguments, "--map", f"{rows[0].emotion}=")
    assert result.exit_code == 0, result.output
    assert f"without a class of the networks: {rows[0].emotion}" in result.output
    value = json.loads(out.read_text())
    assert value["n_utterances"] == len([u for u in rows if u.emotion != rows[0].emotion])
    assert len(out.with_suffix(".csv").read_text().splitlines()) == 1 + value["n_utterances"]
    wrong = run("evaluate", *arguments[:4], "--out", tmp_path / "scores.csv")
    assert (wrong.exit_code, "write NAME.json" in wrong.output) == (2, True)
    heard = run("evaluate", made.run, made.manifest.path, "--cache", made.cache)
    assert (heard.exit_code, "selected on 20 of 20 utterances" in heard.output) == (1, True)
    assert not list(made.run.glob("evaluation-*"))


def test_the_defaults_are_those_of_stage_one() -> None:
    assert inference.BATCH_SIZE == BATCH_SIZE


def test_scores_of_another_corpus_of_the_same_name_are_not_replaced(tmp_path: Path) -> None:
    """The default file is named after the corpus, and two manifests may have one name."""
    path, scores = (
        tmp_path / "evaluation-other.json",
        {"label_set": "all", "map": {"a": "b"}, "data_digest": "1", "features_digest": "1"},
    )
    inference._refuse_other_scores(path, scores)
    path.write_text(json.dumps(scores))
    inference._refuse_other_scores(path, scores)
    for field, other in (("label_set", "four"), ("map", {}), ("data_digest", "2"), ("features_digest", "2")):
        with pytest.raises(MfhcaError, match=rf"holds scores with another {field}; remove it, or pass --out"):
            inference._refuse_other_scores(path, {**scores, field: other})
