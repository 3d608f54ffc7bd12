"""The ensemble of a row's seeds: utterances scored by the mean of their log-probabilities over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.schema import SCORES


def summary(
    units: Sequence[Mapping[str, Any]],
    predictions: Sequence[Sequence[Mapping[str, str]]],
    classes: Sequence[str],
) -> dict[str, Any]:
    """The entry `ensemble` of results.json: the mean over folds and the pooled value of each score.

    Args:
        units: result.json of each unit.
        predictions: rows of predictions.csv of each unit.
        classes: K names, in order.

    Returns:
        Nothing for a single seed.
    """
    seeds = {unit["seed"] for unit in units}
    if len(seeds) < 2:
        return {}
    index = {name: k for k, name in enumerate(classes)}
    folds: dict[str, dict[str, tuple[int, list[list[float]]]]] = {}
    for unit, rows in zip(units, predictions, strict=True):
        fold = folds.setdefault(unit["id"], {})
        for row in rows:
            logp = [float(row[f"logp_{name}"]) for name in classes]
            fold.setdefault(row["utterance"], (index[row["label"]], []))[1].append(logp)
    confusions = []
    for fold in folds.values():
        labels = np.array([label for label, _ in fold.values()])
        guess = np.array([np.mean(logp, axis=0).argmax() for _, logp in fold.values()])
        confusions.append(confusion_matrix(labels, guess, len(classes)))
    pooled, each = scores(np.sum(confusions, axis=0)), [scores(confusion) for confusion in confusions]
    values = {
        name: {
            "mean": float(np.mean([getattr(one, name) for one in each])),
            "pooled": float(getattr(pooled, name)),
        }
        for name in SCORES
    }
    return {"ensemble": {"seeds": len(seeds), **values}}
