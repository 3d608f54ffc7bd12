"""`mfhca-cache verify`: recomputes the digest of every shard of a cache."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mfhca_cache.build.plan import misplacement
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.folder import RECIPE_FILE, read_recipe, recipe_folders
from mfhca_cache.store.schema import SUFFIX
from mfhca_cache.store.shard import read_shard, verify_shard


def verify(
    cache: Path,
    jobs: int = 1,
    advance: Callable[[int], Any] = lambda _: None,
    begin: Callable[[int], Any] = lambda _: None,
) -> tuple[int, list[str]]:
    """Reads every shard completely and recomputes its digest.

    Args:
        cache: the cache folder.
        jobs: threads.
        advance: called with 1 after each shard.
        begin: called once with the number of shards.

    Returns:
        The number of valid shards, and an error for each of the others and for each invalid recipe.json.

    Raises:
        MfhcaError: the cache does not exist or cannot be read.
    """
    errors: list[str] = []
    shards: list[tuple[Path, str]] = []
    shapes: dict[Path, tuple[int, ...]] = {}  # of a segment, by recipe
    for folder in recipe_folders(cache):
        paths = sorted(folder.glob(f"*{SUFFIX}"))
        if paths or (folder / RECIPE_FILE).exists():
            try:
                shapes[folder] = read_recipe(folder).frame_shape
            except MfhcaError as error:
                errors.append(str(error))
        shards += [(path, folder.name.rpartition("-")[2]) for path in paths]

    def check(item: tuple[Path, str]) -> str | None:
        path, key = item
        try:
            shard = read_shard(path)
            verify_shard(shard)
        except MfhcaError as error:
            return str(error)
        expected = shapes.get(path.parent, shard.shape[1:])
        if shard.shape[1:] != expected:
            return (
                f"{path}: has segments of shape {shard.shape[1:]}, {RECIPE_FILE} says {expected}; delete the folder "
                "and run `mfhca-cache features` again"
            )
        return misplacement(shard, key)

    begin(len(shards))
    valid = 0
    with ThreadPoolExecutor(jobs, "verify") as pool:
        for problem in pool.map(check, shards):
            valid += problem is None
            errors += [] if problem is None else [problem]
            advance(1)
    return valid, errors
