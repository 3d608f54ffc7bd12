"""Text, numbers and tables as HTML. Nothing here knows what a run is."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Sequence
from typing import Any

from mfhca_train.results.summary import percent


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


def points(fraction: float) -> str:
    """A difference of scores in points of a per cent, with its sign.

    >>> points(0.0312), points(-0.005), points(0.0)
    ('+3.12', '−0.50', '0.00')
    """
    text = f"{100 * fraction:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def points_interval(ends: Sequence[float] | None) -> str:
    """Both ends of the interval of a difference.

    >>> points_interval([-0.05, 0.012]), points_interval(None)
    ('−5.00 to +1.20', '–')
    """
    return "–" if ends is None else " to ".join(map(points, ends))


def p_value(p: float) -> str:
    """A p value with as many digits as are worth reading.

    >>> p_value(0.03125), p_value(0.00001)
    ('0.0312', '< 0.0001')
    """
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    foot: Sequence[Sequence[Any]] = (),
    numbers: Collection[int] = (),
    label: str = "",
    strong: Collection[int] = (),
    marked: Collection[int] = (),
) -> Markup:
    """A table that scrolls sideways where the screen is narrow.

    Args:
        head: of the columns.
        rows, foot: cells, each row as long as the head; the first cell is the row's head.
        numbers: columns set to the right.
        label: what the table shows, for those who cannot see it.
        strong: rows of the foot to set in bold.
        marked: rows to set off from the others.
    """

    def line(cells: Sequence[Any], scope: str, kind_of_row: str = "") -> str:
        parts = []
        for k, cell in enumerate(cells):
            kind = ' class="n"' if k in numbers else ""
            is_head = scope == "col" or k == 0
            tag = f'th scope="{scope}"' if is_head else "td"
            parts.append(f"<{tag}{kind}>{escaped(cell)}</{tag[:2]}>")
        return f"<tr{kind_of_row}>{''.join(parts)}</tr>"

    body = "\n".join(line(row, "row", " class=marked" * (k in marked)) for k, row in enumerate(rows))
    feet = "\n".join(line(row, "row", " class=strong" * (k in strong)) for k, row in enumerate(foot))
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(label or "table")}"><table>'
        f"<thead>{line(head, 'col')}</thead>\n<tbody>\n{body}\n</tbody>"
        + (f"\n<tfoot>\n{feet}\n</tfoot>" if foot else "")
        + "</table></div>"
    )
