"""Scores of a set of utterances from its confusion matrix.

Always with an explicit number of classes: a class that is absent from the
reference is left out of the means and listed, and predictions of it are errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Scores:
    """Fractions from 0 to 1.

    Attributes:
        wa: weighted accuracy, the share of utterances that are right.
        ua: unweighted accuracy, the mean recall of the classes present in the reference.
        f1: macro F1, the mean over the classes present in the reference.
        recalls: of each class; None where it is absent.
    """

    wa: float
    ua: float
    f1: float
    recalls: tuple[float | None, ...]


def confusion_matrix(reference: Array, predicted: Array, classes: int) -> Array:
    """Counts, rows = reference, columns = prediction.

    Args:
        reference, predicted: (N,) integers in 0 .. classes - 1.
        classes: K.

    Returns:
        (K, K) int64.

    Raises:
        ValueError: shapes differ, or a label is out of range.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 3).tolist()
    [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    """
    reference, predicted = np.asarray(reference, np.int64), np.asarray(predicted, np.int64)
    if reference.shape != predicted.shape or reference.ndim != 1:
        raise ValueError(
            f"reference {reference.shape} and predicted {predicted.shape} must be equally long lists"
        )
    both = np.concatenate([reference, predicted])
    if both.size and (both.min() < 0 or both.max() >= classes):
        raise ValueError(f"labels must lie in 0..{classes - 1}")
    return np.bincount(reference * classes + predicted, minlength=classes**2).reshape(classes, classes)


def mean_over_segments(values: Array, utterance: Array, count: int) -> Array:
    """The mean of each utterance's segments, e.g. of their log-probabilities.

    Args:
        values: (N, d).
        utterance: (N,) index of each segment's utterance.
        count: U; each utterance has a segment.

    Returns:
        (U, d) float64. Exponentials of mean log-probabilities need not sum to one.

    >>> mean_over_segments(np.array([[1.0], [2.0], [4.0]]), np.array([0, 1, 1]), 2).tolist()
    [[1.0], [3.0]]
    """
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, utterance, values)
    return sums / np.bincount(utterance, minlength=count)[:, None]


def scores(confusion: Array) -> Scores:
    """WA = trace / total; UA = mean over present k of recall_k; F1_k = 2 TP / (row + column).

    Args:
        confusion: (K, K) counts, rows = reference.

    Raises:
        ValueError: it holds no utterance.

    >>> scores(np.array([[1, 1], [0, 0]]))
    Scores(wa=0.5, ua=0.5, f1=0.6666666666666666, recalls=(0.5, None))
    """
    total = int(confusion.sum())
    if total == 0:
        raise ValueError("no utterance to score")
    right, rows, columns = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = rows > 0
    recalls = right[present] / rows[present]
    f1 = 2 * right[present] / (rows[present] + columns[present])
    filled = iter(recalls.tolist())
    return Scores(
        wa=float(right.sum() / total),
        ua=float(recalls.mean()),
        f1=float(f1.mean()),
        recalls=tuple(next(filled) if is_present else None for is_present in present.tolist()),
    )


def score_of(name: str, confusion: Array) -> float:
    """One of the `scores` by its name."""
    return float(getattr(scores(confusion), name))
