"""How far classes and speakers lie apart among features: silhouettes, which are figures, and t-SNE, a picture.

scikit-learn is imported when something is computed.
"""

from __future__ import annotations

import warnings

import numpy as np

from mfhca_train.data.corpus import Array

PERPLEXITY = 30.0  # scikit-learn's; less for few points
SEED = 0


def silhouette(features: Array, groups: Array) -> float | None:
    """The mean silhouette: 1 where groups are far apart, 0 where they touch, below where they are mixed.

    With a, the mean distance of a point to its own group, and b, that to the nearest other one, a point has
    (b - a) / max(a, b), and one that is alone in its group 0. Distances are Euclidean.

    Args:
        features: (n, d).
        groups: (n,) whole numbers.

    Returns:
        -1 to 1; None if there are fewer than two groups, no more points than groups, or all points are the same.
    """
    from sklearn.metrics import silhouette_score

    count = len(np.unique(groups))
    if not 2 <= count < len(groups) or not np.ptp(features, axis=0).any():
        return None
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return float(silhouette_score(features.astype(np.float64), groups))


def tsne(features: Array) -> Array | None:
    """t-SNE to two dimensions: fixed seed, principal components first, one thread; equal input gives equal bits.

    Args:
        features: (n, d).

    Returns:
        (n, 2) float32; None for fewer than five points, or if nearly all are the same.
    """
    count = len(features)
    if count < 5 or min(features.shape) < 2 or len(np.unique(features, axis=0)) < 5:
        return None
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (count - 1) / 3)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of defaults that later versions change
        found = TSNE(perplexity=perplexity, init="pca", random_state=SEED, n_jobs=1).fit_transform(
            features.astype(np.float32)
        )
    return found.astype(np.float32) if np.isfinite(found).all() else None
