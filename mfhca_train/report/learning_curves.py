"""The section with the learning curves of every network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import quantiles
from typing import Any

from mfhca_train.report.blocks import Figure, Picture
from mfhca_train.report.plots.curves import curve_picture, curves_picture
from mfhca_train.report.plots.svg import MOST_LINES
from mfhca_train.report.rows import mark_of
from mfhca_train.results.record import Record
from mfhca_train.results.schema import RowResults


def training(record: Record) -> dict[str, Any] | None:
    """Learning curves of every network."""
    if not record.networks:
        return None
    units = [fold for row in record.networks.values() for fold in row.folds]
    if record.single:
        pictures = _curves_of_row(record, record.single)
        names_of = {
            "loss": "Loss in training and validation",
            "wa": "WA in validation",
            "ua": "UA in validation",
        }
        figures = [Figure(picture, f"{names_of[key]} by epoch.") for key, picture in pictures.items()]
    else:
        limits = _common_limits(record)
        figures = []
        for name, row in record.networks.items():
            where, of_row = _selected_on(row), record.histories[name]
            picture = curves_picture(
                f"curves-{name}",
                row.marked_title,
                _losses(of_row, where),
                {where: [[100 * value for value in h["validation_ua"]] for h in of_row]},
                [fold.best_epoch for fold in row.folds],
                mark_of(row),
                limits,
            )
            figures.append(Figure(picture, f"{row.marked_title}: loss, and UA in {where}, by epoch."))
    most = max(len(row.folds) for row in record.networks.values())
    repeated = any(len(row.seeds) > 1 for row in record.networks.values())
    return {
        "figures": figures,
        "lines": most,
        "shaded": most > MOST_LINES,
        "several": len(units) > 1,
        "seeds": repeated,
    }


def _selected_on(row: RowResults) -> str:
    return "test speaker" if row.is_oracle else "validation"


def _curves_of_row(record: Record, row: RowResults) -> dict[str, Picture]:
    """Loss, WA and UA in a picture each; WA and UA have the same scale, so that they can be compared."""
    (histories,) = record.histories.values()
    best, where = [fold.best_epoch for fold in row.folds], _selected_on(row)
    pictures = {"loss": curve_picture("loss", "Loss (nats)", _losses(histories, where), best, mark_of(row))}
    curves = {
        key: [[100 * value for value in history[f"validation_{key}"]] for history in histories]
        for key in ("wa", "ua")
    }
    lowest = min(value for of_key in curves.values() for curve in of_key for value in curve)
    for key, of_key in curves.items():
        title, limits = f"{key.upper()} (%)", (max(0.0, lowest - 4), 102)
        pictures[key] = curve_picture(f"curve-{key}", title, {where: of_key}, best, mark_of(row), limits)
    return pictures


def _losses(histories: Sequence[Mapping[str, Sequence[float]]], where: str) -> dict[str, Sequence[Any]]:
    """The curves of every network by the name of the line."""
    return {
        "training": [h["train_loss"] for h in histories],
        where: [h["validation_loss"] for h in histories],
    }


def _common_limits(record: Record) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scales of loss and UA for all rows; a few networks that diverged must not flatten the others."""
    every = [history for of_row in record.histories.values() for history in of_row]
    losses = [v for h in every for v in (*h["train_loss"], *h["validation_loss"]) if isfinite(v)]
    lowest = min((100 * value for history in every for value in history["validation_ua"]), default=0.0)
    most = max(1.05 * quantiles(losses, n=50)[-1], 0.1) if len(losses) > 1 else 2.0
    return (0.0, most), (max(0.0, lowest - 4), 102.0)
