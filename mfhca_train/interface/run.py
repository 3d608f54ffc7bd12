"""A finished run in Python: scores, confusion, predictions and learning curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.text import plural
from mfhca_train.data.batch import Array
from mfhca_train.interface.table import Table
from mfhca_train.report.terminal import table
from mfhca_train.report.text import mean_sd, score
from mfhca_train.results.checksums import identity_digest, read_sealed
from mfhca_train.results.history import CURVES
from mfhca_train.results.record import read_record
from mfhca_train.results.schema import (
    RESULTS_FILE,
    SCORES,
    AblationResults,
    FoldResult,
    RowResults,
    Score,
    unit_folder,
)
from mfhca_train.results.summary import read_units

ORACLE = "oracle: the epoch was selected on the test speaker"


@dataclass(frozen=True)
class RunRow:
    """The results of one row of a run: the network of a cross-validation, or a row of an ablation. K classes.

    Attributes:
        run: the run folder.
        name: of the row.
        results: its entry in results.json, with all fields.
        history: the learning curves, one row per fold, seed and epoch: `fold`, `seed`, `epoch`, `train_loss`,
            `validation_loss` (nats), `validation_wa`, `validation_ua` (0 to 1). Empty for a row without a network.
    """

    run: Path
    name: str
    results: RowResults
    history: Table
    _identity: str = field(repr=False)

    @property
    def scores(self) -> dict[str, Score]:
        """By "wa", "ua" and "f1": `mean`, `std`, `ci95`, `pooled` and others, as fractions from 0 to 1."""
        return {name: self.results.score(name) for name in SCORES}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of `confusion` and `log_probabilities`."""
        return self.results.classes

    @property
    def confusion(self) -> Array:
        """(K, K) counts of utterances over all folds and seeds; rows are the reference."""
        return np.array(self.results.confusion, np.int64)

    @property
    def folds(self) -> tuple[FoldResult, ...]:
        """The results of every fold and seed."""
        return self.results.folds

    @cached_property
    def predictions(self) -> Table:
        """One row per test utterance and seed: `fold`, `seed`, `utterance`, `speaker`, `label`, `prediction`, and
        `logp_` with the name of each class, its log-probability.

        Raises:
            MfhcaError: a file was changed after the run had been loaded.
        """
        folders = [unit_folder(self.run, self.name, fold.seed, fold.id) for fold in self.folds]
        units = read_units(folders, self._identity, self.classes)
        pairs = [
            (fold, row) for fold, unit in zip(self.folds, units, strict=True) for row in unit.predictions
        ]
        texts: dict[str, list[Any]] = {
            name: [row[name] for _, row in pairs] for name in ("utterance", "speaker", "label", "prediction")
        }
        numbers = {f"logp_{name}": [float(row[f"logp_{name}"]) for _, row in pairs] for name in self.classes}
        own: dict[str, list[Any]] = {
            "fold": [fold.id for fold, _ in pairs],
            "seed": [fold.seed for fold, _ in pairs],
        }
        return Table({**own, **texts, **numbers})

    @property
    def log_probabilities(self) -> Array:
        """(N, K) of the N rows of `predictions`."""
        return np.stack([self.predictions[f"logp_{name}"] for name in self.classes], axis=1)

    def __repr__(self) -> str:
        found = ", ".join(f"{name.upper()} {score(one.mean)} %" for name, one in self.scores.items())
        return f"RunRow {self.name!r}: {found}{f' ({ORACLE})' if self.results.is_oracle else ''}"


@dataclass(frozen=True)
class Run:
    """A finished run. `print` shows the table of the commands, a notebook a short one.

    `run["mf"]` is a row of an ablation. A cross-validation has one row, whose attributes the run has, too.

    Attributes:
        path: the run folder.
        rows: by name, in the order of the grid.
        results: results.json; a cross-validation is in the form of an ablation with one row.
    """

    path: Path
    rows: Mapping[str, RunRow]
    results: AblationResults

    def __getitem__(self, name: str) -> RunRow:
        if name not in self.rows:
            raise MfhcaError(f"{self.path}: no row {name!r}; {did_you_mean(str(name), self.rows)}")
        return self.rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def row(self) -> RunRow:
        """The row of a cross-validation.

        Raises:
            MfhcaError: this is an ablation; its rows are listed.
        """
        if self.results.grid:
            names = list(self.rows)
            raise MfhcaError(
                f"{self.path}: an ablation; choose a row, e.g. run[{names[0]!r}].scores; there are: {', '.join(names)}"
            )
        return next(iter(self.rows.values()))

    @property
    def scores(self) -> dict[str, Score]:
        """See `RunRow.scores`; of a cross-validation."""
        return self.row.scores

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in order."""
        return self.results.classes

    @property
    def confusion(self) -> Array:
        """See `RunRow.confusion`; of a cross-validation."""
        return self.row.confusion

    @property
    def predictions(self) -> Table:
        """See `RunRow.predictions`; of a cross-validation."""
        return self.row.predictions

    @property
    def history(self) -> Table:
        """See `RunRow.history`; of a cross-validation."""
        return self.row.history

    def __str__(self) -> str:
        return table(read_sealed(self.path / RESULTS_FILE))

    def __repr__(self) -> str:
        rows = list(self.rows.values())
        text = repr(rows[0]).partition(": ")[2] if len(rows) == 1 else plural(len(rows), "row")
        return f"Run '{self.path}' ({self.results.corpus}, {self.results.protocol}): {text}"

    def _repr_html_(self) -> str:
        """Scores of all rows in %, and the confusion of a cross-validation, for notebooks."""
        found = self.results
        lines = [f"<p><b>{escape(found.title)}</b>, protocol {escape(found.protocol)}</p>"]
        if found.corpus == "demo":
            lines.append("<p><b>Demonstration: these scores mean nothing.</b></p>")
        head = ["", *(f"{name.upper()}, %" for name in SCORES), "folds", "seeds"]
        body = [
            [
                (row.results.title if found.grid else name)
                + (f" ({ORACLE})" if row.results.is_oracle else ""),
                *map(mean_sd, row.scores.values()),
                str(row.results.n_folds),
                str(len(row.results.seeds)),
            ]
            for name, row in self.rows.items()
        ]
        lines.append(_html_table(head, body))
        if not found.grid:
            lines.append("<p>Confusion in utterances; rows are the reference.</p>")
            counts = [
                [name, *map(str, line)]
                for name, line in zip(self.classes, self.confusion.tolist(), strict=True)
            ]
            lines.append(_html_table(["", *self.classes], counts))
        return "\n".join(lines)


def load_run(folder: str | Path) -> Run:
    """Reads the folder of a finished `cross_validate` or `ablate`, or of the commands `cv` and `ablate`.

    Args:
        folder: the run folder.

    Raises:
        MfhcaError: the run is not finished, or a file is missing, damaged or contradicts another.
    """
    path = Path(folder)
    record = read_record(path)
    rows = {
        name: RunRow(
            path,
            name,
            row,
            _history(row.folds, record.histories.get(name, ())),
            identity_digest(record.about.rows[name]),
        )
        for name, row in record.rows.items()
    }
    return Run(path, rows, record.results)


def _history(folds: Sequence[FoldResult], histories: Sequence[Mapping[str, Sequence[float]]]) -> Table:
    """The learning curves of all folds below each other; `histories` is empty without a network."""
    columns: dict[str, list[Any]] = {name: [] for name in ("fold", "seed", "epoch", *CURVES)}
    for fold, curves in zip(folds, histories, strict=bool(histories)):
        columns["fold"] += [fold.id] * fold.epochs
        columns["seed"] += [fold.seed] * fold.epochs
        columns["epoch"] += range(1, fold.epochs + 1)
        for name in CURVES:
            columns[name] += curves[name]
    return Table(columns)


def _html_table(head: list[str], body: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(["<table>", line(head, "th"), *(line(cells, "td") for cells in body), "</table>"])
