"""The blocks of a report that are more than prose: tables and pictures. html.py and markdown.py render them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mfhca_train.results.record import RowLabel

if TYPE_CHECKING:
    from matplotlib.figure import Figure as DrawnFigure


@dataclass(frozen=True)
class Cell:
    """A table cell that is more than a text.

    Attributes:
        text: shown first.
        detail: a second line, in small letters.
        tag: a neutral mark after the text.
        warning: a mark after the text that must not be missed.
        strong, code: how the text is set.
        bar: a fraction drawn as a bar; such a column is left out of Markdown.
        folded: shown after a click on the text.
    """

    text: str
    detail: str = ""
    tag: str = ""
    warning: str = ""
    strong: bool = False
    code: bool = False
    bar: float | None = None
    folded: str = ""


AnyCell = Cell | RowLabel | str | int
Cells = list[AnyCell]  # of a row of a table


def as_cell(cell: AnyCell) -> Cell:
    """The cell with all its parts; every one but the text is empty where there is only a text."""
    if isinstance(cell, RowLabel):
        return Cell(cell.title, tag=cell.tag, warning=cell.warning)
    return cell if isinstance(cell, Cell) else Cell(str(cell))


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is the head of the row.

    Attributes:
        label: what the table shows, for those who cannot see it.
        head: of the columns.
        rows, foot: each as long as the head.
        numbers: columns aligned to the right.
        strong: rows of the foot set in bold.
        marked: rows set off from the others.
        wordy: the last column holds sentences.
    """

    label: str
    head: Sequence[AnyCell]
    rows: Sequence[Sequence[AnyCell]]
    foot: Sequence[Sequence[AnyCell]] = ()
    numbers: Collection[int] = ()
    strong: Collection[int] = ()
    marked: Collection[int] = ()
    wordy: bool = False


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG, and what it shows for those who cannot see it.

    Attributes:
        name: unique in the report; the name of its file.
        drawn: what matplotlib drew, to be saved in other formats.
    """

    title: str
    description: str
    svg: str
    name: str = ""
    drawn: DrawnFigure | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Figure:
    """A picture with a caption that can be read without the text around it."""

    picture: Picture
    caption: str


@dataclass(frozen=True)
class Tile:
    """A number of the first screen.

    Attributes:
        head: what it is.
        value: large.
        lines: below it.
        meaning: a sentence in small letters.
    """

    head: str
    value: str
    lines: Sequence[str]
    meaning: str
