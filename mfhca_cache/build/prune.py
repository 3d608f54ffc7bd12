"""`mfhca-cache prune`: finds and removes files that no manifest and no running writer needs."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.build.plan import Plan, compare_shard
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock, size_of
from mfhca_cache.manifest.manifest import Manifest, read_manifest
from mfhca_cache.recipe.folder import recipe_folders
from mfhca_cache.store import journal
from mfhca_cache.store.schema import SUFFIX, shard_name
from mfhca_cache.store.shard import read_shard
from mfhca_cache.store.users import recorded_users

SETTLED_SECONDS = 60.0  # a temporary file of a small atomic write lives for milliseconds
PART_SUFFIXES = (*journal.SUFFIXES, ".tmp")  # files of a killed writer; its lock file always stays


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing refers to."""

    path: Path
    reason: str
    size: int  # bytes
    locks: tuple[Path, ...] = ()  # to be held while it is removed


def find_leftovers(
    cache: Path,
    manifests: Sequence[Path] = (),
    forgotten: Sequence[Path] = (),
    unrecorded: bool = False,
) -> tuple[list[Leftover], list[str]]:
    """Finds what no manifest and no running writer needs; removes nothing.

    A recorded manifest that cannot be found may be on a disk that is not mounted, and in a copied cache the recorded
    paths are those of another machine. So which features it uses is unknown, and they are kept.

    Args:
        cache: the cache folder.
        manifests: manifests that use every recipe, in addition to the recorded ones.
        forgotten: recorded manifests that no longer count.
        unrecorded: whether a recipe without any recorded manifest is a leftover.

    Returns:
        The files and folders that may be removed, and for each recipe that may be unused why it is kept.

    Raises:
        MfhcaError: the cache cannot be read, or a manifest cannot be read although it exists.
    """
    read = {path: read_manifest(path) for path in manifests}
    dropped = {path.resolve() for path in forgotten}
    leftovers: list[Leftover] = []
    kept: list[str] = []
    for folder in recipe_folders(cache):
        shards = sorted(folder.glob(f"*{SUFFIX}"))
        recorded = [user.manifest for user in recorded_users(folder)]
        counted = [path for path in recorded if path not in dropped]
        unknown = [path for path in counted if not path.is_file()]
        users = [read.setdefault(path, read_manifest(path)) for path in counted if path.is_file()]
        users += [read[path] for path in manifests]
        if shards and unknown:
            kept.append(
                f"{folder}: its recorded manifest {unknown[0]} cannot be found; if it has moved, pass "
                f"`--manifest NEW_PATH --forget {unknown[0]}`, if it was deleted, only --forget"
            )
        elif shards and not recorded and not users and not unrecorded:
            kept.append(f"{folder}: no manifest is recorded for it; pass its --manifest, or --unrecorded")
        elif not users:
            reason = "no manifest uses it" if shards else "it has no features"
            if shards or not any(_is_locked(path) for path in _lock_files(folder)):
                leftovers.append(Leftover(folder, reason, size_of(folder), _lock_files(folder)))
            continue
        else:
            used = {(row.speaker, row.utterance) for manifest in users for row in manifest.utterances}
            for path in shards:
                if not _is_used(path, used, users):
                    lock_file = path.with_name(f".{path.name}.lock")
                    reason = "none of its utterances is in a recorded manifest"
                    leftovers.append(Leftover(path, reason, size_of(path), (lock_file,)))
        leftovers += _interrupted(folder)
    return [one for one in leftovers if not any(_is_locked(path) for path in one.locks)], kept


def _is_used(path: Path, used: set[tuple[str, str]], users: Sequence[Manifest]) -> bool:
    try:
        shard = read_shard(path)
        return any((shard.speaker, name) in used for name in shard.utterance_ids)
    except MfhcaError:
        # A damaged shard is reported by `verify` and replaced by `features`, so it stays while its speaker is used.
        return any(shard_name(row.speaker) == path.name for manifest in users for row in manifest.utterances)


def _interrupted(folder: Path) -> Iterator[Leftover]:
    """Files of killed writers in a folder that is in use."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") or path.suffix not in PART_SUFFIXES:
            continue
        head, is_shard, _ = path.name.rpartition(f"{SUFFIX}.")
        if is_shard:
            reason = "left by an interrupted run; `mfhca-cache features` would resume from it"
            yield Leftover(path, reason, size_of(path), (folder / f"{head}{SUFFIX}.lock",))
        elif path.suffix == ".tmp" and time.time() - path.stat().st_mtime > SETTLED_SECONDS:
            yield Leftover(path, "left by an interrupted run", size_of(path))


def remove(leftover: Leftover) -> None:
    """Removes a leftover, unless a process has started to write it.

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


def remove_finished_parts(plan: Plan) -> None:
    """Removes the part files of complete shards: their writer was killed between its last two steps.

    Files that another process has locked stay, and so do those in a folder that cannot be written.

    Args:
        plan: the plan of the run; whether a shard is complete is checked again.
    """
    for target in plan.targets:
        if not target.folder.is_dir():
            continue
        parts = {path.name for path in target.folder.iterdir() if path.suffix in journal.SUFFIXES}
        for speaker in plan.sources.speakers if parts else ():
            shard = target.shard(speaker)
            stem = shard.with_name(f".{shard.name}")
            if parts.isdisjoint(path.name for path in journal.paths(stem)):
                continue
            with contextlib.suppress(MfhcaError, OSError), lock(Path(f"{stem}.lock"), str(shard)):
                if compare_shard(target, speaker, plan.sources).complete:
                    for path in reversed(journal.paths(stem)):
                        path.unlink(missing_ok=True)


def _lock_files(folder: Path) -> tuple[Path, ...]:
    names = {f".{path.name}.lock" for path in folder.glob(f"*{SUFFIX}")}
    return tuple(sorted({*(folder / name for name in names), *folder.glob(f".*{SUFFIX}.lock")}))


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with lock(path, str(path)):
            return False
    except MfhcaError as error:
        return isinstance(error.__cause__, BlockingIOError)
