"""Renders the parts of a report as HTML; the templates call these methods. Nothing here knows what a run is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

from mfhca_train.report.blocks import AnyCell, Figure, Table, Tile, as_cell
from mfhca_train.report.text import clean

Caller = Callable[[], Any]  # the inner part of a {% call %} block


class Html:
    """Every method returns markup; a text that is not markup is escaped."""

    extension = "html"

    def __init__(self) -> None:
        self.shown: list[Figure] = []  # every figure so far

    @staticmethod
    def text(value: Any) -> Markup:
        """A value as HTML; Markup is HTML already.

        >>> Html.text("<b>")
        Markup('&lt;b&gt;')
        """
        return value if isinstance(value, Markup) else escape(clean(str(value)))

    @staticmethod
    def raw(value: str) -> Markup:
        """A text that is in this format already."""
        return Markup(value)

    def strong(self, value: Any) -> Markup:
        """In bold."""
        return Markup(f"<b>{self.text(value)}</b>")

    def code(self, value: Any) -> Markup:
        """In the letters of code."""
        return Markup(f"<code>{self.text(value)}</code>")

    def paragraph(self, kind: str = "", caller: Caller = str) -> Markup:
        """A paragraph; `kind` is a class of report.css. An empty one is left out."""
        text = _one_line(caller())
        of_kind = f' class="{kind}"' if kind else ""
        return Markup(f"<p{of_kind}>{text}</p>\n" if text else "")

    def banner(self, head: str, caller: Caller = str) -> Markup:
        """A warning that must not be missed."""
        return Markup(f'<p class="banner"><strong>{self.text(head)}</strong> {_one_line(caller())}</p>\n')

    def note(self, head: str, caller: Caller = str) -> Markup:
        """A remark."""
        return Markup(f'<p class="note"><strong>{self.text(head)}</strong> {_one_line(caller())}</p>\n')

    def heading(self, title: str) -> Markup:
        """Of a part of a section."""
        return Markup(f"<h3>{self.text(title)}</h3>\n")

    def items(self, caller: Caller) -> Markup:
        """A list of what `item` returns."""
        body = str(caller()).strip()
        return Markup(f"<ul>\n{body}\n</ul>\n" if body else "")

    def item(self, caller: Caller) -> Markup:
        """One entry of a list."""
        return Markup(f"<li>{_one_line(caller())}</li>\n")

    def folded(self, title: str, caller: Caller) -> Markup:
        """A part that opens on a click."""
        return Markup(f"<details><summary>{self.text(title)}</summary>\n{caller()}</details>\n")

    def command(self, line: str) -> Markup:
        """A command to copy; lines break between options, not after a hyphen within.

        >>> print(Html().command("cv --label-set a&b"), end="")
        <pre>cv <span>--label-set a&amp;b</span></pre>
        """
        options = re.sub(r"(?<!\S)--[a-z-]+(?: (?!--)\S+)?", r"<span>\g<0></span>", str(self.text(line)))
        return Markup(f"<pre>{options}</pre>\n")

    def show_tiles(self, tiles: Sequence[Tile]) -> Markup:
        """The numbers of the first screen, side by side."""
        parts = []
        for tile in tiles:
            lines = f"<p>{'<br>'.join(map(self.text, tile.lines))}</p>" if tile.lines else ""
            parts.append(
                f'<section class="tile"><h2>{self.text(tile.head)}</h2><p class="value">{self.text(tile.value)}</p>'
                f'{lines}<p class="small">{self.text(tile.meaning)}</p></section>'
            )
        return Markup('<div class="tiles">\n{}\n</div>\n').format(Markup("\n".join(parts)))

    def show_figures(self, figures: Sequence[Figure], wide: bool = False) -> Markup:
        """Pictures with their captions, side by side where there is room."""
        if not figures:
            return Markup("")
        self.shown += figures
        drawn = "\n".join(
            f"<figure>{figure.picture.svg}<figcaption>{self.text(figure.caption)}</figcaption></figure>"
            for figure in figures
        )
        if len(figures) == 1:
            return Markup(drawn + "\n")
        return Markup(f'<div class="panels{" two" if wide else ""}">\n{drawn}\n</div>\n')

    def show_table(self, table: Table) -> Markup:
        """A table that scrolls sideways where the screen is narrow; nothing where it has no rows."""
        if not table.rows:
            return Markup("")

        def line(cells: Sequence[AnyCell], scope: str, kind: str = "") -> str:
            parts = []
            for k, cell in enumerate(cells):
                of_number = ' class="n"' if k in table.numbers else ""
                tag = f'th scope="{scope}"' if scope == "col" or k == 0 else "td"
                parts.append(f"<{tag}{of_number}>{self._cell(cell)}</{tag[:2]}>")
            return f"<tr{kind}>{''.join(parts)}</tr>"

        body = "\n".join(
            line(row, "row", ' class="marked"' * (k in table.marked)) for k, row in enumerate(table.rows)
        )
        foot = "\n".join(
            line(row, "row", ' class="strong"' * (k in table.strong)) for k, row in enumerate(table.foot)
        )
        copied = "\n".join("\t".join(map(_plain, cells)) for cells in (table.head, *table.rows, *table.foot))
        wordy = " wordy" if table.wordy else ""
        return Markup(
            f'<div class="scroll{wordy}" role="region" tabindex="0" aria-label="{self.text(table.label)}"><table>'
            f"<thead>{line(table.head, 'col')}</thead>\n<tbody>\n{body}\n</tbody>"
            + (f"\n<tfoot>\n{foot}\n</tfoot>" if foot else "")
            + "</table></div>\n"
            + f'<details class="copy"><summary>Copy</summary><pre>{escape(copied)}</pre></details>\n'
        )

    def _cell(self, any_cell: AnyCell) -> Markup:
        cell = as_cell(any_cell)
        text = self.text(cell.text)
        text = self.code(text) if cell.code else text
        text = self.strong(text) if cell.strong else text
        if cell.bar is not None:
            text += Markup(f'<i class="bar"><i style="width:{100 * cell.bar:.1f}%"></i></i>')
        if cell.warning:
            text += Markup(' <span class="mark">{}</span>').format(self.text(cell.warning))
        if cell.tag:
            text += Markup(' <span class="tag">{}</span>').format(self.text(cell.tag))
        if cell.detail:
            text += Markup("<br><small>{}</small>").format(self.text(cell.detail))
        if cell.folded:
            text = Markup("<details><summary>{}</summary>{}</details>").format(text, self.text(cell.folded))
        return text


def _plain(any_cell: AnyCell) -> str:
    """A cell as spreadsheets read it, marks and details in parentheses."""
    cell = as_cell(any_cell)
    extra = [f"({part})" for part in (cell.warning, cell.tag, cell.detail, cell.folded) if part]
    return clean(" ".join([cell.text, *extra])).replace("−", "-").strip()


def _one_line(text: Any) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()
