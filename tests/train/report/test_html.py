"""HTML shows the text of the blocks, whatever characters are in it, and every tag is closed."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from run_factory import Page

from mfhca_train.report.blocks import Cell, Figure, Picture, Table, Tile
from mfhca_train.report.html import Html
from mfhca_train.report.text import clean

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
SHOW = Html()


def read(html: str, folder: Path) -> Page:
    (folder / "page.html").write_text(html, encoding="utf-8")
    return Page(folder / "page.html")


@given(text=TEXT)
def test_any_text_is_shown_and_none_becomes_markup(text: str, tmp_path_factory: object) -> None:
    folder = tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    table = Table(text, [text], [[Cell(text, detail=text, tag=text, warning=text, strong=True, folded=text)]])
    picture = Picture("", "", "<svg></svg>")
    blocks = [
        SHOW.show_table(table),
        SHOW.paragraph(caller=lambda: SHOW.strong(text)),
        SHOW.banner(text, lambda: SHOW.code(text)),
        SHOW.folded(text, lambda: SHOW.heading(text) + SHOW.command(text)),
        SHOW.show_tiles([Tile(text, text, [text], text)]),
        SHOW.show_figures([Figure(picture, text), Figure(picture, text)]),
    ]
    page = read("".join(blocks), folder)
    known = {
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "b",
        "span",
        "br",
        "small",
        "details",
        "summary",
        "p",
    }
    known |= {"strong", "code", "h2", "h3", "pre", "section", "figure", "figcaption", "svg"}
    assert {tag for tag, _, _ in page.attributes} <= known
    shown = "".join(clean(text).split())
    assert "".join(page.text.split()).count(shown) >= 14


def test_tables_name_their_heads_and_mark_rows(tmp_path: Path) -> None:
    table = Table("t", ["Row", "UA"], [["a", 1], ["b", 2]], [["mean", 3]], (1,), strong=(0,), marked=(1,))
    html = SHOW.show_table(table)
    page = read(html, tmp_path)
    assert page.tables == [[["Row", "UA"], ["a", "1"], ["b", "2"], ["mean", "3"]]]
    assert html.count('scope="col"') == 2
    assert html.count('scope="row"') == 3
    assert '<tr class="marked"><th scope="row">b' in html
    assert '<tr class="strong"><th scope="row">mean' in html
    assert html.count('class="n"') == 4
    assert 'aria-label="t"' in html


def test_empty_blocks_are_left_out() -> None:
    assert SHOW.show_table(Table("t", ["A"], [])) == ""
    assert SHOW.show_figures([]) == ""
    assert SHOW.paragraph(caller=lambda: "  ") == ""
    assert SHOW.items(lambda: "") == ""
