"""Tables for a terminal: columns that do not fit its width are left out, the least important first."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, zip_longest
from typing import Final

from mfhca_cache.common.text import printable

GAP: Final = "  "
NARROWEST_NAME: Final = 22  # characters of a name before it continues on the next line


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: above the cells.
        cells: one text per line of the table.
        rank: 0 for a column that is always shown; of the others the highest rank is left out first. Columns of equal
            rank are left out together.
        group: a common title above the heads of adjacent columns.
        left: whether texts are aligned on the left, as names are, and not on the right, as numbers are.
    """

    head: str
    cells: Sequence[str]
    rank: int = 0
    group: str = ""
    left: bool = False

    @property
    def width(self) -> int:
        """Characters of the widest cell."""
        return max(map(len, (self.head, *self.cells)))


def terminal_width() -> int | None:
    """Characters per line of standard output; None for a file or a pipe, which get every column."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def fitting(columns: Sequence[Column], width: int | None) -> list[Column]:
    """The columns that fit a width: those of the highest rank are left out first, but never those of rank 0."""
    kept = list(columns)
    while width is not None and _width(kept, min(columns[0].width, NARROWEST_NAME)) > width:
        highest = max(column.rank for column in kept)
        if not highest:
            break
        kept = [column for column in kept if column.rank < highest]
    return kept


def fitted(
    columns: Sequence[Column],
    width: int | None,
    elsewhere: str = "pipe the command through `less -S` to see them",
    notes: Sequence[str] = (),
) -> list[str]:
    """The lines of a table.

    Names of the first column continue on the next line where the terminal is narrow. A last line says which columns
    are left out.

    Args:
        columns: from left to right; the first holds the names of the lines.
        width: characters per line; None for no limit.
        elsewhere: where the columns that are left out can be seen, for the last line.
        notes: a text below each line, indented; none by default.
    """
    columns = [replace(column, cells=tuple(map(printable, column.cells))) for column in columns]
    kept = fitting(columns, width)
    longest = columns[0].width
    room = longest if width is None else width - _width(kept, 0)
    lines: list[str] = []
    parts = _lines(kept, min(longest, max(NARROWEST_NAME, room)))
    for part, note in zip_longest(parts, ("", *notes), fillvalue=""):
        lines += part
        lines += paragraph(note, width, "    ") if note else []
    if missing := _names([column for column in columns if column not in kept], columns):
        lines += paragraph(f"left out at this width: {', '.join(missing)}; {elsewhere}", width)
    return lines


def paragraph(text: str, width: int | None, indent: str = "") -> list[str]:
    """A text as lines that fit a width; long words, such as paths, are not broken."""
    if width is None:
        return [f"{indent}{text}"]
    usable = max(width, NARROWEST_NAME)
    return textwrap.wrap(
        text,
        usable,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _names(missing: Sequence[Column], columns: Sequence[Column]) -> list[str]:
    """Columns in a sentence: a title stands for all of its group."""
    heads: dict[str, list[str]] = {}
    for column in missing:
        heads.setdefault(column.group, []).append(column.head)
    names = heads.pop("", [])
    for group, own in heads.items():
        whole = sum(column.group == group for column in columns) == len(own)
        names.append(group if whole else f"{group} ({', '.join(own)})")
    return names


def _width(columns: Sequence[Column], name_width: int) -> int:
    """Characters of a line whose first cell has this width."""
    return name_width + sum(len(GAP) + width for width in _widths(columns)[1:])


def _widths(columns: Sequence[Column]) -> list[int]:
    """Characters of each column; the last one of a group makes room for the title of the group."""
    widths = [column.width for column in columns]
    for places in _groups(columns):
        widths[places[-1]] += max(0, len(columns[places[0]].group) - _span(widths, places))
    return widths


def _groups(columns: Sequence[Column]) -> list[list[int]]:
    """The places of adjacent columns with a title in common; a column without a title is alone."""
    return [list(places) for _, places in groupby(range(len(columns)), lambda k: columns[k].group or k)]


def _span(widths: Sequence[int], places: Sequence[int]) -> int:
    """Characters from the first to the last of these columns."""
    return sum(widths[k] for k in places) + len(GAP) * (len(places) - 1)


def _lines(columns: Sequence[Column], name_width: int) -> Iterator[list[str]]:
    """The heads, then each line of the table, on as many lines of text as they need."""
    widths = [name_width, *_widths(columns)[1:]]
    above = []
    if any(column.group for column in columns):
        titles = [columns[places[0]].group.center(_span(widths, places)) for places in _groups(columns)]
        above = [GAP.join(titles).rstrip()]
    for name, *cells in zip(*((column.head, *column.cells) for column in columns), strict=True):
        first, *rest = _wrapped(name, name_width)
        numbers = [
            cell.ljust(width) if column.left else cell.rjust(width)
            for cell, width, column in zip(cells, widths[1:], columns[1:], strict=True)
        ]
        yield [*above, GAP.join([first.ljust(name_width), *numbers]).rstrip(), *rest]
        above = []


def _wrapped(name: str, width: int) -> list[str]:
    """A name on as many lines as it needs; the indentation of the first holds for all, and the others have more."""
    indent = name[: len(name) - len(name.lstrip())]
    wrapped = textwrap.wrap(name.strip(), width, initial_indent=indent, subsequent_indent=f"{indent}  ")
    return wrapped if len(name) > width else [name]
