"""Epochs that a run reported, against the histories it wrote."""

from __future__ import annotations

import csv
from pathlib import Path

from mfhca_train.training.epochs import Epoch

UnitKey = tuple[str, int, str]
Rows = list[dict[str, float]]


def reported(events: list[Epoch]) -> dict[UnitKey, Rows]:
    """The rows of history.csv by row, seed and fold, as the events give them, in their order."""
    found: dict[UnitKey, Rows] = {}
    for event in events:
        assert event.epoch <= event.epochs
        rows = found.setdefault((event.row, event.seed, event.fold), [])
        rows.append({"epoch": event.epoch, **event.scores})
    return found


def written(run: Path) -> dict[UnitKey, Rows]:
    """The same from the files of a finished run."""
    found = {}
    for path in run.glob("*/seed-*/fold-*/history.csv"):
        with open(path, newline="") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
        row, seed, fold = path.parts[-4:-1]
        found[row, int(seed.removeprefix("seed-")), fold.removeprefix("fold-")] = rows
    return found
