"""`mfhca-cache import`: frames of another program become features of a cache, of a recipe of kind external.

Segments, valid frames and moments are those of the other kinds. The content of the features is their identity: they are
never computed again, and other values are another recipe.
"""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.build.users import record_manifest
from mfhca_cache.common.errors import MfhcaError, listing, require_one_of, require_positive
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.common.text import plural, size_text
from mfhca_cache.exchange.cutting import check_length, cut_frames
from mfhca_cache.exchange.frames import Frames, find_frames
from mfhca_cache.exchange.recordings import read_recordings, recorded
from mfhca_cache.manifest.copies import check_copies, find_copies
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.recipe.folder import folder_for, write_recipe
from mfhca_cache.recipe.kinds import TAILS, External
from mfhca_cache.store.schema import DTYPES, Origin, as_stored, shard_name
from mfhca_cache.store.shard import read_shard
from mfhca_cache.store.writer import ShardWriter


@dataclass(frozen=True)
class Imported:
    """The result of an import; its text is for the terminal."""

    folder: Path  # of the recipe
    utterances: int
    segments: int
    frame_shape: tuple[int, int]  # (T, F)
    stored_bytes: int
    shards: int  # written; the others were there

    def __str__(self) -> str:
        frames, width = self.frame_shape
        written = plural(self.shards, "shard") if self.shards else "no shards"
        return (
            f"{self.folder}: {plural(self.utterances, 'utterance')}, {plural(self.segments, 'segment')} of "
            f"{frames} frames of {width} values, {size_text(self.stored_bytes)}; {written} written"
        )


def import_features(
    manifest: str | Path,
    cache: str | Path,
    source: str | Path,
    name: str,
    *,
    root: str | Path | None = None,
    frame_rate: float | None = None,
    label_set: str | None = None,
    dtype: str = "float16",
    tail: str = "pad",
    minimum_tail_samples: int | None = None,
    accept_copies: bool = False,
    allow_outside: bool = False,
    jobs: int = 1,
    advance: Callable[[int], Any] = lambda _: None,
) -> Imported:
    """Stores features that another program computed in a cache, as `mfhca-cache import` does.

    Args:
        manifest: the CSV file; the utterances of `label_set` need features, all of one width.
        cache: the cache folder.
        source: a folder with a .npy or .npz file per utterance, or an .scp of Kaldi, see `frames.find_frames`.
        name: of the recipe, e.g. "emotion2vec"; for people only.
        root: the corpus root. Without it the lengths of the audio must be in the manifest, and the digests of the audio
            are those that other features of the cache have recorded; without these too, the features' own.
        frame_rate: frames per second; needed for frames of whole utterances (50 for HuBERT and emotion2vec).
        label_set, tail, minimum_tail_samples: as for the other features of the cache; the last one by default as on the
            corpus card, else 0.
        dtype: as stored, float16 or float32.
        accept_copies: accept equal features under two speakers.
        allow_outside: follow links that lead out of the root.
        jobs: threads for hashing the audio.
        advance: called with 1 for each utterance read, twice per utterance in all.

    Returns:
        What is in the cache now.

    Raises:
        MfhcaError: features are missing, differ in width, are no finite numbers, or do not fit the length of the
            audio; the manifest, the audio or the cache cannot be used.
    """
    manifest, cache, source = Path(manifest), Path(cache), Path(source)
    root = None if root is None else Path(root)
    require_positive(jobs=jobs)
    require_one_of(tuple(DTYPES), dtype=dtype)
    require_one_of(TAILS, tail=tail)
    table = read_manifest(manifest)
    table.warn(table.label_set(label_set))
    utterances = sorted(table.select(label_set), key=lambda u: u.utterance)
    if not utterances:
        raise MfhcaError(f"{manifest}: no utterance of label set {table.label_set(label_set).name}")
    readers = find_frames(source, utterances)
    of_card = None if table.card is None else table.card.features.minimum_tail_samples
    shortest = (of_card or 0) if minimum_tail_samples is None else minimum_tail_samples
    recordings = (
        recorded(cache, utterances)
        if root is None
        else read_recordings(utterances, root, jobs, allow_outside)
    )
    draft = External("", frame_rate or 1, 1, tail=tail, minimum_tail_samples=shortest, dtype=dtype)
    digests: dict[str, str] = {}
    shapes: dict[str, tuple[int | None, int]] = {}  # frames per segment if they are cut, width
    problems: list[str] = []
    for u in utterances:
        frames = readers[u.utterance]()
        try:
            check_length(frames, recordings[u.utterance].seconds, frame_rate, draft)
            three = frames.values if frames.values.ndim == 3 else frames.values[None]
            as_stored(three, DTYPES[dtype], "features")
        except MfhcaError as error:
            problems.append(f"utterance {u.utterance}: {error}")
        digests[u.utterance] = content_digest(frames)
        shapes[u.utterance] = (
            None if frames.valid is None else frames.values.shape[1],
            frames.values.shape[-1],
        )
        advance(1)
    problems += _different_shapes(shapes)
    if problems:
        raise MfhcaError(
            f"{source}: {plural(len(problems), 'problem')} with the features:\n{listing(problems)}"
        )
    check_copies(find_copies(utterances, digests), str(source), accept_copies)
    recipe, shape = _recipe(draft, digests, *next(iter(shapes.values())))
    folder = folder_for(cache, recipe, external_name(name))
    write_recipe(folder, recipe, shape)
    record_manifest([folder], manifest, root or manifest.parent)
    segments = written = 0
    for speaker in sorted({u.speaker for u in utterances}):
        rows = {u.utterance: recordings[u.utterance] for u in utterances if u.speaker == speaker}
        origins = {
            u.utterance: rows[u.utterance].origin or Origin(digests[u.utterance], u.path, u.start_s, u.end_s)
            for u in utterances
            if u.utterance in rows
        }
        count = _stored(folder / shard_name(speaker), recipe, origins)
        if count is not None:
            segments += count
            advance(len(rows))
            continue
        with ShardWriter(folder, recipe.key, recipe.kind, speaker, shape, dtype) as writer:
            for utterance, recording in rows.items():
                frames = readers[utterance]()
                if content_digest(frames) != digests[utterance]:
                    raise MfhcaError(
                        f"{source}: the features of {utterance} changed meanwhile; run the command again"
                    )
                values, valid = cut_frames(frames, recording.seconds, recipe)
                writer.append(utterance, origins[utterance], values, valid)
                segments += len(valid)
                advance(1)
            writer.finish(None, (), {"source": str(source), "python": platform.python_version()})
        written += 1
    size = segments * math.prod(shape) * DTYPES[dtype].itemsize
    return Imported(folder, len(utterances), segments, shape, size, written)


def external_name(name: str) -> str:
    """The name of a recipe folder for features that are called so.

    >>> external_name("emotion2vec/plus base"), external_name("")
    ('external-emotion2vec_plus_base', 'external-features')
    """
    return f"{External.kind}-{re.sub(r'[^A-Za-z0-9._-]+', '_', name).strip('._-')[:100] or 'features'}"


def _recipe(
    draft: External, digests: Mapping[str, str], frames: int | None, width: int
) -> tuple[External, tuple[int, int]]:
    """The recipe of features with these digests, and the shape of a segment."""
    seconds = draft.segment_samples / draft.sample_rate
    rate = draft.frame_rate if frames is None else frames / seconds
    per_segment = round(rate * seconds)
    content = sha256_text(canonical_json(sorted(digests.items())))
    return replace(draft, content_sha256=content, frame_rate=rate, frames=per_segment), (per_segment, width)


def content_digest(frames: Frames) -> str:
    """Hexadecimal SHA-256 of the features of an utterance as float32, whatever file and type they were in."""
    valid = None if frames.valid is None else frames.valid.tolist()
    digest = hashlib.sha256(canonical_json([list(frames.values.shape), valid]).encode())
    digest.update(np.ascontiguousarray(frames.values, "<f4").data)
    return digest.hexdigest()


def _different_shapes(shapes: Mapping[str, tuple[int | None, int]]) -> list[str]:
    first = next(iter(shapes))
    words = {
        name: f"{width} values per frame"
        + (", of the whole utterance" if frames is None else f", in segments of {frames} frames")
        for name, (frames, width) in shapes.items()
    }
    return [
        f"utterance {name}: {words[name]}, but {first} has {words[first]}; extract all in the same way"
        for name in words
        if words[name] != words[first]
    ]


def _stored(path: Path, recipe: External, origins: Mapping[str, Origin]) -> int | None:
    """The number of segments of a shard that an earlier import wrote; None if there is none, or another."""
    try:
        shard = read_shard(path) if path.exists() else None
    except MfhcaError:
        return None  # damaged: it is written again
    same = shard is not None and shard.key == recipe.key and shard.origins() == dict(origins)
    return shard.shape[0] if shard is not None and same else None
