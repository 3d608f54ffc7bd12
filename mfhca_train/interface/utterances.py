"""Cached features as one vector per utterance, for scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_train.data.batch import Array
from mfhca_train.data.pooled import POOLINGS, pooled
from mfhca_train.interface.opening import open_corpus


class UtteranceFeatures(NamedTuple):
    """U utterances, in the order of the manifest.

    Attributes:
        X: (U, D) float64, not scaled.
        y: (U,) names of the classes.
        groups: (U,) ids of the speakers.
    """

    X: Array
    y: Array
    groups: Array


def utterance_features(
    manifest: str | Path,
    cache: str | Path,
    *,
    pooling: str = "mean",
    inputs: str = "ssl",
    label_set: str | None = None,
    spec: str | None = None,
    ssl: str | None = None,
    ssl_layer: int | str = "auto",
    accept_copies: bool = False,
) -> UtteranceFeatures:
    """Features pooled over all valid frames of each utterance, with classes and speakers, for scikit-learn.

    Args:
        manifest: the CSV file.
        cache: the cache folder.
        pooling: "mean", or "statistics": mean and standard deviation, in this order.
        inputs: "ssl" (hidden states), "spec" (spectrogram), or "both", the spectrogram first.
        label_set: a mapping from labels to classes; by default the corpus card's.
        spec, ssl: beginning of the name of a recipe, if the cache has several spectrograms or encoders.
        ssl_layer: one layer of the encoder; required if the cache has all.
        accept_copies: accept identical recordings under several speakers.

    Raises:
        MfhcaError: features are missing or do not fit the manifest, two speakers have the same recording, or an
            argument is wrong.
    """
    if pooling not in POOLINGS:
        raise MfhcaError(f"pooling: {pooling!r} does not exist; {did_you_mean(pooling, POOLINGS)}")
    _, corpus = open_corpus(manifest, cache, inputs, label_set, spec, ssl, ssl_layer, False, accept_copies)
    for side in corpus.features:
        if len(corpus.shape(side)) == 3:
            raise MfhcaError(
                f"{corpus.recipes[side].path}: has all layers; choose one of {corpus.shape(side)[0]} with ssl_layer"
            )
    return UtteranceFeatures(
        np.concatenate([pooled(corpus, side, pooling) for side in corpus.features], axis=1),
        np.array(corpus.classes)[corpus.labels],
        np.array([u.speaker for u in corpus.utterances]),
    )
