"""What the log-probabilities of a row's networks show beyond its scores: the ensemble of seeds, and calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.typed import Fraction, Positive
from mfhca_train.results.metrics import Array, confusion_matrix, scores

BINS = 10  # of the reliability diagram, equally wide


class EnsembleScore(Struct, frozen=True, kw_only=True):
    """A score of the ensemble of seeds."""

    mean: Fraction  # over folds
    pooled: Fraction


class SeedEnsemble(Struct, frozen=True, kw_only=True):
    """Utterances scored by the mean log-probabilities over seeds."""

    seeds: Positive
    wa: EnsembleScore
    ua: EnsembleScore
    f1: EnsembleScore

    def score(self, name: str) -> EnsembleScore:
        """WA, UA or F1 by its key."""
        found: EnsembleScore = getattr(self, name)
        return found


class CalibrationBin(Struct, frozen=True, kw_only=True):
    """The test utterances whose most probable class has a probability above `low`, up to `high`."""

    low: Fraction
    high: Fraction
    n: Positive
    confidence: Fraction  # mean probability of the most probable class
    accuracy: Fraction  # how often it is right


class Calibration(Struct, frozen=True, kw_only=True):
    """How far probabilities can be trusted: those of test utterances, averaged over seeds."""

    n: Positive
    ece: Fraction  # expected calibration error
    confidence: Fraction
    accuracy: Fraction
    bins: tuple[CalibrationBin, ...]


def summary(
    units: Sequence[Mapping[str, Any]],
    predictions: Sequence[Sequence[Mapping[str, str]]],
    classes: Sequence[str],
) -> dict[str, Any]:
    """The entries `ensemble` and `calibration` of results.json.

    Args:
        units: result.json of each unit.
        predictions: rows of predictions.csv of each unit.
        classes: K names, in order.

    Returns:
        `ensemble` only with two seeds or more.
    """
    seeds = len({unit["seed"] for unit in units})
    folds = _by_fold(units, predictions, classes)
    several = {"ensemble": {"seeds": seeds, **_ensemble(folds, len(classes))}} if seeds > 1 else {}
    labels = np.concatenate([labels for labels, _ in folds])
    probabilities = np.concatenate([normalised(logp).mean(axis=0) for _, logp in folds])
    return several | {"calibration": calibration(labels, probabilities)}


def _by_fold(
    units: Sequence[Mapping[str, Any]],
    predictions: Sequence[Sequence[Mapping[str, str]]],
    classes: Sequence[str],
) -> list[tuple[Array, Array]]:
    """The labels (U,) of each fold's test utterances and their log-probabilities (seeds, U, K)."""
    index = {name: k for k, name in enumerate(classes)}
    folds: dict[str, dict[str, tuple[int, list[list[float]]]]] = {}
    for unit, rows in zip(units, predictions, strict=True):
        fold = folds.setdefault(unit["id"], {})
        for row in rows:
            try:
                label, logp = index[row["label"]], [float(row[f"logp_{name}"]) for name in classes]
                if not max(logp) < math.inf or math.isnan(sum(logp)):
                    raise ValueError("not a log-probability")
            except (KeyError, ValueError) as error:
                raise _damaged(unit["id"]) from error
            fold.setdefault(row["utterance"], (label, []))[1].append(logp)
    for name, fold in folds.items():
        if len({len(seeds) for _, seeds in fold.values()}) > 1:
            raise _damaged(name)
    return [
        (
            np.array([label for label, _ in fold.values()]),
            np.array([logp for _, logp in fold.values()]).transpose(1, 0, 2),
        )
        for fold in folds.values()
    ]


def _damaged(fold: str) -> MfhcaError:
    return MfhcaError(
        f"fold {fold}: its predictions.csv files do not have a label and probabilities of every test utterance; "
        "delete the fold and run cv again"
    )


def _ensemble(folds: Sequence[tuple[Array, Array]], count: int) -> dict[str, Any]:
    """Mean over folds and pooled value of each score; utterances scored by their mean log-probabilities over seeds."""
    confusions = [confusion_matrix(labels, logp.mean(axis=0).argmax(axis=1), count) for labels, logp in folds]
    pooled, each = scores(np.sum(confusions, axis=0)), [scores(confusion) for confusion in confusions]
    return {
        name: {
            "mean": float(np.mean([getattr(one, name) for one in each])),
            "pooled": float(getattr(pooled, name)),
        }
        for name in ("wa", "ua", "f1")
    }


def normalised(log_probabilities: Array) -> Array:
    """Probabilities: the exponentials over the last axis, scaled to sum to one.

    The mean of several log-probabilities does not belong to a distribution; scaling makes it one.

    >>> normalised(np.log([[0.2, 0.2]])).tolist()
    [[0.5, 0.5]]
    """
    exponentials = np.exp(log_probabilities - log_probabilities.max(axis=-1, keepdims=True))
    scaled: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return scaled


def calibration(labels: Array, probabilities: Array) -> dict[str, Any]:
    """How often the most probable class is right, compared with its probability (Guo et al., ICML 2017, eq. 3).

    Args:
        labels: (U,) classes.
        probabilities: (U, K), of test utterances.

    Returns:
        `n`; `ece`, the expected calibration error: the mean over bins of |accuracy - confidence|, weighted by the
        number of utterances; `confidence`, the mean probability of the most probable class; `accuracy`; and the
        same of each of BINS equally wide bins of the confidence that holds an utterance.

    >>> found = calibration(np.array([0, 1]), np.array([[0.95, 0.05], [0.85, 0.15]]))
    >>> round(found["ece"], 6), round(found["confidence"], 6), found["accuracy"]
    (0.45, 0.9, 0.5)
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = [
        {
            "low": k / BINS,
            "high": (k + 1) / BINS,
            "n": int((place == k).sum()),
            "confidence": float(confidence[place == k].mean()),
            "accuracy": float(right[place == k].mean()),
        }
        for k in np.unique(place).tolist()
    ]
    return {
        "n": len(labels),
        "ece": sum(b["n"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / len(labels),
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "bins": bins,
    }
