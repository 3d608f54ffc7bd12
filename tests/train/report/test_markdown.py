"""Markdown shows the text of the blocks, whatever characters are in it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mfhca_train.report.blocks import Cell, Figure, Picture, Table, Tile
from mfhca_train.report.markdown import Markdown
from mfhca_train.report.text import clean

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
BAR = re.compile(r"(?<!\\)(?:\\\\)*\|")
SHOW = Markdown()


@given(st.lists(st.tuples(TEXT, TEXT, st.booleans()), min_size=1, max_size=4))
def test_tables_keep_their_columns_whatever_text_they_hold(rows: list[tuple[str, str, bool]]) -> None:
    cells = [[first, Cell(second, detail=first, code=code)] for first, second, code in rows]
    lines = SHOW.show_table(Table("any", ["First", "Second"], cells)).rstrip("\n").split("\n")
    assert len(lines) == len(rows) + 2
    assert {len(BAR.findall(re.sub(r"``*[^`]*``*", "", line))) for line in lines} == {3}


@given(TEXT)
def test_no_text_becomes_markup(text: str) -> None:
    shown = SHOW.paragraph(caller=lambda: SHOW.text(text))
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>*`|\[\]]", shown)
    assert re.sub(r"\\(.)", r"\1", str(shown)).split() == clean(text).split()


@given(TEXT)
def test_code_can_hold_any_text(text: str) -> None:
    shown = SHOW.code(text)
    fence = re.match("`+", shown)
    assert fence
    assert fence[0] not in shown[len(fence[0]) : -len(fence[0])]
    assert clean(text) in shown


def test_every_block_has_its_form() -> None:
    picture = Picture("P", "d", "<svg></svg>")
    for block, text in (
        (SHOW.banner("B", lambda: "c"), "> **B** c\n\n"),
        (SHOW.paragraph(caller=lambda: "1. z"), "\\1. z\n\n"),
        (SHOW.paragraph(caller=str), ""),
        (SHOW.items(lambda: SHOW.item(lambda: " x\n y ") + SHOW.item(lambda: "z")), "- x y\n- z\n\n"),
        (SHOW.command("one"), "```\none\n```\n\n"),
        (SHOW.folded("More", lambda: SHOW.heading("T")), "**More**\n\n### T\n\n"),
        (SHOW.show_tiles([Tile("UA", "1 %", ["a", "b"], "m.")]), "**UA:** 1 %. a; b. m.\n\n"),
        (SHOW.show_figures([Figure(picture, "C")]), "*Picture (see report.html): P. d.*\n\nC\n\n"),
        (SHOW.show_table(Table("empty", ["A"], [])), ""),
    ):
        assert block == text


def test_marks_and_second_lines_of_cells_are_in_brackets_and_bars_are_left_out() -> None:
    rows = [[Cell("Row", tag="reference"), Cell("1.0", detail="0 to 2"), Cell("", bar=0.5)]]
    foot = [["mean", "1.0", ""]]
    text = SHOW.show_table(Table("t", ["Row", "UA", ""], rows, foot, numbers=(1,), strong=(0,)))
    assert text == (
        "| Row | UA |\n| --- | ---: |\n| Row (reference) | 1.0 (0 to 2) |\n| **mean** | **1.0** |\n\n"
    )
    assert "Row (oracle): a, b" in SHOW.show_table(
        Table("t", ["R"], [[Cell("Row", warning="oracle", folded="a, b")]])
    )
