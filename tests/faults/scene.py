"""A small world in a folder: the demo's speech, its encoder, a manifest, a grid; commands on it, and what came of them.

demo.csv, demo.toml, data/     eight utterances of four speakers, and an encoder that never learned anything
grid.toml                      an ablation with two networks, a copy of one, and a machine without network
cache/, runs/cv, runs/grid     what the commands make
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from faults.command import Finished, run
from mfhca_cache.build.verify import verify
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.store.shard import read_shard

GRID: Final = """
title = "Small"
[base]
recipe = { tail = "pad" }
ssl = "hubert"
[[row]]
name = "a"
reference = true
[[row]]
name = "b"
set = { "model.bilstm" = false }
[[row]]
name = "again"
title = "the same as a"
[[row]]
name = "svm"
kind = "svm"
set = { "model.inputs" = "ssl" }
"""
SETTINGS: Final = {
    "model.inputs": "ssl",
    "model.width": "8",
    "train.epochs": "2",
    "train.batch_size": "4",
    "train.lr": "3e-3",
}
SPEAKERS: Final = ("1F", "1M", "2F", "2M")
EMOTIONS: Final = ("anger", "sadness")
Digests = dict[str, str]  # what a command made, by name -> SHA-256 of what it says


@dataclass(frozen=True)
class Scene:
    """A folder with a small world in it."""

    folder: Path

    @property
    def cache(self) -> Path:
        """Its features."""
        return self.folder / "cache"

    @property
    def manifest(self) -> Path:
        """Its manifest."""
        return self.folder / "demo.csv"

    def copy(self, folder: Path) -> Scene:
        """The same in another folder, for a trial of its own."""
        shutil.copytree(self.folder, folder)
        return Scene(folder)

    def audio(self, number: int) -> Path:
        """The audio of the n-th utterance."""
        return self.folder / "data" / read_manifest(self.manifest).utterances[number].path

    def do(self, name: str) -> Finished:
        """Runs one of COMMANDS to its end."""
        return run(COMMANDS[name], self.folder)

    def done(self, name: str) -> Scene:
        """The same after a command, which must succeed.

        Raises:
            RuntimeError: it did not.
        """
        finished = self.do(name)
        if finished.code:
            raise RuntimeError(f"{name}: {finished.output}")
        return self


def _settings() -> list[str]:
    return [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]


def _commands() -> dict[str, list[str]]:
    corpus = ["demo.csv", "--cache", "cache"]
    options = [*_settings(), "--device", "cpu", "--root", "data"]
    cv = ["mfhca-train", "cv", *corpus, "--out", "runs/cv", *options]
    grid = ["mfhca-train", "ablate", "grid.toml", *corpus, "--out", "runs/grid", "--seeds", "1", *options]
    audio = ["data/wav", "--backbone", "data/hubert-demo", "--threads", "1", "--format", "csv"]
    stage_one = ["--root", "data", "--backbone", "data/hubert-demo", "--jobs", "1"]
    return {
        "features": ["mfhca-cache", "features", *corpus, *stage_one, "--threads", "1"],
        "status": ["mfhca-cache", "status", *corpus, *stage_one],
        "verify": ["mfhca-cache", "verify", "--cache", "cache", "--jobs", "1"],
        "cv": [*cv, "--jobs", "1"],
        "cv, two jobs": [*cv, "--jobs", "2"],
        "ablate": [*grid, "--jobs", "1"],
        "report": ["mfhca-train", "report", "runs/cv"],
        "report of ablate": ["mfhca-train", "report", "runs/grid"],
        "rescore": ["mfhca-train", "rescore", "runs/cv"],
        "predict": ["mfhca-train", "predict", "runs/cv", *audio],
    }


COMMANDS: Final = _commands()
NEEDS: Final = {  # command -> what has to be there before it
    "features": (),
    "cv": ("features",),
    "cv, two jobs": ("features",),
    "ablate": ("features",),
    "report": ("features", "cv"),
    "report of ablate": ("features", "ablate"),
}


def make(folder: Path) -> Scene:
    """The world before any command: shortest utterances of the demo, one of each emotion and speaker."""
    folder.mkdir(parents=True)
    made = run(["mfhca-cache", "manifest", "demo", "--root", "data", "--out", "demo.csv"], folder)
    if made.code:
        raise RuntimeError(made.output)
    found = sorted(read_manifest(folder / "demo.csv").utterances, key=lambda u: u.samples or 0)
    kept = {
        (u.speaker, u.emotion): u for u in reversed(found) if u.speaker in SPEAKERS and u.emotion in EMOTIONS
    }
    rows = sorted(kept.values(), key=lambda u: u.utterance)
    write_manifest(folder / "demo.csv", rows)
    spare = {"spare.wav": next(u for u in found if u not in rows and u.speaker in SPEAKERS)}
    for name, u in spare.items():  # other audio, for who edits
        shutil.copyfile(folder / "data" / u.path, folder / name)
    names = {Path(u.path).name for u in rows}
    for path in (folder / "data" / "wav").iterdir():
        if path.name not in names:
            path.unlink()
    (folder / "grid.toml").write_text(GRID)
    return Scene(folder)


def shards(scene: Scene) -> Digests:
    """The digest of every shard, by the folder's and its own name.

    Raises:
        MfhcaError: one is damaged.
    """
    if not scene.cache.exists():
        return {}
    _, problems = verify(scene.cache)
    if problems:
        raise MfhcaError(problems[0])
    found = sorted(scene.cache.glob("*/*.h5"))
    return {f"{path.parent.name}/{path.name}": read_shard(path).digest for path in found}


def files(folder: Path) -> Digests:
    """The SHA-256 of every visible file of a run but its log, the one place for times."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path != folder / "log.txt"
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def debris(folder: Path) -> Iterator[str]:
    """What a command that has ended well should not have left: all that is hidden but locks."""
    for path in sorted(folder.rglob(".*")):
        if not (path.name.endswith(".lock") and path.stat().st_size == 0):
            yield path.relative_to(folder).as_posix()


def outcome(scene: Scene, name: str) -> Digests:
    """What there is after a command: digests of shards for `features`, of the run's files for the others."""
    return shards(scene) if name == "features" else files(place(scene, name))


def place(scene: Scene, name: str) -> Path:
    """The folder that a command works in."""
    if name == "features":
        return scene.cache
    return scene.folder / ("runs/grid" if "ablate" in name else "runs/cv")


def difference(found: Digests, expected: Digests) -> str | None:
    """In which names two outcomes differ; None where they do not."""
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    kinds = [
        f"{n} ({'missing' if n not in found else 'unexpected' if n not in expected else 'other'})"
        for n in names
    ]
    return ", ".join(kinds[:6]) or None
