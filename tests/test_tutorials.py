"""The pages of docs/ that lead a reader through several steps, followed step by step."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_factory import request, write_features
from corpus_factory import utterances as small_utterances
from pages import block, blocks, commands_in, make, python, run, shell
from places import REPOSITORY
from voice_factory import trained

from mfhca_cache.manifest.manifest import read_manifest, write_manifest

TINY = ("train.epochs=1", "train.patience=1", "model.grf_channels=4", "model.width=16")
QUICK = tuple(part for setting in TINY for part in ("--set", setting))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with data/mine, one folder per emotion and four speakers, and a tiny encoder by HuBERT's name."""
    rng = np.random.default_rng(0)
    for label in ("happy", "sad"):
        folder = tmp_path / "data/mine" / label
        folder.mkdir(parents=True)
        for speaker in ("anna", "ben", "carla", "dora"):
            for number in (1, 2):
                noise = rng.normal(0, 0.1, 8000)
                soundfile.write(folder / f"{speaker}_{number:02}.wav", noise, 16000, "PCM_16")
    soundfile.write(tmp_path / "new.wav", rng.normal(0, 0.1, 60000), 16000, "PCM_16")
    (tmp_path / "facebook").mkdir()
    (tmp_path / "facebook/hubert-base-ls960").symlink_to(trained().backbone)
    return tmp_path


def test_the_tutorial_from_recordings_to_a_latex_table(recordings: Path) -> None:
    def run_block(name: str, exit_code: int = 0) -> str:
        return shell(recordings, block("tutorial.md", "shell", name), QUICK, exit_code)

    run_block("manifest")
    manifest = read_manifest(recordings / "mine.csv")
    assert {u.speaker for u in manifest.utterances} == {"anna", "ben", "carla", "dora"}
    assert "missing" in run_block("doctor", exit_code=1)
    assert "computed 16 utterances" in run_block("features")
    assert "anna" in run_block("first")
    (recordings / "mine-grid.toml").write_text(block("tutorial.md", "grid", "mine-grid.toml"))
    run_block("ablate")
    run_block("table")
    printed = (recordings / "runs/mine/scores.tex").read_text()
    rows = [line for line in printed.splitlines() if line.startswith(r"\raggedright ") and r"\pm" in line]
    assert [row.split(" & ")[0].removeprefix(r"\raggedright ") for row in rows] == [
        "MFHCA (reference)",
        "HuBERT alone",
        "linear SVM",
        "most frequent class",
    ]
    assert (recordings / "figures/forest-ua.pdf").read_bytes().startswith(b"%PDF")
    assert "new.wav" in run_block("predict")
    assert (recordings / "mine-networks/networks.safetensors").is_file()


def test_your_own_corpus_from_recordings_to_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's manifest, card and commands, on eight seconds of noise."""
    rng = np.random.default_rng(0)
    for speaker in ("anna", "ben", "carla", "dora"):
        folder = tmp_path / "data/mine" / speaker
        folder.mkdir(parents=True)
        for number, label in enumerate(("happy", "excited", "sad", "bored"), start=1):
            with wave.open(str(folder / f"{number:03}_{label}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(rng.integers(-9000, 9000, 8000, np.int16).tobytes())
    python(tmp_path, block("your-corpus.md", "test", "manifest"), capsys)
    assert len(read_manifest(tmp_path / "mine.csv").utterances) == 16
    said = shell(tmp_path, block("your-corpus.md", "shell", "features"))
    assert "computed 16 utterances" in said
    (tmp_path / "mine.toml").write_text(block("your-corpus.md", "file", "mine.toml"))
    said = shell(tmp_path, block("your-corpus.md", "shell", "cv"))
    assert "16 utterances" in said
    assert "8 utterances" in said


def test_a_new_ablation_runs_and_goes_on(tmp_path: Path) -> None:
    rows = small_utterances()
    (tmp_path / "manifests").mkdir()
    write_manifest(tmp_path / "manifests/demo.csv", rows)
    shutil.copy(REPOSITORY / "manifests/demo.toml", tmp_path / "manifests")
    (tmp_path / "manifests/demo.toml").write_text(
        (tmp_path / "manifests/demo.toml")
        .read_text()
        .replace("happiness", "joy")
        .replace("sadness", "sorrow")
    )
    write_features(tmp_path / "cache/demo", rows)
    (tmp_path / "padding.toml").write_text(block("new-ablation.md", "grid", "padding.toml"))
    said = shell(tmp_path, block("new-ablation.md", "shell", "ablate"))
    for title in ("padding kept out", "the most frequent class", "sign-flip test"):
        assert title in said
    again = shell(tmp_path, block("new-ablation.md", "shell", "one"))
    assert "padding kept out" in again


def apply(edit: str, file: Path) -> None:
    """Applies one hunk without line numbers; its old lines must stand in the file exactly once."""
    lines = edit.splitlines()
    old = "\n".join(line[1:] for line in lines if not line.startswith("+"))
    new = "\n".join(line[1:] for line in lines if not line.startswith("-"))
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name}: the tutorial's edit no longer fits:\n{old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_a_new_fusion_module_followed_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits, the tutorial's own test, a formatter's and linter's view of it, and one epoch of a fold."""
    monkeypatch.setenv("MFHCA_PLAIN", "1")  # a copy of the source would compile its fast loops again
    for package in ("mfhca_cache", "mfhca_train", "manifests"):
        shutil.copytree(
            REPOSITORY / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    for what, name, text in blocks("new-fusion.md"):
        if what == "edit":
            apply(text, tmp_path / name)
        elif what in ("file", "grid"):
            (tmp_path / name).write_text(text)
    for command in (["check"], ["format", "--check"]):
        run([sys.executable, "-m", "ruff", *command, "mfhca_train", "tests"], tmp_path, source=tmp_path)
    request(tmp_path)
    (tmp_path / "corpus.csv").rename(tmp_path / "manifests/demo.csv")
    (tmp_path / "cache").rename(tmp_path / "demo")
    (tmp_path / "cache").mkdir()
    (tmp_path / "demo").rename(tmp_path / "cache/demo")
    (tmp_path / "manifests/demo.toml").unlink()  # the stand-in has other classes
    (tmp_path / "data/demo/hubert-demo").mkdir(parents=True)
    (tmp_path / "data/demo/hubert-demo/config.json").touch()
    test, cv, ablate = commands_in("docs/new-fusion.md")
    cv = make(tmp_path, cv).splitlines()[-1].replace("'--root' 'data/demo' ", "")  # there is no audio
    script = (
        "import pytest; from mfhca_train.cli.main import main\n"
        f"assert pytest.main(['-p', 'no:cacheprovider', *{shlex.split(test)[3:]}]) == 0\n"
    )
    for command in (cv, ablate):
        arguments = [*shlex.split(command)[1:], *QUICK, "--jobs", "1", "--fold", "s0", "--no-analysis"]
        script += f"assert not main({arguments}, standalone_mode=False)\n"
    said = run([sys.executable, "-c", script], tmp_path, source=tmp_path)
    assert "3 passed" in said
    assert "runs/demo-gated/report.html" in said
    assert "co-attention" in said
    about = json.loads((tmp_path / "runs/demo-gated/run.json").read_text())
    assert about["config"]["model"]["fusion"] == "gated"


def test_examples_of_predicting_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's names stand for a small run of the demo; its first speaker stands for speaker 03."""
    made = trained()
    for name, target in {"runs/emodb": made.run, "facebook/hubert-base-ls960": made.backbone}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(target)
    speaker = made.manifest.utterances[0].speaker
    samples, rate = soundfile.read(made.audio(speaker)[0])
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, samples, rate)
    printed = python(tmp_path, block("predict.md", "test", "predict"), capsys).splitlines()
    assert [line.split()[0] for line in printed] == ["a.wav", "b.flac"]
    assert all(f"'{name}': " in printed[0] for name in made.manifest.label_set().classes)
    text = block("predict.md", "test", "speaker")
    assert 'speaker="03"' in text
    assert python(tmp_path, text.replace('"03"', f'"{speaker}"'), capsys).startswith("1 {")


def test_an_official_split_as_the_page_has_it(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(block("official-splits.md", "file", "mine.csv"))
    rows = read_manifest(tmp_path / "mine.csv").utterances
    write_features(tmp_path / "cache", list(rows))
    said = shell(tmp_path, block("official-splits.md", "shell", "cv"), QUICK)
    assert re.search(r"protocol column: 2 utterances.*\n.*\ntest +0 .* s1\n", said)
    assert "KNOWN SPEAKERS" not in said
    other = {"s0_0": "train", "s1_0": "train", "s1_1": "train"}  # s0 is trained on and tested
    write_manifest(tmp_path / "shared.csv", [replace(u, fold=other.get(u.utterance, u.fold)) for u in rows])
    command = block("official-splits.md", "shell", "shared")
    refused = shell(tmp_path, command.replace(" --set train.shared_speakers=true", ""), QUICK, exit_code=1)
    assert "s0: utterances in test 1, train 1" in refused
    assert "KNOWN SPEAKERS" in shell(tmp_path, command, QUICK)
    results = json.loads((tmp_path / "runs/mine-shared/results.json").read_text())
    assert results["shared_speakers"]
    assert (results["n_utterances"], results["oracle"]) == (1, False)
    assert "Known speakers" in (tmp_path / "runs/mine-shared/report.html").read_text()


def test_several_corpora_as_the_page_has_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {
        "emodb": "WFNT",
        "emovo": ("rab", "gio", "neu", "tri"),
        "mine": ("anger", "happy", "neutral", "sad"),
    }
    (tmp_path / "cache").mkdir()
    for corpus, names in labels.items():
        rows = small_utterances(speakers=3, each=4)
        rows = [
            replace(u, emotion=names[k % 4], utterance=f"{corpus}-{u.utterance}") for k, u in enumerate(rows)
        ]
        if corpus == "mine":
            rows.append(replace(rows[0], utterance="mine-0", path="0.wav", emotion="surprised"))
        write_manifest(tmp_path / f"{corpus}.csv", rows)
        write_features(tmp_path / "cache" / corpus, rows)
    (tmp_path / "classes.toml").write_text(block("several-corpora.md", "file", "classes.toml"))
    said = shell(tmp_path, block("several-corpora.md", "shell", "cv"), (*QUICK, "--no-analysis"))
    assert re.search(r"(?m)^emovo .* emodb/s0, emodb/s1, mine/s0, mine/s1", said)
    assert "TRANSDUCTIVE" in said
    results = json.loads((tmp_path / "runs/three/results.json").read_text())
    assert results["classes"] == ["anger", "happiness", "neutral", "sadness"]
    assert results["n_utterances"] == 36
    repeated = (tmp_path / "runs/three/report.md").read_text()
    assert "--label-set emodb=four,emovo=four,mine=all" in repeated
    assert "--map mine/happy=happiness --map mine/sad=sadness --map mine/surprised=" in repeated
    quick = [setting.split("=") for setting in TINY]
    text = block("several-corpora.md", "test", "python").replace(
        '"runs/by-speaker",',
        f'"runs/by-speaker", folds="mine/s1", jobs=1, analysis=False, settings={dict(quick)},',
    )
    printed = python(tmp_path, text, capsys)
    assert [line.split()[:2] for line in printed.splitlines()] == [["mine", "4"]]


def test_the_page_on_training_runs(tmp_path: Path) -> None:
    made = trained()
    (tmp_path / "1F").mkdir()
    for path in made.audio("1F"):
        (tmp_path / "1F" / path.name).symlink_to(path)
    links = {
        "my.csv": made.manifest.path,
        "cache/mine": made.cache,
        "models/hubert": made.backbone,
        "recordings/of-one-speaker": tmp_path / "1F",
    }
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(target)
    (tmp_path / "baselines.toml").write_text(block("training.md", "grid", "baselines.toml"))
    quick = ("--set", "model.grf_channels=4,4", "--set", "model.width=16", "--fold", "1F", "--no-analysis")
    printed = {
        name: shell(tmp_path, text, (*quick, *(("--set", "train.epochs=2") if name != "preset" else ())))
        for what, name, text in blocks("training.md")
        if what == "shell"
    }
    assert "statistics" in printed["preset"]
    assert "transductive" in printed["speaker"]
    assert "1 network of 1 fold" in printed["speaker"]
    assert "logistic regression, all other speakers" in printed["baselines"]
    config = json.loads((tmp_path / "runs/options/run.json").read_text())["config"]["train"]
    assert (config["sampling"], config["label_smoothing"], config["ssl_time_mask"]) == ("class", 0.1, 0.2)
