"""Sizes and durations in words; CSV text is read back as it was written."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.text import CONTROL, csv_text, duration_text, from_cell, printable, size_text

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@given(st.integers(0, 10**15))
def test_a_size_is_right_within_its_last_digit(count: int) -> None:
    number, unit = size_text(count).split()
    assert abs(float(number) * UNITS[unit] - count) <= 0.0501 * UNITS[unit]


@given(st.integers(60, 10**7))
def test_a_duration_adds_up_to_its_seconds(seconds: int) -> None:
    parts = re.fullmatch(r"(?:(\d+) h )?(\d+) min (\d+) s", duration_text(seconds))
    assert parts is not None
    hours, minutes, rest = (int(part or 0) for part in parts.groups())
    assert hours * 3600 + minutes * 60 + rest == seconds
    assert max(minutes, rest) < 60


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 0 s")])
def test_durations_around_a_minute(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.text())
def test_printable_text_has_no_control_characters_and_changes_nothing_else(text: str) -> None:
    shown = printable(text)
    assert not CONTROL.search(shown)
    if not CONTROL.search(text):
        assert shown == text
    assert printable(shown) == shown


@pytest.mark.parametrize(
    "character", ["\x1b", "\x07", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\u200b", "\ufeff"]
)
def test_terminal_escapes_and_reordering_marks_are_shown_as_text(character: str) -> None:
    assert printable(f"a{character}b") == f"a{character.encode('unicode_escape').decode()}b"


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))


@given(st.lists(st.tuples(TEXT, st.floats(allow_nan=False), st.integers())))
def test_text_and_floats_are_read_back_exactly(rows: list[tuple[str, float, int]]) -> None:
    header, *found = csv.reader(io.StringIO(csv_text(["name", "logp", "frames"], rows), newline=""))
    assert header == ["name", "logp", "frames"]
    assert [(from_cell(name), float(logp), int(frames)) for name, logp, frames in found] == rows
    assert not [name for name, *_ in found if name[:1] in ("=", "+", "-", "@", "\t")]
