"""A new user's path: from the built packages to a prediction, without the repository.

`make acceptance` runs this; `make test` does not, because it downloads and installs
everything again. The commands are the installed console scripts, run in another folder
with another HOME. The steps depend on each other.
"""

from __future__ import annotations

import csv
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import time
import venv
import wave
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from places import REPOSITORY

SECONDS_A_STEP = 1800  # on a busy machine; on two idle cores all steps together take minutes
# The only variables of our shell that the user has: how to reach the package index.
KEPT = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
SPEAKERS = (
    "03",
    "08",
    "09",
    "10",
    "11",
)  # what the stranger tries first: a part of the corpus, four classes, two epochs


def cpu_seconds() -> float:
    """CPU seconds of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Stranger:
    """A user with a copy of EmoDB, an encoder and an empty environment.

    Attributes:
        home: the working folder of the commands; also HOME.
        corpus: the copy of EmoDB.
        backbone: the encoder's folder.
        scripts: the environment's bin.
        archives: the folder of the wheel and the source archive.
    """

    home: Path
    corpus: Path
    backbone: Path
    scripts: Path
    archives: Path

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs a console script of the environment and prints its output."""
        program, *arguments = map(str, command)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"HOME": str(self.home), "HF_HUB_OFFLINE": "1"}
        started, used = time.monotonic(), cpu_seconds()
        done = subprocess.run(
            [self.scripts / program, *arguments],
            cwd=self.home,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS_A_STEP,
        )
        print(f"$ {program} {' '.join(arguments)}\n{done.stdout}{done.stderr}", end="")
        elapsed, computing = time.monotonic() - started, cpu_seconds() - used
        print(f"[exit code {done.returncode}, {elapsed:.1f} s, {computing:.1f} s of CPU time]")
        assert "Traceback" not in done.stderr
        return done

    def succeed(self, *command: str | Path) -> str:
        """`run` with exit code 0; returns the standard output."""
        done = self.run(*command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fail(self, *command: str | Path) -> str:
        """`run` with exit code 1 (a foreseen failure); returns the output."""
        done = self.run(*command)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stdout + done.stderr

    def first_prediction(self) -> list[dict[str, Any]]:
        """The predictions of the run."""
        predictions: list[dict[str, Any]] = json.loads((self.home / "first.json").read_text())["predictions"]
        return predictions

    @property
    def features(self) -> tuple[str | Path, ...]:
        return (
            *("mfhca-cache", "features", "five.csv", "--root", self.corpus, "--cache", "cache"),
            *("--backbone", self.backbone, "--label-set", "four"),
        )

    @property
    def cv(self) -> tuple[str | Path, ...]:
        return (
            *("mfhca-train", "cv", "five.csv", "--cache", "cache", "--out", "run"),
            *("--label-set", "four", "--set", "train.epochs=2"),
        )


@pytest.fixture(scope="module")
def stranger(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    folder = tmp_path_factory.mktemp("stranger")
    home = folder / "home of a stranger"  # spaces, as many homes have
    home.mkdir()
    corpus = home / "Berlin (copy 2)"
    shutil.copytree(shared / "data/emodb", corpus)
    backbone = home / "models" / "small-hubert"
    shutil.copytree(shared / "backbones/hubert-nano", backbone)
    for writable in (corpus, corpus / "wav", backbone):
        writable.chmod(0o755)
    for file in corpus.glob("wav/*"):
        file.chmod(0o644)
    return Stranger(home, corpus, backbone, folder / "venv/bin", folder / "dist")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sound(path: Path, channels: int = 1) -> bytes:
    """The bytes of a 16-bit WAV file, its channel repeated `channels` times."""
    with wave.open(str(path), "rb") as file:
        rate, data = file.getframerate(), file.readframes(file.getnframes())
    frames = [data[i : i + 2] * channels for i in range(0, len(data), 2)]
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(frames))
    return made.getvalue()


def test_the_archives_build_and_say_the_same(stranger: Stranger) -> None:
    """From a copy of the source tree that also has generated files."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True
    )
    if listed.returncode:  # an unpacked source archive: take all of it
        names = [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.rglob("*") if path.is_file()]
    else:
        names = [name for name in listed.stdout.splitlines() if (REPOSITORY / name).is_file()]
    tree = stranger.archives.parent / "tree"
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tree / name)
    for litter in ("manifests/mine.csv", "runs/mine/run.json", "cache/x.h5", "site/index.html", "data/a.wav"):
        (tree / litter).parent.mkdir(parents=True, exist_ok=True)
        (tree / litter).write_text("litter")
    python = [sys.executable, "-m", "build"]
    subprocess.run([*python, "--outdir", stranger.archives, tree], check=True)  # the wheel from the archive
    direct = stranger.archives.parent / "direct"
    subprocess.run([*python, "--wheel", "--outdir", direct, tree], check=True)

    (wheel,), (source,) = stranger.archives.glob("*.whl"), stranger.archives.glob("*.tar.gz")
    (other,) = direct.glob("*.whl")
    assert wheel.name == other.name
    packed = contents(wheel)
    assert packed == contents(other)
    with tarfile.open(source) as archive:
        stored = archive.getnames()
    assert not [
        name for name in [*packed, *stored] if name.endswith(("mine.csv", "mine/run.json", ".h5", ".wav"))
    ]
    assert {"mfhca_cache/py.typed", "mfhca_train/py.typed", "mfhca_cache/manifests/emodb.toml"} <= set(packed)
    assert {name.split("/")[0] for name in packed if "dist-info" not in name} == {
        "mfhca_cache",
        "mfhca_train",
    }
    for name in ("README.md", "Makefile", "constraints.txt", "tests/test_imports.py", "docs/index.md"):
        assert f"{source.name.removesuffix('.tar.gz')}/{name}" in stored


def test_the_wheel_installs_into_an_empty_environment(stranger: Stranger) -> None:
    venv.create(stranger.scripts.parent, with_pip=True)
    (wheel,) = stranger.archives.glob("*.whl")
    install = ["-m", "pip", "install", "--quiet", "--constraint", REPOSITORY / "constraints.txt", wheel]
    subprocess.run([stranger.scripts / "python", *install], check=True, cwd=stranger.home)
    subprocess.run([stranger.scripts / "python", "-m", "pip", "check"], check=True, cwd=stranger.home)
    where = stranger.succeed("python", "-c", "import mfhca_cache, mfhca_train; print(mfhca_train.__file__)")
    assert Path(where.strip()).is_relative_to(stranger.scripts.parent)
    for command in ("mfhca-cache", "mfhca-train"):
        assert "0." in stranger.succeed(command, "--version")


def test_the_manifest_says_what_it_ignores_and_what_keeps_it_from_going_on(stranger: Stranger) -> None:
    folder = stranger.corpus / "wav"
    (folder / ".DS_Store").write_bytes(b"\0" * 100)
    (folder / "._03a01Fa.wav").write_bytes(b"\0\5\26\7")
    (folder / "read me.txt").write_text("The corpus of the second floor.")
    (folder / "3a01Fa.wav").write_bytes((folder / "03a01Fa.wav").read_bytes())
    whole = (folder / "03a01Nc.wav").read_bytes()
    (folder / "03a01Nc.wav").write_bytes(whole[:30])

    said = stranger.fail("mfhca-cache", "manifest", "emodb", "--root", stranger.corpus, "--out", "emodb.csv")
    assert "03a01Nc" in said
    assert "534 found, 535 expected" in said
    assert "--allow-partial" in said
    assert not (stranger.home / "emodb.csv").exists()

    (folder / "03a01Nc.wav").write_bytes(whole)
    said = stranger.succeed(
        "mfhca-cache", "manifest", "emodb", "--root", stranger.corpus, "--out", "emodb.csv"
    )
    assert "535 utterances of 10 speakers" in said
    assert "535 files used, 4 ignored" in said
    for ignored in (
        "2 hidden",
        "named almost like 03a01Fa: wav/3a01Fa.wav",
        "not .wav: wav/read me.txt",
    ):
        assert ignored in said
    with open(stranger.home / "emodb.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 535


def test_features_name_a_file_cut_short_and_go_on_when_it_is_whole(stranger: Stranger) -> None:
    with open(stranger.home / "emodb.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    with open(stranger.home / "five.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row[2] in SPEAKERS)])
    shutil.copy(stranger.home / "emodb.toml", stranger.home / "five.toml")

    audio = stranger.corpus / "wav/11b10Wa.wav"
    whole = audio.read_bytes()
    audio.write_bytes(whole[: len(whole) // 2])
    said = stranger.fail(*stranger.features)
    assert "1 of 167 utterances failed" in said
    assert "11b10Wa.wav: cut short" in said
    assert "11b10Wa" in stranger.fail(*stranger.cv)
    audio.write_bytes(whole)
    assert "computed 1 utterance" in stranger.succeed(*stranger.features)
    assert "nothing to compute" in stranger.succeed(*stranger.features)


def test_cv_trains_every_fold_and_reports(stranger: Stranger) -> None:
    said = stranger.succeed(*stranger.cv)
    assert "protocol strict: 167 utterances" in said
    results = json.loads((stranger.home / "run/results.json").read_text())
    assert results["complete"]
    assert 0 <= results["wa"]["mean"] <= 1
    (stranger.home / "run/report.html").unlink()
    assert "report.html" in stranger.succeed("mfhca-train", "report", "run")
    assert "emodb" in (stranger.home / "run/report.html").read_text()


@pytest.fixture(scope="module")
def can_predict(stranger: Stranger) -> None:
    commands = stranger.succeed("mfhca-train", "--help")
    missing = [name for name in ("predict", "export") if f"  {name} " not in commands]
    if missing:
        pytest.skip(f"this version has no mfhca-train {' and '.join(missing)}")


@pytest.mark.usefixtures("can_predict")
def test_predict_judges_a_new_recording_with_the_run(stranger: Stranger) -> None:
    """In stereo, of a speaker and an emotion (boredom) that no network has seen."""
    new = stranger.home / "new recording.wav"
    new.write_bytes(sound(min(stranger.corpus.glob("wav/16*L?.wav")), channels=2))
    predict = ("mfhca-train", "predict", "run", new.name, "--json", "--backbone", stranger.backbone)
    (stranger.home / "first.json").write_text(stranger.succeed(*predict))
    (prediction,) = stranger.first_prediction()
    probabilities = prediction["probabilities"]
    assert set(probabilities) == {"anger", "happiness", "neutral", "sadness"}
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert prediction["emotion"] == max(probabilities, key=probabilities.get)


@pytest.mark.usefixtures("can_predict")
def test_the_bundle_judges_alike_when_run_cache_and_corpus_are_gone(stranger: Stranger) -> None:
    """The encoder is kept: a bundle has the trained networks and the digest of the encoder."""
    stranger.succeed("mfhca-train", "export", "run", "--out", "bundle")
    gone = stranger.archives.parent / "gone"
    gone.mkdir()
    for name in ("run", "cache", "emodb.csv", "emodb.toml", "five.csv", "five.toml", stranger.corpus.name):
        (stranger.home / name).rename(gone / name)
    predict = ("mfhca-train", "predict", "bundle", "new recording.wav", "--json")
    assert "--backbone" in stranger.fail(*predict)
    said = stranger.succeed(*predict, "--backbone", stranger.backbone)
    assert json.loads(said)["predictions"] == stranger.first_prediction()
