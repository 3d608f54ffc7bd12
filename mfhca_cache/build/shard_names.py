"""Speakers whose shards would be one file, because the disk of the cache ignores letter case."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import create_temporary
from mfhca_cache.store.schema import shard_name


def ignores_case(folder: Path) -> bool:
    """Whether a file in a folder is found under its name in capitals; False if no file can be written there."""
    while not folder.exists():
        folder = folder.parent
    with contextlib.suppress(OSError):
        descriptor, path = create_temporary(folder / "case")
        os.close(descriptor)
        try:
            return path.with_name(path.name.upper()).exists()
        finally:
            path.unlink()
    return False


def check_shard_names(
    speakers: Iterable[str], cache: Path, probe: Callable[[Path], bool] = ignores_case
) -> None:
    """Refuses speakers whose names differ only in letter case, if the disk of the cache ignores it.

    Args:
        speakers: of the manifest.
        cache: the cache folder, which need not exist yet.
        probe: whether the disk of a folder ignores case.

    Raises:
        MfhcaError: two speakers would share a shard, and each would replace the other's features.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for speaker in sorted(set(speakers)):
        groups[shard_name(speaker).lower()].append(speaker)
    shared = [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if shared and probe(cache.absolute()):
        raise MfhcaError(
            f"{cache}: its disk ignores letter case, so these speakers would have one file; rename them in the "
            f"manifest, or choose a --cache on another disk:\n{listing(shared)}"
        )
