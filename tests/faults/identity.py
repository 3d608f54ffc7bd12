"""Trials in which something else could be mistaken for the right features: other audio, other corpora, old formats."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from faults.command import run
from faults.edits import _again, _refusal
from faults.scene import COMMANDS, difference, outcome
from faults.trial import Outcome, Trial
from faults.world import World
from mfhca_cache.manifest.manifest import read_manifest, write_manifest


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """Trials by the name of the fault."""
    return [Trial(fault, n, FAULTS[fault][1]) for fault in FAULTS for n in range(counts.get(fault, 0))]


def _swapped_paths(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    text, rows = scene.manifest.read_text(), list(read_manifest(scene.manifest).utterances)
    speaker = chance.choice(sorted({row.speaker for row in rows}))
    first, second = (row for row in rows if row.speaker == speaker)
    paths = {first.utterance: second.path, second.utterance: first.path}
    write_manifest(scene.manifest, [replace(row, path=paths.get(row.utterance, row.path)) for row in rows])
    _refusal(found, scene.do("cv"), "computed from other files", first.utterance, second.utterance)
    if "2 stale" not in (told := scene.do("status").output):
        found.lose(f"status does not report it: {told}")
    scene.manifest.write_text(text)
    _again(found, scene, world, "features", "cv")
    return found


def _other_corpus(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    shutil.copytree(scene.folder / "data", scene.folder / "denoised")
    shutil.copy(scene.manifest, scene.folder / "denoised.csv")
    other = chance.choice(read_manifest(scene.manifest).utterances)
    shutil.copy(scene.folder / "spare.wav", scene.folder / "denoised" / other.path)
    command = [*COMMANDS["features"]]
    command[command.index("demo.csv")] = "denoised.csv"
    command[command.index("data")] = "denoised"
    _refusal(found, run(command, scene.folder), "demo.csv uses them", other.utterance, "--replace")
    found.lose(difference(outcome(scene, "features"), world.expected("features")))
    _again(found, scene, world, "features", "cv")
    return found


def _unmounted(world: World, folder: Path, _: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    away = scene.folder / "demo.away"
    scene.manifest.rename(away)
    pruned = run(["mfhca-cache", "prune", "--cache", "cache", "--yes"], scene.folder)
    if pruned.code or "nothing to remove" not in pruned.output:
        found.lose(f"prune: {pruned.output[-300:]}")
    away.rename(scene.manifest)
    found.lose(difference(outcome(scene, "features"), world.expected("features")))
    _again(found, scene, world, "features", "cv")
    return found


def _older_format(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    path = chance.choice(sorted(scene.cache.glob("*/*.h5")))
    path.write_bytes(path.read_bytes().replace(b"mfhca-shard 2", b"mfhca-shard 1", 1))
    if "has shard format version 1" not in (told := scene.do("status").output):
        found.lose(f"status does not report it: {told}")
    if path.parent.name.startswith("ssl"):  # the kind that `cv` reads here
        _refusal(found, scene.do("cv"), "has shard format version 1")
    _again(found, scene, world, "features", "cv")
    return found


FAULTS: Final = {
    "paths of two utterances swapped in the manifest": (
        "`status` and `cv` name them; the old manifest gives the old results",
        _swapped_paths,
    ),
    "a second corpus with the same ids in one cache": (
        "`features` refuses and names the utterances and the other manifest; nothing is replaced",
        _other_corpus,
    ),
    "`prune --yes` while the manifests are out of reach": ("everything is kept", _unmounted),
    "a shard of an older format": ("`status` and `cv` say so, `features` computes it again", _older_format),
}
PROMISES: Final = {fault: promise for fault, (promise, _) in FAULTS.items()}
