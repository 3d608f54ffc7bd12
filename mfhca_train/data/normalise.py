"""Scaling of features, estimated from the moments that the shards hold; the features themselves are not read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from mfhca_cache.store.reader import Features
from mfhca_train.data.batch import Affine, Array, Normaliser, on_device

SMALLEST_DEVIATION = 1e-5  # of a bin, below which it counts as constant


def estimate(features: Features, span: Array, method: str) -> Normaliser:
    """Scaling per bin from the valid frames of some utterances.

    Args:
        features: the open shards.
        span: (U, 4) of the utterances: shard, first row, number of segments, row in the shard's moments.
        method: "standard" (zero mean, unit deviation) or "minmax" (0 to 1).
    """

    def tables(name: str) -> Iterator[Array]:
        """The moments of these utterances, one shard at a time: all together may exceed the memory."""
        for shard in np.unique(span[:, 0]):
            yield features.moments(shard, name)[span[span[:, 0] == shard, 3]]

    if method == "minmax":
        low = np.min([table.min(axis=0) for table in tables("minimum")], axis=0)
        high = np.max([table.max(axis=0) for table in tables("maximum")], axis=0)
        return _normaliser(low, high - low)
    count = sum(int(features.shards[shard].count[row]) for shard, row in span[:, (0, 3)])
    mean = np.sum([table.sum(axis=0) for table in tables("sum")], axis=0) / count
    variance = np.sum([table.sum(axis=0) for table in tables("sum_squares")], axis=0) / count - mean**2
    return _normaliser(mean, np.sqrt(np.maximum(variance, 0)))


def estimate_per_speaker(features: Features, span: Array) -> tuple[Array, Array]:
    """Scale and shift to zero mean and unit deviation of each speaker: (S, F), or (S, M, F) of M layers.

    Args:
        features: the open shards, one per speaker.
        span: of all utterances of the corpus, labelled or not by a fold: labels are not used.
    """
    each = [
        estimate(features, span[span[:, 0] == shard], "standard") for shard in range(len(features.shards))
    ]
    return np.stack([n.scale for n in each]), np.stack([n.shift for n in each])


def estimate_per_corpus(
    features: Features, span: Array, corpora: Sequence[str], utterances: Array
) -> Normaliser:
    """Scaling to zero mean and unit deviation of each corpus, over its training utterances.

    A corpus that is not trained on, the test corpus of the protocol corpus, is scaled by all its utterances; labels are
    not used.

    Args:
        features: the open shards.
        span: (U, 4) of all utterances, see `estimate`.
        corpora: (U,) the corpus of each.
        utterances: indices; of training speakers.
    """
    of = np.array(corpora)
    names = sorted(set(corpora))
    each = []
    for name in names:
        own = utterances[of[utterances] == name]
        each.append(estimate(features, span[own] if len(own) else span[of == name], "standard"))
    return Normaliser(np.stack([n.scale for n in each]), np.stack([n.shift for n in each]), tuple(names))


def scaling_of_shards(
    normaliser: Normaliser, features: Features, span: Array, corpora: Sequence[str]
) -> tuple[Array, Array]:
    """Scale and shift of the corpus of each shard: (S, F), or (S, M, F) of M layers.

    Args:
        normaliser: of `estimate_per_corpus`.
        features: the open shards.
        span: (U, 4) of all utterances; those of a corpus that the normaliser does not know are its statistics.
        corpora: (S,) the corpus of each shard.
    """
    scaling = dict(zip(normaliser.corpora, zip(normaliser.scale, normaliser.shift, strict=True), strict=True))
    for name in {*corpora} - {*scaling}:
        own = [index for index, corpus in enumerate(corpora) if corpus == name]
        found = estimate(features, span[np.isin(span[:, 0], own)], "standard")
        scaling[name] = found.scale, found.shift
    scales, shifts = zip(*(scaling[name] for name in corpora), strict=True)
    return np.stack(scales), np.stack(shifts)


def estimate_from_frames(recordings: Iterable[Array]) -> Normaliser:
    """Scaling to zero mean and unit deviation over the frames of recordings that are in no shard.

    Args:
        recordings: each (T, F) or (M, T, F) of M layers, without padding.
    """
    count, sums, squares = 0, np.zeros(1), np.zeros(1)
    for frames in recordings:
        values = frames.astype(np.float64)
        count += values.shape[-2]
        sums = sums + values.sum(axis=-2)
        squares = squares + (values**2).sum(axis=-2)
    mean = sums / count
    return _normaliser(mean, np.sqrt(np.maximum(squares / count - mean**2, 0)))


def affine_of(
    networks: Sequence[Mapping[str, Normaliser | None]],
    recordings: Sequence[Mapping[str, tuple[Array, Array]]],
    device: str,
) -> list[Affine]:
    """Scale and shift of each network's inputs; an input that is normalised per speaker is, over these recordings.

    Args:
        networks: the scaling of each, by side; all have the same methods.
        recordings: of one speaker, by side: (S, T, F) or (S, M, T, F), and (S,) valid frames; else empty.
        device: of the tensors.
    """
    speaker = {
        side: estimate_from_frames(
            segment[..., :count, :] for one in recordings for segment, count in zip(*one[side], strict=True)
        )
        for side, normaliser in networks[0].items()
        if recordings and normaliser is not None and normaliser.per_speaker
    }
    return [on_device({**own, **speaker}, device) for own in networks]


def _normaliser(centre: Array, width: Array) -> Normaliser:
    """(x - centre) / width; a bin that is constant over these utterances becomes zero for everyone."""
    scale = np.where(width >= SMALLEST_DEVIATION, 1 / np.maximum(width, SMALLEST_DEVIATION), 0.0)
    return Normaliser(scale.astype(np.float32), (-centre * scale).astype(np.float32))
