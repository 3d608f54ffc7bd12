"""What is in a cache: `status` against a manifest, `verify` against its digests, `prune` of leftovers."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.build.disk import disk_use, size_of
from mfhca_cache.build.plan import Plan, State, Target, foreign
from mfhca_cache.common.errors import SHOWN, MfhcaError
from mfhca_cache.common.files import lock, read_json, write_json
from mfhca_cache.manifest.manifest import Manifest, read_manifest
from mfhca_cache.recipe.folder import KEY, RECIPE_FILE, explain, read_recipe
from mfhca_cache.store.reader import list_recipes
from mfhca_cache.store.schema import SUFFIX, shard_name, speaker_of
from mfhca_cache.store.shard import read_shard, verify_shard

MANIFESTS = "manifests.json"
SETTLED_SECONDS = 60.0  # a temporary file of a small atomic write lives for milliseconds
PART_SUFFIXES = (".rows", ".journal", ".tmp")  # of what a dead writer leaves; its lock file stays for good


def record_manifest(targets: Iterable[Target], manifest: Path) -> None:
    """Notes in each recipe's folder that a manifest uses it, so that `prune` spares what it names.

    Raises:
        MfhcaError: the folder cannot be written.
    """
    path = manifest.resolve()
    for target in targets:
        while path not in recorded_manifests(target.folder):
            try:
                # Two runs with two manifests: neither note may be lost.
                with lock(target.folder / f".{MANIFESTS}.lock", str(target.folder / MANIFESTS)):
                    known = {*recorded_manifests(target.folder), path}
                    write_json(target.folder / MANIFESTS, sorted(map(str, known)))
            except MfhcaError as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                time.sleep(0.05)


def recorded_manifests(folder: Path) -> tuple[Path, ...]:
    """The manifests noted in a recipe's folder, whether they still exist or not.

    Raises:
        MfhcaError: the note is damaged.
    """
    note = folder / MANIFESTS
    if not note.exists():
        return ()
    value = read_json(note)
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise MfhcaError(f"{note}: not a list of manifests; delete it and run `mfhca-cache features` again")
    return tuple(Path(path) for path in value)


def status(cache: Path, plan: Plan, limit: int | None = SHOWN) -> Iterator[str]:
    """Tells what is present, missing or stale, and which field or file differs.

    Args:
        cache: the cache folder.
        plan: the cache compared with a manifest's audio.
        limit: how many reasons a kind to tell; None for all.

    Yields:
        Lines for the terminal.

    Raises:
        MfhcaError: the cache cannot be read.
    """
    for target in plan.targets:
        states = {name: plan.states[target.kind, name] for name in plan.sources.speakers}
        groups = ("present", "stale", "missing", "unreachable")
        counts = {group: sum(len(getattr(s, group)) for s in states.values()) for group in groups}
        told = ", ".join(f"{count} {group}" for group, count in counts.items() if count or group == "present")
        yield f"{target.folder.name}: {told} of {len(plan.sources.speaker_of)} utterances"
        yield from other_recipes(cache, target)
        if not target.folder.exists():
            continue
        reasons = [line for speaker, state in states.items() for line in _reasons(plan, speaker, state)]
        yield from _first(reasons, limit)
    yield from _first([f"unreachable: {reason}" for reason in plan.sources.failed.values()], limit)
    if plan.speakers:
        yield "`mfhca-cache features` with the same options computes what is missing or stale"
    yield from disk_use(recipe_folders(cache) if cache.exists() else [])


def other_recipes(cache: Path, target: Target) -> Iterator[str]:
    """Where a cache lacks a recipe, in what those of the same kind differ that it has.

    Raises:
        MfhcaError: the cache cannot be read.
    """
    if target.folder.exists():
        return
    for other in list_recipes(cache):
        if other.kind == target.kind:
            differing = explain(target.recipe.to_dict(), other.recipe, ("wanted", "in the cache"))
            yield f"  the cache has another recipe, {other.path.name}: {'; '.join(differing)}"


def _first(lines: Sequence[str], limit: int | None) -> Iterator[str]:
    yield from lines[:limit]
    if limit is not None and len(lines) > limit:
        yield f"  ... and {len(lines) - limit} more lines; -v shows all"


def _reasons(plan: Plan, speaker: str, state: State) -> Iterator[str]:
    """Why a speaker's shard is not complete."""
    if state.damage is not None:
        yield f"  speaker {speaker}: damaged: {state.damage}"
    elif state.shard is None and state.missing:
        yield f"  speaker {speaker}: missing: no shard"
    elif state.missing:
        yield f"  speaker {speaker}: missing: {_names(state.missing)}"
    for name in state.stale:
        source = plan.sources.found[name]
        rows = state.shard
        before = rows.audio_sha256[rows.utterance_ids.index(name)] if rows is not None else ""
        yield (
            f"  speaker {speaker}: stale: {name}: the audio of {source.utterance.path} changed "
            f"(SHA-256 {before[:12]} in the cache, {source.digest[:12]} now)"
        )
    if state.moved:
        yield f"  speaker {speaker}: the manifest gives to other speakers: {_names(state.moved)}"


def _names(names: Sequence[str], shown: int = 8) -> str:
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def recipe_folders(cache: Path) -> list[Path]:
    """Every folder of a cache that is named like a recipe's, sorted.

    Raises:
        MfhcaError: there is no such cache, or it cannot be read.
    """
    if not cache.is_dir():
        raise MfhcaError(f"{cache}: no such folder; give --cache the cache folder")
    try:
        return sorted(p for p in cache.iterdir() if p.is_dir() and KEY.fullmatch(p.name.rpartition("-")[2]))
    except OSError as error:
        raise MfhcaError(f"{cache}: cannot be read ({error.strerror})") from error


def verify(
    cache: Path, jobs: int = 1, advance: Callable[[int], Any] = lambda _: None
) -> tuple[int, list[str]]:
    """Reads every shard whole and recomputes its digest.

    Args:
        cache: the cache folder.
        jobs: threads.
        advance: called with 1 after each shard.

    Returns:
        How many shards are sound, and what is wrong with the others, by name.

    Raises:
        MfhcaError: there is no such cache, or it cannot be read.
    """
    problems: list[str] = []
    shards: list[tuple[Path, str]] = []
    for folder in recipe_folders(cache):
        found = sorted(folder.glob(f"*{SUFFIX}"))
        if found or (folder / RECIPE_FILE).exists():
            try:
                read_recipe(folder)
            except MfhcaError as error:
                problems.append(str(error))
        shards += [(path, folder.name.rpartition("-")[2]) for path in found]

    def problem(item: tuple[Path, str]) -> str | None:
        path, key = item
        try:
            shard = read_shard(path)
            verify_shard(shard)
        except MfhcaError as error:
            return str(error)
        return foreign(shard, key, speaker_of(path.name))

    sound = 0
    with ThreadPoolExecutor(jobs, "verify") as pool:
        for trouble in pool.map(problem, shards):
            sound += trouble is None
            problems += [] if trouble is None else [trouble]
            advance(1)
    return sound, problems


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing refers to."""

    path: Path
    reason: str
    size: int  # bytes
    locks: tuple[Path, ...] = ()  # to be held while it is removed


def leftovers(cache: Path, manifests: Sequence[Path] = ()) -> list[Leftover]:
    """Finds what no manifest and no living writer needs.

    Args:
        cache: the cache folder.
        manifests: manifests that use every recipe, besides those on record.

    Returns:
        What may be removed; nothing is removed here.

    Raises:
        MfhcaError: the cache cannot be read, or a manifest that exists cannot: who knows what it names.
    """
    read = {path: read_manifest(path) for path in manifests}
    found: list[Leftover] = []
    for folder in recipe_folders(cache):
        shards = sorted(folder.glob(f"*{SUFFIX}"))
        noted = [path for path in recorded_manifests(folder) if path.is_file()]
        users = [read.setdefault(path, read_manifest(path)) for path in noted] + [read[p] for p in manifests]
        if not users:
            why = "no manifest on record for it exists" if shards else "it holds no features"
            if shards or not any(_busy(path) for path in _locks(folder)):
                found.append(Leftover(folder, why, size_of(folder), _locks(folder)))
            continue
        wanted = {(u.speaker, u.utterance) for manifest in users for u in manifest.utterances}
        for path in shards:
            if not _used(path, wanted, users):
                lock_file = path.with_name(f".{path.name}.lock")
                why = "none of its utterances is in a manifest on record"
                found.append(Leftover(path, why, size_of(path), (lock_file,)))
        found += _debris(folder)
    return [one for one in found if not any(_busy(path) for path in one.locks)]


def _used(path: Path, wanted: set[tuple[str, str]], users: Sequence[Manifest]) -> bool:
    speaker = speaker_of(path.name)
    try:
        return any((speaker, name) in wanted for name in read_shard(path).utterance_ids)
    except (
        MfhcaError
    ):  # damaged: `verify` tells; it is replaced, not pruned, as long as its speaker is wanted
        return any(u.speaker == speaker for manifest in users for u in manifest.utterances)


def _debris(folder: Path) -> Iterator[Leftover]:
    """What dead writers left in a folder that is in use."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") or path.suffix not in PART_SUFFIXES:
            continue
        head, is_shard, _ = path.name.rpartition(f"{SUFFIX}.")
        if is_shard:
            why = "an interrupted run left it; `mfhca-cache features` would go on from it"
            yield Leftover(path, why, size_of(path), (folder / f"{head}{SUFFIX}.lock",))
        elif path.suffix == ".tmp" and time.time() - path.stat().st_mtime > SETTLED_SECONDS:
            yield Leftover(path, "an interrupted run left it", size_of(path))


def remove(leftover: Leftover) -> None:
    """Removes a leftover, unless somebody began to write it meanwhile.

    Raises:
        MfhcaError: it is in use, or cannot be removed.
    """
    with contextlib.ExitStack() as locks:
        for path in leftover.locks:
            locks.enter_context(lock(path, str(leftover.path)))
        try:
            if leftover.path.is_dir():
                shutil.rmtree(leftover.path)
            else:
                leftover.path.unlink(missing_ok=True)
        except OSError as error:
            raise MfhcaError(f"{leftover.path}: cannot be removed ({error.strerror})") from error


def _locks(folder: Path) -> tuple[Path, ...]:
    speakers = {speaker_of(path.name) for path in folder.glob(f"*{SUFFIX}")}
    names = {f".{shard_name(speaker)}.lock" for speaker in speakers}
    return tuple(sorted({*(folder / name for name in names), *folder.glob(f".*{SUFFIX}.lock")}))


def _busy(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with lock(path, str(path)):
            return False
    except MfhcaError as error:
        return isinstance(error.__cause__, BlockingIOError)
