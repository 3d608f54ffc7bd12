"""Means, spreads and intervals over folds and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def fold_summary(values: Array) -> dict[str, Any]:
    """Mean and spread of one score.

    Args:
        values: (seeds, folds).

    Returns:
        `mean` over everything; `std` over folds (ddof 1) with seeds averaged first, None for one fold;
        `seed_std`, the deviation over seeds of the mean over folds (ddof 1), None for one seed; `ci95`,
        the t interval of the mean over folds, None for one fold.

    >>> summary = fold_summary(np.array([[0.5, 0.7]]))
    >>> round(summary["mean"], 6), round(summary["std"], 6), summary["seed_std"]
    (0.6, 0.141421, None)
    """
    from scipy.special import stdtrit

    per_fold = values.mean(axis=0)
    folds = len(per_fold)
    mean = float(per_fold.mean())
    std = float(per_fold.std(ddof=1)) if folds > 1 else None
    ci95 = None
    if std is not None:
        half = float(stdtrit(folds - 1, 0.975)) * std / np.sqrt(folds)
        ci95 = [float(mean - half), float(mean + half)]
    seeds = values.mean(axis=1)
    return {
        "mean": mean,
        "std": std,
        "seed_std": float(seeds.std(ddof=1)) if len(seeds) > 1 else None,
        "ci95": ci95,
    }


def speaker_bootstrap(
    confusions: Sequence[Array], score: Callable[[Array], float], draws: int = 2000, seed: int = 0
) -> list[float] | None:
    """An approximate 95 % interval of a pooled score: speakers are drawn with replacement.

    With the ten speakers of IEMOCAP this is rough, and says so wherever it is shown.

    Args:
        confusions: one (K, K) count matrix a speaker.
        score: of a summed matrix.

    Returns:
        [2.5 %, 97.5 %], or None for fewer than two speakers.
    """
    if len(confusions) < 2:
        return None
    stack = np.stack(confusions)
    generator = np.random.default_rng(seed)
    picks = generator.integers(0, len(stack), (draws, len(stack)))
    values = [score(stack[pick].sum(axis=0)) for pick in picks]
    low, high = np.quantile(values, [0.025, 0.975])
    return [float(low), float(high)]
