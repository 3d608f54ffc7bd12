"""Silhouettes against their definition, and t-SNE that repeats."""

from __future__ import annotations

import numpy as np

from mfhca_train.analysis.embedding import silhouette, tsne


def written_out(features: np.ndarray, groups: np.ndarray) -> float:
    """The mean of (b - a) / max(a, b) over all points, point by point."""
    values = []
    for i, x in enumerate(features):
        far = np.linalg.norm(features - x, axis=1)
        distance = {g: [far[j] for j in np.flatnonzero(groups == g) if j != i] for g in set(groups)}
        own = distance.pop(groups[i])
        a, b = np.mean(own) if own else 0.0, min(np.mean(d) for d in distance.values())
        values.append((b - a) / max(a, b) if own else 0.0)
    return float(np.mean(values))


def test_silhouette_agrees_with_its_definition() -> None:
    random = np.random.default_rng(0)
    groups = np.array([0, 0, 0, 1, 1, 2, 1, 2, 5])
    features = random.normal(size=(9, 6)) + groups[:, None]
    found = silhouette(features, groups)
    assert found is not None
    np.testing.assert_allclose(found, written_out(features, groups), rtol=1e-9)


def test_silhouette_is_none_where_it_says_nothing() -> None:
    points = np.arange(8.0).reshape(4, 2)
    assert silhouette(points, np.zeros(4)) is None
    assert silhouette(points, np.arange(4)) is None
    assert silhouette(np.ones((4, 2)), np.array([0, 0, 1, 1])) is None


def test_tsne_repeats_to_the_last_bit_and_keeps_neighbours() -> None:
    random = np.random.default_rng(1)
    features = np.concatenate([random.normal(0, 1, (20, 8)), random.normal(30, 1, (20, 8))])
    first, second = tsne(features), tsne(features)
    assert first is not None
    assert second is not None
    assert first.tobytes() == second.tobytes()
    halves = silhouette(first, np.repeat([0, 1], 20))
    assert halves is not None
    assert halves > 0.5


def test_features_that_are_all_the_same_have_no_picture() -> None:
    assert tsne(np.ones((30, 8))) is None
    assert tsne(np.random.default_rng(2).normal(size=(4, 8))) is None
