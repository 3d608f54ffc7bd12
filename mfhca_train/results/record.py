"""A finished run, read from disk and checked: run.json, results.json, and the files of every unit.

A cross-validation is an ablation with one row, called CV_ROW. `parse_results` is the one place that knows
that its results.json holds the row itself and not a table of rows. The scores of every row are compared with
those of its units, and these with their predictions, so that a report cannot show what the predictions do not say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import DELETE_AND_RERUN
from mfhca_cache.common.typed import problem
from mfhca_train.results.checksums import identity_digest, read_about, read_sealed
from mfhca_train.results.comparison import Outcome, outcome
from mfhca_train.results.history import read_history
from mfhca_train.results.inputs_header import Side, read_inputs_header
from mfhca_train.results.run_file import RunFile
from mfhca_train.results.schema import (
    CV_ROW,
    HISTORY,
    INPUTS,
    NETWORK,
    RESULTS_FILE,
    RUN_FILE,
    AblationResults,
    FoldResult,
    RowResults,
    unit_folder,
)
from mfhca_train.results.summary import ForeignError, UnitFiles, read_result, read_units

T = TypeVar("T")


class RowLabel(NamedTuple):
    """A row as tables name it: its title, "reference" or nothing, "oracle" or nothing."""

    title: str
    tag: str
    warning: str


@dataclass(frozen=True)
class Record:
    """A finished run.

    Attributes:
        about: run.json.
        results: results.json.
        outcomes: row -> the scores of each speaker and the recognised utterances, for every seed.
        histories: row -> for each of its `folds`, in the same order, `history.CURVES` by epoch: loss in nats, scores as
            fractions. Networks only.
        inputs: row -> side ("spec", "ssl", "mfcc") -> shape and recipe of a segment, as the network stored them.
    """

    about: RunFile
    results: AblationResults
    outcomes: Mapping[str, Outcome]
    histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]
    inputs: Mapping[str, Mapping[str, Side]]

    @property
    def rows(self) -> Mapping[str, RowResults]:
        """The trained rows, in the order of the grid."""
        return self.results.rows

    @cached_property
    def networks(self) -> dict[str, RowResults]:
        """The rows that are trained in epochs."""
        return {name: row for name, row in self.rows.items() if row.kind == NETWORK}

    @cached_property
    def labels(self) -> dict[str, RowLabel]:
        """How tables name the rows."""
        return {
            name: RowLabel(
                row.marked_title.removesuffix(" (ORACLE)"),
                "reference" if name == self.reference else "",
                "oracle" if row.is_oracle else "",
            )
            for name, row in self.rows.items()
        }

    @property
    def reference(self) -> str | None:
        """The row that the others are tested against, if it was trained."""
        return self.results.trained_reference

    @property
    def reference_places(self) -> list[int]:
        """The place of the reference among the rows; empty if it was not trained."""
        return [k for k, name in enumerate(self.rows) if name == self.reference]

    @property
    def single(self) -> RowResults | None:
        """The only row of a cross-validation; None for an ablation, whatever its number of rows."""
        return None if self.results.grid else next(iter(self.rows.values()))

    @property
    def headline(self) -> str:
        """Which score is the main one: "pooled" if a fold of any row lacks a class in the test, else "mean"."""
        return "pooled" if any(row.headline == "pooled" for row in self.rows.values()) else "mean"

    @property
    def without_oracles(self) -> Mapping[str, RowResults]:
        """The rows that did not select on the test speaker; all rows if there are no others."""
        return {name: row for name, row in self.rows.items() if not row.is_oracle} or self.rows

    @property
    def chance(self) -> float:
        """UA at chance level, a fraction; classes without an utterance do not count."""
        confusion = next(iter(self.rows.values())).confusion
        return 1 / sum(any(counts) for counts in confusion)


def read_record(run: Path) -> Record:
    """Reads the folder of a cross-validation or an ablation.

    Args:
        run: a folder in which `cv` or `ablate` has finished.

    Raises:
        MfhcaError: the run is not finished, or a file is missing, damaged, or contradicts another.
    """
    about, results = read_compared(run)
    command = "ablate" if results.grid else "cv"
    units: dict[str, list[UnitFiles]] = {}
    histories, inputs = {}, {}
    for name, row in results.rows.items():
        folders = [unit_folder(run, name, fold.seed, fold.id) for fold in row.folds]
        units[name] = read_units(folders, identity_digest(about.rows[name]), row.classes)
        if row.kind == NETWORK:
            histories[name] = [
                read_history(folder / HISTORY, fold.epochs, command)
                for folder, fold in zip(folders, row.folds, strict=True)
            ]
            inputs[name] = read_inputs_header(folders[0] / INPUTS, row.recipes, command)
    outcomes = {
        name: outcome(units[name], row.classes, row.kind == NETWORK) for name, row in results.rows.items()
    }
    return Record(about, results, outcomes, histories, inputs)


def read_compared(run: Path) -> tuple[RunFile, AblationResults]:
    """run.json and results.json, compared with each other and with the result.json of every unit.

    Raises:
        ForeignError: one of them is of another run.
        MfhcaError: the run is not finished, or one of them is damaged.
    """
    about, results = read_run_file(run), read_results(run)
    command = "ablate" if results.grid else "cv"
    for name, row in results.rows.items():
        if wrong := _wrong(name, row, results, about):
            raise MfhcaError(f"{run / RESULTS_FILE}: {wrong}; {DELETE_AND_RERUN}")
        identity = identity_digest(about.rows[name])
        for fold in row.folds:
            folder = unit_folder(run, name, fold.seed, fold.id)
            compare_unit(run, name, folder, fold, read_result(folder, identity, others=False), command)
    return about, results


def read_run_file(run: Path) -> RunFile:
    """The run.json of a run, finished or not; that of `cv` becomes one of an ablation with one row.

    Raises:
        MfhcaError: there is none, or it cannot be read or is damaged.
    """
    if not (run / RUN_FILE).is_file():
        raise _unfinished(run, RUN_FILE)
    content = read_about(run)
    if "rows" not in content:
        content["rows"] = {CV_ROW: dict(content)}
    try:
        return _converted(content, RunFile)
    except ValueError as error:
        raise MfhcaError(f"{run / RUN_FILE}: {error}; {DELETE_AND_RERUN}") from error


def read_results(run: Path) -> AblationResults:
    """The results.json of a run, in the form of `parse_results`.

    Raises:
        MfhcaError: the run is not finished, or the file is damaged.
    """
    path = run / RESULTS_FILE
    if not path.is_file():
        raise _unfinished(run, RESULTS_FILE)
    content = read_sealed(path)
    try:
        return parse_results(content)
    except ValueError as error:
        raise MfhcaError(f"{path}: {error}; {DELETE_AND_RERUN}") from error


def _unfinished(run: Path, name: str) -> MfhcaError:
    return MfhcaError(
        f"{run}: no {name}, so the run is not finished; run `mfhca-train cv` or `ablate` with this --out first"
    )


def parse_results(content: object) -> AblationResults:
    """The content of a results.json; that of `cv` becomes the only row of an ablation without a grid.

    Raises:
        ValueError: a field is missing or has a wrong type or range; the message names it.
    """
    if isinstance(content, dict) and "rows" not in content:
        defaults: dict[str, Any] = {
            "title": "this network",
            "kind": NETWORK,
            "published": [],
            "comparison": None,
        }
        row = _converted(defaults | content, RowResults)
        shared = {
            name: getattr(row, name) for name in AblationResults.__struct_fields__ if hasattr(row, name)
        }
        return AblationResults(
            **shared
            | {"grid": "", "title": f"MFHCA on {row.corpus}", "note": "", "rows": {CV_ROW: row}}
            | {"reference": None, "tests": {}, "optimism": (), "cited": ()}
        )
    results = _converted(content, AblationResults)
    if not results.rows:
        raise ValueError("no rows")
    return results


def _converted(content: object, kind: type[T]) -> T:
    if wrong := problem(content, kind):
        raise ValueError(wrong.removeprefix(f"rows.{CV_ROW}."))
    return msgspec.convert(content, kind)


def _wrong(name: str, row: RowResults, results: AblationResults, about: RunFile) -> str | None:
    """How a row contradicts itself, the other rows or run.json, or None."""
    if name not in about.rows:
        return f"row {name!r:.40} is not in run.json"
    wrong = contradiction(row)
    if wrong is None and row.classes != results.classes:
        wrong = "its classes are not those of the run"
    return wrong and (f"row {name!r:.40}: {wrong}" if results.grid else wrong)


def contradiction(row: RowResults) -> str | None:
    """The first way in which the results of a row contradict themselves, or None.

    Args:
        row: types and ranges are checked already.
    """
    count = len(row.classes)
    if [len(counts) for counts in row.confusion] != [count] * count:
        return f"confusion is not a table of {count} by {count} counts"
    if not any(map(any, row.confusion)):
        return "confusion counts no utterance"
    if tuple(row.recalls) != row.classes:
        return "recalls are not those of the classes"
    units = [(fold.seed, fold.id) for fold in row.folds]
    expected = len(row.seeds) * row.n_folds
    if not units or len(units) != len(set(units)) or len(units) != expected:
        return f"{len(set(units))} different folds and seeds are listed, expected {expected}"
    for fold in row.folds:
        if not 1 <= fold.best_epoch <= fold.epochs:
            return f"fold {fold.id!r:.40}: best epoch {fold.best_epoch} of {fold.epochs}"
    return None


def compare_unit(
    run: Path, row: str, folder: Path, fold: FoldResult, result: Mapping[str, Any], command: str
) -> None:
    """Compares what results.json and a unit's own result.json say of it: results.json may be that of another run.

    Args:
        run, row, folder: of the unit.
        fold: from results.json.
        result: content of result.json.
        command: which writes results.json again, for the message.

    Raises:
        ForeignError: a field differs.
    """
    own = msgspec.convert({name: result.get(name) for name in FoldResult.__struct_fields__}, FoldResult)
    for name in FoldResult.__struct_fields__:
        if getattr(own, name) != getattr(fold, name):
            raise ForeignError(
                f"{run / RESULTS_FILE}: row {row}, fold {fold.id}, seed {fold.seed}: {name} differs from that "
                f"in {folder}/result.json; run `mfhca-train {command}` again"
            )
