"""One flipped bit, anywhere in a shard or in a run folder; the file's times stay, as on a failing disk."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from faults.command import Kill, run
from faults.scene import COMMANDS, Digests, Scene, difference, files, outcome
from faults.trial import Action, Outcome, Trial
from faults.world import World
from mfhca_cache.store import schema

SHARD_PROMISE: Final = (
    "`verify` names the shard, `cv` refuses before training, and `features` computes a deleted shard again"
)
RUN_PROMISE: Final = (
    "`report`, `rescore`, `predict` and `cv` print and write the same as before, or refuse in one line"
)
REGIONS: Final = {
    "a flipped bit in a shard's head": ("seal", "padding"),
    "a flipped bit in its HDF5 structure and attributes": ("structure",),
    "a flipped bit in its features": ("features",),
    "a flipped bit in its ids and digests of audio": ("ids",),
    "a flipped bit in its moments and tables": ("tables",),
}
UNIT_FILES: Final = (
    "result.json",
    "predictions.csv",
    "segments.csv",
    "history.csv",
    "best.safetensors",
    "inputs.safetensors",
)
RUN_FILES: Final = ("run.json", "results.json", "data.csv", "model/analysis.safetensors", "report.html")
FILES: Final = {
    "a flipped bit in a run's own files": RUN_FILES,
    "a flipped bit in a unit's files": UNIT_FILES,
}
CHECKPOINT_FAULT: Final = "a flipped bit in a checkpoint, then `cv` resumes"
PROMISES: Final = {
    **dict.fromkeys(REGIONS, SHARD_PROMISE),
    **dict.fromkeys(FILES, RUN_PROMISE),
    CHECKPOINT_FAULT: "`cv` ends with the bytes of an undisturbed run, or refuses in one line",
}
FAMILIES: Final = {
    **dict.fromkeys(REGIONS, "a flipped bit anywhere in a shard: head, structure, features, ids, moments"),
    **dict.fromkeys(FILES, "a flipped bit in any file of a finished run"),
}


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """Trials by the name of the fault."""
    found = []
    for fault, regions in REGIONS.items():
        found += [Trial(fault, n, _shard(regions[n % len(regions)], n)) for n in range(counts.get(fault, 0))]
    for fault, names in FILES.items():
        found += [Trial(fault, n, _run_file(names[n % len(names)])) for n in range(counts.get(fault, 0))]
    return found + [Trial(CHECKPOINT_FAULT, n, _checkpoint) for n in range(counts.get(CHECKPOINT_FAULT, 0))]


def flip(path: Path, offset: int, bit: int) -> None:
    """Flips one bit of a file in place; its times stay."""
    times = path.stat()
    with open(path, "r+b", buffering=0) as file:
        file.seek(offset)
        value = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([value ^ (1 << bit)]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip_anywhere(path: Path, chance: random.Random) -> str:
    """Flips a random bit of a file; where, for the message."""
    offset, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
    flip(path, offset, bit)
    return f"{path.name}, byte {offset}, bit {bit}"


def regions(path: Path) -> dict[str, list[tuple[int, int]]]:
    """Every byte of a shard by what it is of, as spans from one offset up to another."""
    import h5py

    block = path.read_bytes()[: schema.USER_BLOCK]
    text = len(block.rstrip(b"\0"))
    with h5py.File(path, "r") as file:

        def span(name: str) -> tuple[int, int]:
            offset = file[name].id.get_offset()
            return offset, offset + file[name].id.get_storage_size()

        found = {
            "seal": [(0, text)],
            "padding": [(text, schema.USER_BLOCK)],
            "features": [span(schema.FEATURES)],
            "ids": [span(schema.UTTERANCE_IDS), span(schema.AUDIO_SHA256)],
            "tables": [span(name) for name in schema.TABLES],
        }
    taken = sorted(piece for pieces in found.values() for piece in pieces)
    return {**found, "structure": list(_between(taken, path.stat().st_size))}


def _between(taken: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """What of a file of `size` bytes is in none of the spans."""
    last = 0
    for start, end in [*taken, (size, size)]:
        if start > last:
            yield last, start
        last = max(last, end)


def _shard(region: str, number: int) -> Action:
    def action(world: World, folder: Path, chance: random.Random) -> Outcome:
        scene, found = world.before("cv").copy(folder), Outcome(tried=1)
        # `cv` reads the hidden states here; the spectrograms are looked at by `verify` alone.
        read = number % 4 != 3
        path = chance.choice(sorted(scene.cache.glob("ssl-*/*.h5" if read else "logspec-*/*.h5")))
        pieces = regions(path)[region]
        start, end = chance.choices(pieces, [end - start for start, end in pieces])[0]
        offset = chance.randrange(start, end)
        flip(path, offset, chance.randrange(8))
        where = f"{region}, byte {offset} of {path.parent.name}/{path.name}"
        verified = scene.do("verify")
        if not (verified.refused and str(path.relative_to(folder)) in verified.output):
            found.lose(f"{where}: verify did not find it: {verified.output[-300:]}")
        found.refusals += 1
        if read:
            trained = scene.do("cv")
            found.refusals += trained.refused
            if not (trained.refused and path.name in trained.output):
                found.lose(f"{where}: cv did not refuse: {trained.output[-300:]}")
            if list((scene.folder / "runs").rglob("fold-*")):
                found.lose(f"{where}: cv began to train")
        path.unlink()  # as the message says
        scene.done("features")
        found.lose(difference(outcome(scene, "features"), world.expected("features")))
        return found

    return action


def _figures(scene: Scene) -> Digests:
    """What a reader of a run sees."""
    shown = ("results.json", "report.html", "report.md")
    return {name: digest for name, digest in files(scene.folder / "runs/cv").items() if name in shown}


def _run_file(name: str) -> Action:
    def action(world: World, folder: Path, chance: random.Random) -> Outcome:
        scene, found = world.after("cv").copy(folder), Outcome(tried=1)
        path = scene.folder / "runs/cv" / name
        if name in UNIT_FILES:
            path = chance.choice(sorted(scene.folder.glob(f"runs/cv/model/seed-0/fold-*/{name}")))
        shown = _figures(scene)
        where = flip_anywhere(path, chance)
        for command in ("report", "rescore", "predict", "cv"):
            again = scene.do(command)
            if again.refused:
                found.refusals += 1
            elif again.code:
                found.lose(f"{where}: {command}: exit code {again.code}: {again.output[-300:]}")
            elif command in ("rescore", "predict"):
                if again.output != world.references[command].output:
                    found.lose(f"{where}: {command} says something else: {again.output[:600]}")
            else:
                differing = difference(_figures(scene), shown)
                # `report` reads results.json and writes no other file than its own.
                if differing and not (command == "report" and differing == f"{name} (other)"):
                    found.lose(f"{where}: {command} wrote something else: {differing}")
        return found

    return action


def _checkpoint(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    reference = world.references["cv"]
    path = None
    for _ in range(50):  # killed where a checkpoint is there
        if path is not None:
            break
        kill = Kill(at_call=chance.randint(reference.calls // 8, reference.calls // 2))
        if not run(COMMANDS["cv"], scene.folder, kill).killed:  # everything is trained: it begins again
            shutil.rmtree(scene.folder / "runs", ignore_errors=True)
        path = next(iter(scene.folder.glob("runs/cv/model/seed-0/.fold-*/checkpoint.safetensors")), None)
    if path is None:
        found.lose("no checkpoint was ever there")
        return found
    where = flip_anywhere(path, chance)
    again = scene.do("cv")
    if again.refused:
        found.refusals += 1
    elif again.code:
        found.lose(f"{where}: cv: exit code {again.code}: {again.output[-300:]}")
    else:
        differing = difference(outcome(scene, "cv"), reference.made)
        found.lose(f"{where}: cv made something else: {differing}" if differing else None)
    return found
