"""Normalisers equal statistics computed from the stored frames."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from corpus_factory import CLASSES, request, utterances

from mfhca_cache.manifest.card import LabelSet
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.data.normalise import estimate, estimate_per_speaker


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return request(tmp_path).cache


def open_corpus(cache: Path, rows: list | None = None, inputs: str = "both") -> Corpus:
    rows = utterances() if rows is None else rows
    return Corpus(choose_recipes(cache, inputs), rows, LabelSet("x", {c: c for c in CLASSES}))


def test_normalisers_equal_statistics_of_the_valid_frames_of_the_chosen_alone(cache: Path) -> None:
    with open_corpus(cache) as corpus:
        chosen = corpus.of_speakers(["s0", "s2"])
        segments = corpus.segments(chosen)
        for side in ("spec", "ssl"):
            rows = segments.rows[side]
            stored = corpus.features[side].gather(rows[:, 0], rows[:, 1])
            frames = np.concatenate(
                [s[:v] for s, v in zip(stored, segments.valid[side], strict=True)]
            ).astype(float)
            standard = corpus.normaliser(side, "standard", chosen)
            scaled = frames * standard.scale + standard.shift
            np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)
            minmax = corpus.normaliser(side, "minmax", chosen)
            scaled = frames * minmax.scale + minmax.shift
            np.testing.assert_allclose(scaled.min(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(scaled.max(axis=0), 1, atol=1e-5)
            assert corpus.normaliser(side, "none", chosen) is None


def test_each_speaker_s_own_statistics_give_it_zero_mean_and_unit_deviation(cache: Path) -> None:
    with open_corpus(cache) as corpus:
        features, segments = corpus.features["ssl"], corpus.segments(np.arange(len(corpus.utterances)))
        rows, valid = segments.rows["ssl"], segments.valid["ssl"]
        span = np.array(
            [
                (s, r, n, features.shards[s].utterance_ids.index(u.utterance))
                for u in corpus.utterances
                for s, r, n in [features.rows(u.utterance)]
            ]
        )
        scale, shift = estimate_per_speaker(features, span)
        assert scale.shape == shift.shape == (len(features.shards), features.frame_shape[-1])
        for shard in range(len(features.shards)):
            own = rows[:, 0] == shard
            stored = features.gather(rows[own, 0], rows[own, 1])
            frames = np.concatenate([s[:v] for s, v in zip(stored, valid[own], strict=True)]).astype(float)
            scaled = frames * scale[shard] + shift[shard]
            np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
            np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("method", ["standard", "minmax"])
def test_a_bin_that_is_constant_becomes_zero(method: str) -> None:
    """Two utterances of one frame each; the second bin has the value 3 in both."""
    frames = np.array([[1.0, 3.0], [5.0, 3.0]])
    moments = {"minimum": frames, "maximum": frames, "sum": frames, "sum_squares": frames**2}
    features = SimpleNamespace(
        shards=[SimpleNamespace(count=np.array([1, 1]))], moments=lambda _, name: moments[name]
    )
    found = estimate(features, np.array([[0, 0, 1, 0], [0, 1, 1, 1]]), method)  # type: ignore[arg-type]
    np.testing.assert_allclose(
        frames * found.scale + found.shift,
        {"standard": [[-1, 0], [1, 0]], "minmax": [[0, 0], [1, 0]]}[method],
        atol=1e-6,
    )
    assert found.scale[1] * 7 + found.shift[1] == 0  # for utterances with another value too
