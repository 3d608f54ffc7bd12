"""Speakers that a disk cannot tell apart by the names of their shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.build.shard_names import check_shard_names, ignores_case
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.store.schema import shard_name


def test_speakers_that_would_share_a_shard_are_refused_where_the_disk_ignores_case() -> None:
    speakers = ("Anna", "b", "anna", "c", "B")
    check_shard_names(speakers, Path("cache"), lambda _: False)
    check_shard_names(("Anna", "b", "c"), Path("cache"), lambda _: True)
    with pytest.raises(MfhcaError, match="cache: its disk ignores letter case") as raised:
        check_shard_names(speakers, Path("cache"), lambda _: True)
    assert "'Anna' and 'anna'" in str(raised.value)
    assert "'B' and 'b'" in str(raised.value)


@given(st.sets(st.text("aAbB\u00e9\u00c9./", min_size=1, max_size=3), min_size=2, max_size=6))
def test_it_refuses_exactly_when_two_file_names_are_equal_without_case(speakers: set[str]) -> None:
    names = {shard_name(speaker).casefold() for speaker in speakers}
    try:
        check_shard_names(speakers, Path("cache"), lambda _: True)
    except MfhcaError:
        assert len(names) < len(speakers)
    else:
        assert len(names) == len(speakers)


def test_the_disk_is_asked_only_if_names_are_alike_and_nothing_is_left_there(tmp_path: Path) -> None:
    (tmp_path / "Known").touch()
    assert ignores_case(tmp_path / "not/yet") == (tmp_path / "kNOWN").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["Known"]

    def never(folder: Path) -> bool:
        raise AssertionError(folder)

    check_shard_names(("a", "b"), tmp_path, never)
