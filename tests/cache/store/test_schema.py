"""The shard format: file names, the seal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.store.schema import shard_name, speaker_of


@given(st.text(min_size=1))
def test_shard_name_is_reversible_and_safe(speaker: str) -> None:
    try:
        name = shard_name(speaker)
    except UnicodeEncodeError:  # lone surrogates are no text
        return
    assert speaker_of(name) == speaker
    assert "/" not in name
    assert name.count(".") == 1
    assert not name.startswith(".")
