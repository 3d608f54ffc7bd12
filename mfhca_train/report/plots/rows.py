"""Pictures that compare the rows of an ablation; how they are drawn is in svg.py.

Each is as wide as a phone, with a row's label above its line, so that no letter becomes too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mfhca_train.report.blocks import Picture
from mfhca_train.report.plots.svg import FIRST, INK, LINE, MUTED, PAPER, SECOND, canvas, short, svg
from mfhca_train.report.text import points, points_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 3.5  # inches; 5.25 at most on the screen
LONGEST_TITLE = 44  # characters above a line
MOST_JOINED = 20  # folds; more lines from row to row cannot be followed
HIGH = 0.42  # inches for a row


@dataclass(frozen=True)
class Difference:
    """A row of `forest_picture`; all numbers are fractions.

    Attributes:
        title: of the row.
        value: its mean difference.
        ends: the 95 % interval; None for one speaker.
        each: of every speaker.
        significant: whether the difference passes the test.
    """

    title: str
    value: float
    ends: Sequence[float] | None
    each: Sequence[float]
    significant: bool


def forest_picture(name: str, title: str, rows: Sequence[Difference], zero: str) -> Picture:
    """Differences with their intervals, and those of every speaker below.

    Args:
        name: of the picture, unique in the page.
        title: for those who cannot see it.
        rows: from the top.
        zero: what the line at 0 stands for.
    """
    with canvas(WIDTH, 0.65 + HIGH * len(rows)) as figure:
        axes = figure.add_subplot(ylim=(len(rows) - 0.35, -0.75))
        axes.axvline(0, color=MUTED, linewidth=1)
        for at, row in enumerate(rows):
            colour, face = (SECOND, SECOND) if row.significant else (FIRST, "none")
            _title(axes, at, row.title)
            axes.plot([100 * v for v in row.each], [at + 0.3] * len(row.each), "|", color=MUTED, markersize=4)
            if row.ends:
                axes.plot([100 * end for end in row.ends], [at] * 2, color=colour, linewidth=1.4)
            marker = "s" if row.significant else "o"
            axes.plot(
                [100 * row.value], [at], marker, color=colour, markerfacecolor=face, markersize=5, zorder=3
            )
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel(f"percentage points; 0 is {zero}")
        _set_limits(axes, [100 * v for row in rows for v in (*row.each, *(row.ends or ()), 0.0)])
        description = "; ".join(
            f"{row.title}: {points(row.value)} (95 % {points_interval(row.ends)})" for row in rows
        )
        return svg(figure, name, title, description)


def strip_picture(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Mapping[str, float]]],
    what: str,
    chance: float | None = None,
) -> Picture:
    """The scores of every fold (or seed) of every row as dots, their mean as a bar; equal names are joined.

    Args:
        name: of the picture, unique in the page.
        title: for those who cannot see it.
        rows: title -> score of each fold by its name, fractions.
        what: one dot stands for, "fold" or "seed".
        chance: UA at chance level, a dotted line; None leaves it out.
    """
    everyone = list(dict.fromkeys(one for _, found in rows for one in found))
    with canvas(WIDTH, 0.65 + HIGH * len(rows)) as figure:
        axes = figure.add_subplot(ylim=(len(rows) - 0.35, -0.75))
        if len(everyone) <= MOST_JOINED:
            for one in everyone:
                places = [k for k, (_, found) in enumerate(rows) if one in found]
                axes.plot(
                    [100 * rows[k][1][one] for k in places], places, color=LINE, linewidth=0.7, zorder=1
                )
        for at, (label, found) in enumerate(rows):
            _title(axes, at, label)
            values = [100 * value for value in found.values()]
            axes.plot(values, [at] * len(values), "o", color=FIRST, alpha=0.65, markersize=3.5, zorder=2)
            mean = sum(values) / len(values)
            axes.plot([mean] * 2, [at - 0.2, at + 0.2], color=SECOND, linewidth=2, zorder=3)
        if chance is not None:
            axes.axvline(100 * chance, color=MUTED, linestyle=":", linewidth=1.2, zorder=0)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.set_xlabel("%" if chance is None else "%; dotted: chance level")
        at_chance = [] if chance is None else [100 * chance]
        _set_limits(axes, [*(100 * value for _, found in rows for value in found.values()), *at_chance])
        description = "; ".join(
            f"{label}: {what}s from {min(found.values()):.1%} to {max(found.values()):.1%}"
            for label, found in rows
        )
        return svg(figure, name, title, description)


def _title(axes: Axes, at: int, title: str) -> None:
    """A row's label, above its line, at the left edge."""
    where: Any = axes.get_yaxis_transform()
    back = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}
    style: Any = {"color": INK, "fontsize": 8, "va": "center", "bbox": back, "zorder": 4}
    axes.text(0.005, at - 0.38, short(title, LONGEST_TITLE), transform=where, **style)


def _set_limits(axes: Axes, values: Sequence[float]) -> None:
    """Limits with a margin, so that no dot lies on the edge."""
    low, high = min(values), max(values)
    margin = max(0.04 * (high - low), 0.5)
    axes.set_xlim(low - margin, high + margin)
