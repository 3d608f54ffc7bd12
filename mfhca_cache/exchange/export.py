"""`mfhca-cache export`: features of a cache for other tools, with labels and folds beside them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError, listing, require_one_of
from mfhca_cache.common.files import canonical_json, sha256_text, write_json
from mfhca_cache.common.text import plural, size_text
from mfhca_cache.exchange import formats
from mfhca_cache.exchange.formats import Array, Header, Row
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.choices import CONTENTS, FORMATS
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.recipe.kinds import DTYPES
from mfhca_cache.store.reader import Features, list_recipes
from mfhca_cache.store.users import note_other_manifests

SOURCE = "source.json"  # in the folder of an export


@dataclass(frozen=True)
class Exported:
    """The result of an export; its text is for the terminal."""

    out: Path
    recipe: str  # name of the folder
    content: str
    utterances: int
    shape: tuple[int | None, ...]  # of an utterance; None: differs
    dtype: str
    size: int  # bytes of all features

    def __str__(self) -> str:
        shape = ", ".join("..." if size is None else str(size) for size in self.shape)
        return (
            f"{self.out}: {self.content} of {self.recipe}, {plural(self.utterances, 'utterance')}, ({shape}) "
            f"{self.dtype}, {size_text(self.size)}"
        )


def export_features(
    manifest: str | Path,
    cache: str | Path,
    out: str | Path,
    format: str,
    *,
    recipe: str | None = None,
    layer: int | None = None,
    content: str = "frames",
    dtype: str | None = None,
    label_set: str | None = None,
    advance: Callable[[int], Any] = lambda _: None,
) -> Exported:
    """Writes the features of a manifest's utterances for other tools, as `mfhca-cache export` does.

    Args:
        manifest: the CSV file.
        cache: the cache folder.
        out: a new folder.
        format: "npz", "kaldi", "parquet" or "hf".
        recipe: the name of a recipe or its beginning, with or without the kind; needed if the cache has several.
        layer: of an encoder's features with all layers; -1 is the last one.
        content: "frames", all frames of an utterance without padding; "segments" as they are stored, padding included;
            or "statistics", the mean and the standard deviation over the frames.
        dtype: "float16" or "float32"; by default as stored, but float32 for Kaldi.
        label_set: export the utterances of this label set; by default of the corpus card's.
        advance: called with 1 after each utterance.

    Returns:
        What was written.

    Raises:
        MfhcaError: no or several recipes match, features are missing or of other audio than the manifest's, the format
            cannot hold the content, its library is not installed, or `out` exists or cannot be written.
    """
    cache, out = Path(cache), Path(out)
    require_one_of(FORMATS, format=format)
    require_one_of(CONTENTS, content=content)
    require_one_of(tuple(DTYPES), **({} if dtype is None else {"dtype": dtype}))
    table = read_manifest(manifest)
    labels = table.label_set(label_set)
    utterances = table.select(labels)
    if not utterances:
        raise MfhcaError(f"{manifest}: no utterance of label set {labels.name}")
    found = _with_layer(_find(cache, recipe), layer)
    stored = str(found.recipe["dtype"])
    header = Header(
        content, labels.classes, found.frame_shape, dtype or ("float32" if format == "kaldi" else stored)
    )
    write = formats.writer(format, header)
    if out.exists():
        raise MfhcaError(f"{out}: exists; choose another --out, or delete it")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    size = 0

    def counted(rows: Iterator[Row]) -> Iterator[Row]:
        nonlocal size
        for row in rows:
            size += row.values.nbytes
            yield row
            advance(1)

    try:
        temporary.mkdir(parents=True)
        with Features.open(found, sorted({u.speaker for u in utterances})) as features:
            note_other_manifests(found.path, Path(manifest))
            _check(features, utterances)
            rows = counted(_rows(features, utterances, labels, header))
            write(temporary, rows, out)
            write_json(temporary / SOURCE, _source(found, features, utterances, header))
        os.replace(temporary, out)
    except OSError as error:
        raise MfhcaError(
            f"{out}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(out, found.path.name, content, len(utterances), header.shape, header.dtype, size)


def _source(
    recipe: RecipeFolder, features: Features, utterances: tuple[Utterance, ...], header: Header
) -> dict[str, Any]:
    """What was exported: files of other encoders, layers or audio may have the same names and shapes."""
    digests = {
        name: [audio, values]
        for shard in features.shards
        for name, audio, values in zip(
            shard.utterance_ids, shard.audio_sha256, shard.features_sha256, strict=True
        )
    }
    return {
        "name": recipe.name,
        "key": recipe.key,
        "recipe": recipe.read_as,
        "content": header.content,
        "dtype": header.dtype,
        "sha256": sha256_text(canonical_json([[u.utterance, *digests[u.utterance]] for u in utterances])),
    }


def _find(cache: Path, name: str | None) -> RecipeFolder:
    """The only recipe of a cache, or the only one whose name begins so."""
    every = list_recipes(cache)
    matching = [r for r in every if r.path.name.startswith((name or "", f"{r.kind}-{name or ''}"))]
    exact = [r for r in matching if name in (r.name, r.name.removeprefix(f"{r.kind}-"))]
    matching = exact if len(exact) == 1 else matching
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = listing([r.path.name for r in matching])
        raise MfhcaError(
            f"{cache}: {len(matching)} recipes{f' beginning with {name!r}' if name else ''}; choose one with --recipe "
            f"NAME (a unique prefix is enough):\n{names}"
        )
    found = ", ".join(r.path.name for r in every)
    raise MfhcaError(
        f"{cache}: no features{f' of a recipe beginning with {name!r}' if name else ''}; "
        + (f"there are {found}" if found else "run `mfhca-cache features` first")
    )


def _with_layer(recipe: RecipeFolder, layer: int | None) -> RecipeFolder:
    if recipe.layers:
        if layer is None or not -1 <= layer < recipe.layers:
            raise MfhcaError(
                f"{recipe.path}: holds all layers; choose one with --layer, 0 to {recipe.layers - 1} or -1"
            )
        return replace(recipe, layer=layer % recipe.layers, frame_shape=recipe.frame_shape)
    if layer is not None:
        raise MfhcaError(f"{recipe.path}: does not hold all layers; leave --layer out")
    return recipe


def _check(features: Features, utterances: tuple[Utterance, ...]) -> None:
    """Refuses features that are missing, or of other audio than the manifest says."""
    origins = {name: origin for shard in features.shards for name, origin in shard.origins().items()}
    missing = [u.utterance for u in utterances if u.utterance not in origins]
    different = [
        f"{u.utterance}: {u.path} in the manifest, {origins[u.utterance].path} in the cache"
        for u in utterances
        if u.utterance in origins
        and (u.path, u.start_s, u.end_s)
        != (origins[u.utterance].path, origins[u.utterance].start_s, origins[u.utterance].end_s)
    ]
    if missing or different:
        what = (
            f"no features of {plural(len(missing), 'utterance')}"
            if missing
            else "features of other files, or parts of files"
        )
        raise MfhcaError(
            f"{features.shards[0].path.parent}: {what}; run `mfhca-cache features` with this manifest:\n"
            f"{listing(missing or different)}"
        )


def _rows(
    features: Features, utterances: tuple[Utterance, ...], labels: LabelSet, header: Header
) -> Iterator[Row]:
    """One row per utterance, sorted by speaker and utterance, so that a shard is read from its beginning to its end."""
    for u in sorted(utterances, key=lambda u: (u.speaker, u.utterance)):
        values, valid = features.utterance(u.utterance)
        cells = {
            "utterance": u.utterance,
            "path": u.path,
            "speaker": u.speaker,
            "session": u.session,
            "gender": u.gender,
            "emotion": u.emotion,
            "label": labels.mapping[u.emotion],
            "fold": u.fold or u.speaker,
        }
        yield Row(cells, pooled(values, valid, header.content).astype(header.dtype), valid)


def pooled(values: Array, valid: Array, content: str) -> Array:
    """The content of an export: frames, segments or statistics.

    Args:
        values: (S, T, F), segments.
        valid: (S,), frames that are not padding.
        content: one of `choices.CONTENTS`.

    Returns:
        (N, F), (S, T, F), or (2 F,): mean and standard deviation (of the population).

    >>> pooled(np.array([[[1.0], [3.0]], [[5.0], [9.0]]]), np.array([2, 1]), "statistics").round(3).tolist()
    [3.0, 1.633]
    """
    if content == "segments":
        return values
    frames = values[np.arange(values.shape[1]) < valid[:, None]]
    if content == "frames":
        return frames
    exact = frames.astype(np.float64)
    return np.concatenate([exact.mean(axis=0), exact.std(axis=0)])
