"""One vector per utterance, from the moments in the shards; the features themselves are not read."""

from __future__ import annotations

import numpy as np

from mfhca_train.data.batch import Array, Normaliser
from mfhca_train.data.corpus import Corpus

POOLINGS = ("mean", "statistics")


def pooled(corpus: Corpus, side: str, pooling: str, normaliser: Normaliser | None = None) -> Array:
    """Mean, and with "statistics" standard deviation, of each utterance's features over its valid frames.

    Args:
        corpus: U utterances with open features.
        side: "spec", "ssl" or "mfcc", of F values per frame; of a single layer.
        pooling: one of POOLINGS.
        normaliser: per speaker or per corpus, if the features are standardised first.

    Returns:
        (U, F) or (U, 2 F) float64.
    """
    features = corpus.features[side]
    scales, shifts = (None, None) if normaliser is None else corpus.scaling_of_shards(side, normaliser)
    rows: dict[str, Array] = {}
    for index, shard in enumerate(features.shards):
        count = np.maximum(shard.count, 1)[:, None]
        mean = features.moments(index, "sum") / count
        parts = [mean if scales is None or shifts is None else mean * scales[index] + shifts[index]]
        if pooling == "statistics":
            variance = features.moments(index, "sum_squares") / count - mean**2
            deviation = np.sqrt(np.maximum(variance, 0))
            parts.append(deviation if scales is None else deviation * scales[index])
        rows |= dict(zip(shard.utterance_ids, np.concatenate(parts, axis=1), strict=True))
    return np.stack([rows[u.utterance] for u in corpus.utterances])
