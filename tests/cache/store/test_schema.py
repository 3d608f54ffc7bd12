"""The shard format: file names, the seal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.store.schema import LONGEST_NAME, shard_name


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_shard_names_are_safe_and_as_different_as_the_speakers(one: str, other: str) -> None:
    try:
        names = [shard_name(one), shard_name(other)]
    except UnicodeEncodeError:  # lone surrogates are not text
        return
    assert (names[0] == names[1]) == (one == other)
    for name in names:
        assert "/" not in name
        assert name.count(".") == 1
        assert not name.startswith(".")
        assert len(name.encode()) <= LONGEST_NAME


def test_long_speakers_that_differ_at_their_end_have_different_names() -> None:
    assert len({shard_name("\u6f22" * 40 + end) for end in ("", "a", "b", "\u6f22")}) == 4
