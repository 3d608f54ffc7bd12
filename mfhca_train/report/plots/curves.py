"""Learning curves and reliability diagrams; how pictures are drawn is in svg.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from math import ceil, isfinite
from statistics import median
from typing import TYPE_CHECKING

from mfhca_train.report.blocks import Picture
from mfhca_train.report.plots.svg import FIRST, MOST_LINES, MUTED, SECOND, canvas, short, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mfhca_train.results.probabilities import Calibration


def curve_picture(
    name: str,
    title: str,
    groups: Mapping[str, Sequence[Sequence[float]]],
    best: Sequence[int],
    mark: str,
    limits: tuple[float, float] | None = None,
) -> Picture:
    """One value over the epochs: a thin line for each unit, a thick one for their median.

    Args:
        name: of the picture, unique in the page.
        title: shown, with the unit.
        groups: one or two labels -> the curve of every unit, by epoch.
        best: the selected epoch of every unit, from 1; marked on the last group's lines.
        mark: as in confusion_picture.
        limits: of the value axis; by default those of the values.
    """
    with canvas(3.3, 2.5, mark) as figure:
        axes = figure.add_subplot()
        draw_curves(axes, groups, best, (FIRST, SECOND))
        if limits:
            axes.set_ylim(limits)
        axes.set_title(title)
        figure.legend(loc="outside lower left", ncols=3)
        description = "; ".join(
            f"{label}: median {median(first):.3g} after the first epoch"
            for label, curves in groups.items()
            for first in _by_epoch(curves, at_least=1)[:1]
        )
        return svg(figure, name, f"{title} over the epochs", description)


def curves_picture(
    name: str,
    title: str,
    losses: Mapping[str, Sequence[Sequence[float]]],
    scores: Mapping[str, Sequence[Sequence[float]]],
    best: Sequence[int],
    mark: str,
    limits: tuple[tuple[float, float], tuple[float, float]],
) -> Picture:
    """Losses and UA of one row over the epochs, in two panels.

    Args:
        name: of the picture, unique in the page.
        title: of the row.
        losses: "training" and what the epoch was selected on -> the curve of every unit, nats.
        scores: one label -> the curve of every unit, in %.
        best: the selected epoch of every unit, from 1.
        mark: as in confusion_picture.
        limits: of losses and scores, the same for all rows.
    """
    with canvas(3.5, 1.75, mark) as figure:
        left, right = figure.subplots(1, 2)
        draw_curves(left, losses, best, (FIRST, SECOND))
        draw_curves(right, scores, best, (SECOND,))
        for axes, words, bounds in ((left, "Loss (nats)", limits[0]), (right, "UA (%)", limits[1])):
            axes.set_title(words, fontsize=8)
            axes.set_ylim(bounds)
        last = {
            label: [curve[-1] for curve in curves if isfinite(curve[-1])] for label, curves in losses.items()
        }
        description = "; ".join(
            f"{label} loss {sum(values) / len(values):.3g} on average at the end"
            for label, values in last.items()
            if values
        )
        return svg(figure, name, f"Learning curves: {title}", description)


def reliability_picture(found: Calibration, title: str, mark: str, name: str) -> Picture:
    """How often the most probable class is right by its probability, above the share of utterances in each range.

    Args:
        found: of a row.
        title: of the row.
        mark: as in confusion_picture.
        name: of the picture, unique in the page.
    """
    with canvas(3.0, 3.0, mark) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        upper.plot([0, 100], [0, 100], ":", color=MUTED, linewidth=1.2)
        confidence = [100 * one.confidence for one in found.bins]
        upper.plot(confidence, [100 * one.accuracy for one in found.bins], "o-", color=FIRST, markersize=4)
        for one in found.bins:
            share = 100 * one.n / found.n
            lower.bar(50 * (one.low + one.high), share, 100 * (one.high - one.low) * 0.9, color=SECOND)
        upper.set_title(f"{short(title, 44)}: ECE {100 * found.ece:.1f}")
        upper.set_ylabel("right (%)")
        upper.set_ylim(0, 102)
        lower.set_ylabel("share (%)")
        lower.set_xlabel("probability of the most probable emotion (%)")
        lower.set_xlim(0, 102)
        for axes in (upper, lower):
            axes.grid(axis="y")
        description = "; ".join(
            f"probability {one.low:.0%} to {one.high:.0%}: {one.accuracy:.0%} of {one.n} right"
            for one in found.bins
        )
        return svg(figure, name, f"Reliability: {title}", description)


def draw_curves(
    axes: Axes, groups: Mapping[str, Sequence[Sequence[float]]], best: Sequence[int], colours: Sequence[str]
) -> None:
    """The curves of `curve_picture` in existing axes: solid in the first colour, dashed in SECOND."""
    for (label, curves), colour in zip(groups.items(), colours, strict=False):
        if len(curves) > MOST_LINES:
            _band(axes, curves, colour)
        elif len(curves) > 1:
            for curve in curves:
                axes.plot(range(1, len(curve) + 1), curve, color=colour, linewidth=0.6, alpha=0.5)
        middle = [median(values) for values in _by_epoch(curves, at_least=ceil(len(curves) / 2))]
        dash = "--" if colour == SECOND else "-"
        axes.plot(range(1, len(middle) + 1), middle, dash, color=colour, linewidth=1.8, label=label)
    curves, colour = list(groups.values())[-1], colours[len(groups) - 1]
    heights = [curve[epoch - 1] for curve, epoch in zip(curves, best, strict=True)]
    size = 3 if len(best) <= MOST_LINES else 1.5
    axes.plot(best, heights, "o", color=colour, markersize=size, label="selected epoch")
    axes.set_xlim(0, max(map(len, curves)) + 1)
    axes.locator_params(axis="x", integer=True)
    axes.grid(axis="y")
    axes.set_xlabel("epoch")


def _by_epoch(curves: Sequence[Sequence[float]], at_least: int) -> list[list[float]]:
    """The finite values of each epoch, as long as enough units are still training."""
    columns = ([v for v in values if v is not None and isfinite(v)] for values in zip_longest(*curves))
    epochs: list[list[float]] = []
    for column in columns:
        if len(column) < at_least:
            break
        epochs.append(column)
    return epochs


def _band(axes: Axes, curves: Sequence[Sequence[float]], colour: str) -> None:
    """The range of the middle 80 % of the units."""
    import numpy as np

    columns = _by_epoch(curves, at_least=ceil(len(curves) / 2))
    low, high = np.array([np.quantile(column, [0.1, 0.9]) for column in columns]).reshape(-1, 2).T
    axes.fill_between(range(1, len(columns) + 1), low, high, color=colour, alpha=0.2, linewidth=0)
