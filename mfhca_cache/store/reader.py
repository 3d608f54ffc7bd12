"""Reading a cache: listing its recipes, and gathering rows of its shards into one array.

Nothing here writes or imports torch. Single shards are checked in `shard`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.recipe.folder import KEY, RECIPE_FILE, RecipeFolder, command_for, read_recipe
from mfhca_cache.store import schema
from mfhca_cache.store.descriptor import damaged, open_file, read_exactly
from mfhca_cache.store.shard import Array, Shard, read_open

OTHER_FILES = 64  # open files besides shards: libraries, logs, pipes


def list_recipes(cache: str | Path) -> list[RecipeFolder]:
    """The recipes of a cache, sorted by folder name; none if the cache does not exist.

    Raises:
        MfhcaError: the cache cannot be read, or a recipe.json is damaged or missing in a folder with shards.
    """
    cache = Path(cache)
    try:
        folders = sorted(path for path in cache.iterdir() if path.is_dir()) if cache.exists() else []
        named = [path for path in folders if KEY.fullmatch(path.name.rpartition("-")[2])]
        # A folder with neither was left by a run killed between creating it and writing recipe.json.
        return [
            read_recipe(path)
            for path in named
            if (path / RECIPE_FILE).exists() or any(path.glob(f"*{schema.SUFFIX}"))
        ]
    except OSError as error:
        raise MfhcaError(
            f"{cache}: cannot be read ({error.strerror}); pass the cache folder as --cache"
        ) from error


def find_recipe(cache: str | Path, kind: str, name_prefix: str | None = None) -> RecipeFolder:
    """The only recipe of a kind.

    Args:
        cache: the cache folder.
        kind: logspec, ssl, ...
        name_prefix: prefix of the folder's name, with or without "<kind>-"; an exact name (without the key)
            takes precedence over longer ones.

    Raises:
        MfhcaError: there is none, or there are several, which are listed.
    """
    return select_recipe(cache, list_recipes(cache), kind, name_prefix)


def select_recipe(
    cache: str | Path, recipes: Sequence[RecipeFolder], kind: str, name_prefix: str | None = None
) -> RecipeFolder:
    """What `find_recipe` finds, among the recipes of a cache that are read already."""
    of_kind = [recipe for recipe in recipes if recipe.kind == kind]
    prefix = name_prefix or ""
    prefixes = (prefix, f"{kind}-{prefix}")
    matches = [recipe for recipe in of_kind if recipe.path.name.startswith(prefixes)]
    exact = [recipe for recipe in matches if recipe.name in prefixes]
    matches = exact if len(exact) == 1 else matches
    if len(matches) == 1:
        return matches[0]
    request = f"{kind} features" + (f" with a name starting with {prefix!r}" if prefix else "")
    option = {"ssl": "--ssl", "external": "--ssl or --spec"}.get(kind, "--spec")
    if matches:
        names = listing([f"{recipe.path.name}{_differences(recipe, matches)}" for recipe in matches])
        raise MfhcaError(
            f"{cache}: {len(matches)} recipes of {request}; choose one with {option} NAME "
            f"(a unique prefix is enough):\n{names}"
        )
    existing = ", ".join(recipe.path.name for recipe in of_kind)
    raise MfhcaError(
        f"{cache}: no {request}"
        + (f" (the cache has {existing}); choose one of these, or" if existing else ";")
        + f" run `{command_for(kind, Path(cache))}` first"
    )


def _differences(recipe: RecipeFolder, among: Iterable[RecipeFolder]) -> str:
    """The fields of a recipe that differ from others, e.g. " (layer 6, tail pad)"; digests are left out."""
    fields = [name for name in recipe.recipe if not name.endswith("_sha256")]
    parts = [
        f"{name} {recipe.recipe[name]}"
        for name in fields
        if any(other.recipe.get(name) != recipe.recipe[name] for other in among)
    ]
    return f" ({', '.join(parts)})" if parts else ""


class Features:
    """The shards of one recipe, opened for gathering rows. A context manager.

    Attributes:
        shards: one per speaker, in the requested order.
        frame_shape: (T, F); (M, T, F) if all of several layers are read.
        dtype: float16 or float32.
        row_bytes: bytes read per segment.
        descriptors: of the shards' files.
        layer: the one that is read, if the shards hold several; None: what they hold.
    """

    def __init__(self, shards: tuple[Shard, ...], descriptors: list[int], layer: int | None = None) -> None:
        self.shards = shards
        self.frame_shape: tuple[int, ...] = shards[0].shape[1 if layer is None else 2 :]
        self.dtype: np.dtype[Any] = shards[0].dtype
        self.row_bytes = math.prod(self.frame_shape) * self.dtype.itemsize
        self.layer = layer
        self.descriptors = descriptors
        self._segments = np.array([shard.shape[0] for shard in shards], np.int64)
        self._rows: dict[str, tuple[int, int, int]] = {}
        for index, shard in enumerate(shards):
            for name, (first, count) in shard.rows().items():
                if name in self._rows:
                    other = shards[self._rows[name][0]].path
                    raise MfhcaError(
                        f"utterance {name} is in {other} and in {shard.path}; delete the wrong one"
                    )
                self._rows[name] = (index, first, count)

    @classmethod
    def open(cls, folder: str | Path | RecipeFolder, speakers: Iterable[str]) -> Features:
        """Opens the shards of some speakers.

        Args:
            folder: the recipe folder; its `layer` selects one of several, the others are not read.
            speakers: ids; their order is kept, repetitions are dropped.

        Raises:
            MfhcaError: a shard is missing, damaged, or of another recipe or speaker.
        """
        recipe = folder if isinstance(folder, RecipeFolder) else read_recipe(folder)
        paths = {speaker: recipe.path / schema.shard_name(speaker) for speaker in speakers}
        missing = [speaker for speaker, path in paths.items() if not path.exists()]
        if missing or not paths:
            which = f"speaker {missing[0]}" if len(missing) == 1 else f"{len(missing)} speakers"
            names = "\n" + listing(missing) if len(missing) > 1 else ""
            raise MfhcaError(f"{recipe.path}: no features of {which}; run `{recipe.command}`{names}")
        shards: list[Shard] = []
        descriptors: list[int] = []
        allow_open_files(len(paths))
        try:
            for speaker, path in paths.items():
                descriptors.append(open_file(path))
                shard = read_open(descriptors[-1], path)
                _compare(shard, recipe, speaker)
                shards.append(shard)
            return cls(tuple(shards), descriptors, recipe.layer)
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise

    def moments(self, index: int, name: str) -> Array:
        """`Shard.moments` of `shards[index]`, for the selected layer: (U, F), or (U, M, F) for all layers."""
        table = self.shards[index].moments(name)
        return table if self.layer is None else np.ascontiguousarray(table[:, self.layer])

    def rows(self, utterance_id: str) -> tuple[int, int, int]:
        """The rows of an utterance in time order: (index into shards, first row, number of segments).

        Raises:
            MfhcaError: none of the open shards has it.
        """
        try:
            return self._rows[utterance_id]
        except KeyError:
            folder = self.shards[0].path.parent
            raise MfhcaError(
                f"{folder}: no features of utterance {utterance_id}; run "
                f"`{command_for(self.shards[0].kind, folder.parent)}`"
            ) from None

    def utterance(self, utterance_id: str) -> tuple[Array, Array]:
        """The segments of one utterance.

        Args:
            utterance_id: as in the manifest.

        Returns:
            Features (n, T, F) as stored, in time order, and valid frames (n,) int32. Both are copies.

        Raises:
            MfhcaError: none of the open shards has it, or the file is truncated.
        """
        index, first, count = self.rows(utterance_id)
        rows = np.arange(first, first + count)
        valid: Array = self.shards[index].valid_frames[first : first + count]
        return self.gather(np.full(count, index), rows), valid.copy()

    def gather(self, shard_index: Array, rows: Array, out: Array | None = None) -> Array:
        """Copies segments into one array in the given order; adjacent rows of a file are read in one call.

        Args:
            shard_index: (N,) integers, indices into `shards`.
            rows: (N,) integers, rows of these shards.
            out: (N, *frame_shape) C-contiguous of `dtype`, filled and returned; allocated by default.

        Returns:
            (N, *frame_shape) of `dtype`.

        Raises:
            MfhcaError: a file was truncated meanwhile, or the disk fails.
            IndexError: there is no such shard or row.
        """
        which, rows = np.asarray(shard_index, np.int64), np.asarray(rows, np.int64)
        if which.ndim != 1 or which.shape != rows.shape:
            raise ValueError(
                f"shard_index {which.shape} and rows {rows.shape} must be lists of the same length"
            )
        if which.size and not (which.min() >= 0 and which.max() < len(self.shards)):
            raise IndexError(f"shard_index must be in 0..{len(self.shards) - 1}")
        if not np.all((rows >= 0) & (rows < self._segments[which])):
            raise IndexError("a row is outside its shard")
        shape = (len(rows), *self.frame_shape)
        out = np.empty(shape, self.dtype) if out is None else out
        if (
            out.shape != shape
            or out.dtype != self.dtype
            or not out.flags.c_contiguous
            or not out.flags.writeable
        ):
            raise ValueError(f"out must be a writeable C-contiguous {self.dtype} array of shape {shape}")
        if not len(rows):
            return out
        view = out.reshape(-1).view(np.uint8).data
        step, stride = self.row_bytes, self.shards[0].row_bytes
        # A single layer of two adjacent rows is not adjacent in the file: the other layers are between them.
        separate = self.layer is not None
        breaks = np.flatnonzero(separate | (np.diff(rows) != 1) | (np.diff(which) != 0)) + 1
        starts = [0, *breaks.tolist()]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            index = int(which[start])
            shard = self.shards[index]
            offset = shard.offset + int(rows[start]) * stride + (self.layer or 0) * step
            read_exactly(self.descriptors[index], view[start * step : end * step], offset, shard.path)
        return out

    def close(self) -> None:
        """Closes the files; may be called more than once."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    def __enter__(self) -> Features:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _compare(shard: Shard, recipe: RecipeFolder, speaker: str) -> None:
    """Refuses a shard in the wrong folder or with the wrong name."""
    actual = (shard.key, shard.kind, shard.speaker, shard.shape[1:], shard.dtype.name)
    expected = (recipe.key, recipe.kind, speaker, recipe.frame_shape, recipe.recipe.get("dtype"))
    if actual != expected:
        raise damaged(
            shard.path, f"has (key, kind, speaker, frame shape, dtype) {actual}, expected {expected}"
        )


def allow_open_files(more: int) -> None:
    """Raises this process's limit of open files, as far as the system allows, so that `more` can be opened.

    The usual limit of 1,024 is too low for a corpus of a thousand speakers with two kinds of features.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        open_now = len(list(Path("/dev/fd").iterdir()))
    except OSError:  # a container without it
        open_now = OTHER_FILES
    needed = open_now + more + OTHER_FILES
    if soft != resource.RLIM_INFINITY and needed > soft:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))
