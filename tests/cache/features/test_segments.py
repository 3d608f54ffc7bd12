"""mfhca_cache.features.segments: dividing an utterance into segments."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.segments import cut, cut_blocks, segment_count

RATE = 16_000


@given(
    samples=st.integers(1, 60),
    segment=st.integers(1, 20),
    tail=st.sampled_from(["pad", "overlap", "drop"]),
    minimum=st.integers(0, 25),
)
def test_segments_keep_the_promises_of_their_tail_rule(
    samples: int, segment: int, tail: str, minimum: int
) -> None:
    x = np.arange(1, samples + 1, dtype=np.float32)
    segments, lengths = cut(x, segment, tail, minimum)
    assert segments.shape == (len(lengths), segment)
    assert len(lengths) == segment_count(samples, segment, tail, minimum) >= 1
    for row, count in zip(segments, lengths, strict=True):
        assert 1 <= count <= segment
        assert np.all(row[:count] > 0)
        assert np.all(row[count:] == 0)
        np.testing.assert_array_equal(np.diff(row[:count]), 1)  # consecutive samples
    whole = samples // segment
    np.testing.assert_array_equal(segments[:whole].ravel(), x[: whole * segment])
    if tail == "pad" and (samples % segment >= minimum or samples < segment):
        np.testing.assert_array_equal(
            np.concatenate([r[:n] for r, n in zip(segments, lengths, strict=True)]), x
        )
    if tail == "overlap" and samples >= segment and samples % segment >= minimum:
        assert segments[-1, -1] == samples
        assert np.all(lengths == segment)
    if tail == "drop" and samples >= segment:
        assert len(lengths) == whole


@given(
    blocks=st.lists(st.integers(0, 50), max_size=8).filter(any),
    segment=st.integers(1, 20),
    tail=st.sampled_from(["pad", "overlap", "drop"]),
    minimum=st.integers(0, 25),
    most=st.integers(1, 4),
)
def test_blocks_give_the_segments_of_the_whole_a_few_at_a_time(
    blocks: list[int], segment: int, tail: str, minimum: int, most: int
) -> None:
    x = np.arange(1, sum(blocks) + 1, dtype=np.float32)

    def samples() -> Generator[np.ndarray, None, str]:
        yield from np.split(x, np.cumsum(blocks)[:-1])
        return "all"

    pieces = list(cut_blocks(samples(), segment, tail, minimum, most))
    expected, lengths = cut(x, segment, tail, minimum)
    np.testing.assert_array_equal(np.concatenate([piece for piece, _, _ in pieces]), expected)
    np.testing.assert_array_equal(np.concatenate([real for _, real, _ in pieces]), lengths)
    assert [returned for _, _, returned in pieces] == [None] * (len(pieces) - 1) + ["all"]
    assert all(len(piece) == most for piece, _, _ in pieces[:-1])
    assert len(pieces[-1][0]) <= most + 1


@pytest.mark.parametrize("tail", ["pad", "overlap", "drop"])
@pytest.mark.parametrize("whole", [1, 2, 5])
def test_utterance_of_whole_segments_gains_no_empty_one(tail: str, whole: int) -> None:
    segments, lengths = cut(np.ones(whole * 48_000, dtype=np.float32), 48_000, tail)
    assert len(segments) == whole
    assert lengths.tolist() == [48_000] * whole


@pytest.mark.parametrize(("samples", "count", "last"), [(160, 1, 160), (34 * RATE, 12, 16_000)])
def test_very_short_and_very_long_utterances_are_kept_whole(samples: int, count: int, last: int) -> None:
    segments, lengths = cut(np.ones(samples, dtype=np.float32), 48_000)
    assert (len(segments), int(lengths[-1])) == (count, last)
    assert segments.sum() == samples


def test_unknown_tail_rule_is_refused() -> None:
    with pytest.raises(MfhcaError, match="tail rule 'mirror' is unknown"):
        cut(np.ones(5, dtype=np.float32), 2, "mirror")
