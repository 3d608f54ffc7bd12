"""How well features separate classes and speakers: silhouettes, and t-SNE for a figure."""

from __future__ import annotations

import warnings

import numpy as np

from mfhca_train.data.batch import Array

PERPLEXITY = 30.0  # scikit-learn's default; less for few points
SEED = 0


def silhouette(features: Array, groups: Array) -> float | None:
    """The mean silhouette: 1 for groups far apart, 0 for groups that touch, negative for mixed groups.

    With the mean distance a of a point to its own group, and b to the nearest other group, its silhouette is
    (b - a) / max(a, b); 0 for a point alone in its group. Distances are Euclidean.

    Args:
        features: (n, d).
        groups: (n,) integers.

    Returns:
        -1 to 1; None if there are fewer than two groups, no more points than groups, or all points are equal.
    """
    from sklearn.metrics import silhouette_score  # takes more than a second to import

    count = len(np.unique(groups))
    if not 2 <= count < len(groups) or not np.ptp(features, axis=0).any():
        return None
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return float(silhouette_score(features.astype(np.float64), groups))


def tsne(features: Array) -> Array | None:
    """t-SNE to two dimensions, with a fixed seed, PCA initialisation and one thread: equal input gives equal bits.

    Args:
        features: (n, d).

    Returns:
        (n, 2) float32; None for fewer than five different points.
    """
    count = len(features)
    if count < 5 or min(features.shape) < 2 or len(np.unique(features, axis=0)) < 5:
        return None
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (count - 1) / 3)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about defaults that later versions change
        coordinates = TSNE(perplexity=perplexity, init="pca", random_state=SEED, n_jobs=1).fit_transform(
            features.astype(np.float32)
        )
    return coordinates.astype(np.float32) if np.isfinite(coordinates).all() else None
