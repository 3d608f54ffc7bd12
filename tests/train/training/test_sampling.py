"""The order of an epoch: each segment once by default, equal shares of groups where asked."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mfhca_train.training.sampling import epoch_order

segments = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=60)


def order(sampling: str, rows: list[tuple[int, str]], seed: int = 0) -> np.ndarray:
    labels, speakers = np.array([label for label, _ in rows]), [speaker for _, speaker in rows]
    return epoch_order(np.random.default_rng(seed), sampling, labels, speakers)


@given(segments, st.integers(0, 5))
def test_all_takes_each_segment_once_in_the_order_of_the_generator(rows: list, seed: int) -> None:
    expected = np.random.default_rng(seed).permutation(len(rows))
    np.testing.assert_array_equal(order("all", rows, seed), expected)


@given(segments, st.sampled_from(["class", "class-speaker"]), st.integers(0, 5))
@settings(deadline=None)
def test_groups_have_equal_shares_and_their_segments_too(rows: list, sampling: str, seed: int) -> None:
    drawn = order(sampling, rows, seed)
    assert len(drawn) == len(rows)
    key = (lambda row: row[0]) if sampling == "class" else (lambda row: row)
    shares = Counter(key(rows[i]) for i in drawn)
    groups = {key(row) for row in rows}
    counts = [shares[group] for group in groups]
    assert max(counts) - min(counts) <= 1
    times = Counter(drawn.tolist())
    for group in groups:
        own = [times[i] for i, row in enumerate(rows) if key(row) == group]
        assert max(own) - min(own) <= 1


def test_the_seed_decides() -> None:
    rows = [(i % 3, "ab"[i % 2]) for i in range(30)]
    np.testing.assert_array_equal(order("class", rows, 1), order("class", rows, 1))
    assert order("class", rows, 1).tolist() != order("class", rows, 2).tolist()
