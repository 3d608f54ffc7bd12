"""Text, numbers and tables as HTML. Nothing here knows what a run is."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from typing import Any

from mfhca_train.results import percent


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def clean(text: str) -> str:
    """A text without what HTML and XML cannot hold: control characters and halves of characters.

    >>> clean("a\\x00b\\tc")
    'a�b c'
    """
    text = re.sub(r"\s", " ", text).encode("utf-8", "replace").decode()
    return re.sub("[\x00-\x1f\x7f-\x9f\ufffe\uffff]", "\ufffd", text)


def escaped(value: Any) -> str:
    """Any value as HTML text.

    >>> escaped("<b>"), escaped(Markup("<b>"))
    ('&lt;b&gt;', '<b>')
    """
    return str(value) if isinstance(value, Markup) else html.escape(clean(str(value)))


def names(found: Collection[str]) -> Markup:
    """Names with commas, escaped; a dash for none."""
    return Markup(escaped(", ".join(found)) or "–")


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "fold"), plural(1200, "fold")
    ('1 fold', '1,200 folds')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def per_cent(fraction: float | None) -> str:
    """A fraction as in the table of `cv`, without a sign; a dash for None.

    >>> per_cent(0.74241), per_cent(None)
    ('74.24', '–')
    """
    return "–" if fraction is None else percent(fraction).strip()


def interval(ends: Sequence[float] | None) -> str:
    """Two fractions, cut at 0 and 1, which a score cannot pass.

    >>> interval([0.5, 1.02]), interval(None)
    ('50.00 to 100.00', '–')
    """
    return "–" if ends is None else " to ".join(per_cent(min(max(end, 0.0), 1.0)) for end in ends)


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    foot: Sequence[Sequence[Any]] = (),
    numbers: Collection[int] = (),
    label: str = "",
    strong: Collection[int] = (),
) -> Markup:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        head: of the columns.
        rows, foot: cells, each row as long as the head; the first cell is the row's head.
        numbers: columns set to the right.
        label: what the table shows, for those who cannot see it.
        strong: rows of the foot to set in bold.
    """

    def line(cells: Sequence[Any], scope: str, bold: bool = False) -> str:
        parts = []
        for k, cell in enumerate(cells):
            kind = ' class="n"' if k in numbers else ""
            is_head = scope == "col" or k == 0
            tag = f'th scope="{scope}"' if is_head else "td"
            parts.append(f"<{tag}{kind}>{escaped(cell)}</{tag[:2]}>")
        return f"<tr{' class=strong' if bold else ''}>{''.join(parts)}</tr>"

    body = "\n".join(line(row, "row") for row in rows)
    feet = "\n".join(line(row, "row", k in strong) for k, row in enumerate(foot))
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label or "table")}"><table>'
        f"<thead>{line(head, 'col')}</thead>\n<tbody>\n{body}\n</tbody>"
        + (f"\n<tfoot>\n{feet}\n</tfoot>" if foot else "")
        + "</table></div>"
    )
