"""Markdown is the page's own text, whatever characters stand in it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from mfhca_train.report.html import Markup, escaped, table
from mfhca_train.report.markdown import markdown

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
BAR = re.compile(r"(?<!\\)(?:\\\\)*\|")


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), min_size=1, max_size=4))
def test_tables_keep_their_columns_whatever_stands_in_them(rows: list[list[str]]) -> None:
    text = markdown(table(["First", "Second"], rows))
    lines = text.rstrip("\n").split("\n")
    assert {len(BAR.findall(line)) for line in lines} in ({3}, {2})  # a column without any text is left out


@given(TEXT)
def test_no_text_becomes_markup(text: str) -> None:
    found = markdown(f"<p>{escaped(text)}</p>")
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>*`|\[\]]", found)
    plain = re.sub(r"\\(.)", r"\1", found)
    assert plain.split() == escaped_back(text).split()


def escaped_back(text: str) -> str:
    """The text as a browser would show it."""
    import html

    return html.unescape(escaped(text))


def test_every_element_of_a_report_has_its_form() -> None:
    page = (
        '<head><title>t</title><style>p { }</style></head><h1 id="a">T</h1><p class="banner"><strong>B</strong> c</p>'
        '<nav><a href="#a">skipped</a></nav><div class="tiles"><section class="tile"><h2>UA</h2>'
        '<p class="figure">1 %</p><p>a<br>b</p></section></div><h2>H</h2><ul><li>x</li><li>y</li></ul>'
        "<figure><svg><title>P</title><desc>d</desc><g><text>no</text></g></svg>"
        "<figcaption>C</figcaption></figure><pre>one\n two</pre><details><summary>More</summary>"
        "<p>1. z</p></details>"
    )
    assert markdown(page).split("\n\n") == [
        "# T",
        "> **B** c",
        "**UA:** 1 %. a; b",
        "## H",
        "- x\n- y",
        "*Picture (see report.html): P. d.*",
        "C",
        "```\none\n two\n```",
        "**More**",
        "\\1. z\n",
    ]


def test_marks_and_second_lines_of_cells_stand_in_brackets() -> None:
    cell = Markup('Row <span class="tag">reference</span>')
    text = markdown(table(["Row", "UA"], [[cell, Markup("1.0<br><small>0 to 2</small>")]], numbers=(1,)))
    assert text == "| Row | UA |\n| --- | ---: |\n| Row (reference) | 1.0 (0 to 2) |\n"
