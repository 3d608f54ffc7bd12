"""Tables that fit a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfhca_cache.common.columns import NARROWEST_NAME, Column, fitted, fitting, paragraph

TEXTS = st.text("abc xyz0123", min_size=1, max_size=30).map(lambda text: text.strip() or "0")
WIDTHS = (40, 60, 80, 120)


@st.composite
def tables(draw: st.DrawFn) -> list[Column]:
    """A column of names, one that is always shown, and others of any rank and group."""
    count = draw(st.integers(1, 4))
    cells = st.lists(TEXTS, min_size=count, max_size=count)
    others = st.builds(Column, TEXTS, cells, st.integers(1, 5), st.sampled_from(("", "p", "mean")))
    shown = Column("UA", draw(st.lists(st.just("50.00"), min_size=count, max_size=count)))
    return [Column("name", draw(cells), left=True), shown, *draw(st.lists(others, max_size=6))]


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=30)
@given(table=tables())
def test_lines_fit_and_hold_the_columns_of_the_lowest_ranks(width: int, table: list[Column]) -> None:
    assert all(len(line) <= width for line in fitted(table, width))
    kept = fitting(table, width)
    assert kept[:2] == table[:2]
    left_out = [column.rank for column in table if column not in kept]
    assert all(column.rank < min(left_out, default=9) for column in kept)
    if left_out:  # those of the next rank do not fit
        more = [column for column in table if column.rank <= min(left_out)]
        narrow = Column("name", ["x" * min(table[0].width, NARROWEST_NAME)] * len(more[0].cells), left=True)
        assert len(max(fitted([narrow, *more[1:]], None), key=len)) > width


@settings(max_examples=30)
@given(table=tables())
def test_without_a_limit_every_cell_is_shown(table: list[Column]) -> None:
    lines = fitted(table, None)
    assert len(lines) == 1 + any(column.group for column in table) + len(table[0].cells)
    for line, cells in zip(
        lines[-len(table[0].cells) :], zip(*(c.cells for c in table), strict=True), strict=True
    ):
        assert line.split() == " ".join(cells).split()


def test_wider_terminals_show_more() -> None:
    table = [Column("row", ["a"], left=True), *(Column(f"column {k}", ["1"], k) for k in range(9))]
    shown = [{column.head for column in fitting(table, width)} for width in WIDTHS]
    assert all(narrow < wide for narrow, wide in pairwise(shown[:3]))
    assert len(shown[3]) == 10


def test_what_is_left_out_is_named_by_group() -> None:
    numbers = [Column(name, ["1.00"], rank, group) for name, rank, group in (
        ("WA", 2, "mean"), ("UA", 0, "mean"), ("WA", 3, "pooled"), ("UA", 3, "pooled"), ("date", 4, "")
    )]  # fmt: skip
    lines = fitted(
        [Column("row", ["a name of three lines that goes on and on and on"], left=True), *numbers], 32
    )
    assert lines[1:4] == [
        "row                           UA",
        "a name of three lines that  1.00",
        "  goes on and on and on",
    ]
    assert " ".join(lines[4:]).startswith("left out at this width: date, mean (WA), pooled; pipe the")


def test_titles_of_groups_are_above_their_columns() -> None:
    table = [
        Column("row", ["a"], left=True),
        Column("WA", ["1"], 0, "a long title"),
        Column("UA", ["2"], 0, "a long title"),
    ]
    assert fitted(table, None) == ["     a long title", "row  WA        UA", "a     1         2"]


def test_notes_follow_their_lines() -> None:
    lines = fitted([Column("x", ["a", "b"], left=True)], 30, notes=["first, which has many words", "second"])
    assert lines == ["x", "a", "    first, which has many", "    words", "b", "    second"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert fitted([Column("x", ["a\x1b[31m"], left=True)], None)[1] == "a\\x1b[31m"


def test_paths_in_paragraphs_are_not_broken() -> None:
    path = "/a/very-long/path/of-a/report.html"
    assert paragraph(f"see {path} there", 30) == ["see", path, "there"]


def test_the_width_is_that_of_standard_output() -> None:
    """A terminal has one; a pipe has none."""
    script = "from mfhca_cache.common.columns import terminal_width; print(terminal_width())"
    piped = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert piped.stdout == "None\n"
    parent, child = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script], stdout=child, check=True, env=os.environ | {"COLUMNS": "63"}
    )
    assert re.match(rb"63\r?\n", os.read(parent, 100))
    os.close(parent)
    os.close(child)
