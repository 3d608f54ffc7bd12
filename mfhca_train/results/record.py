"""A finished run as it lies on the disk, read and checked: run.json, results.json, history.csv of every unit.

Whatever shows a run (report.py) starts here, so that a damaged folder is one
line that names the file, and the code behind can trust what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.typed import problem
from mfhca_train.results.checksums import read_about, read_rows, read_sealed
from mfhca_train.results.schema import CV_ROW, SCORES, FoldResult, Identity, Results, unit_folder
from mfhca_train.results.summary import UnitFiles, read_units

CURVES = ("train_loss", "validation_loss", "validation_wa", "validation_ua")  # of history.csv, beside epoch

FOLD = FoldResult.__struct_fields__


@dataclass(frozen=True)
class Record:
    """What a run left behind.

    Attributes:
        run: run.json.
        results: results.json; its `folds` and the confusion matrix are never empty.
        histories: for each entry of results["folds"], in the same order, the CURVES by epoch: loss in nats,
            scores as fractions.
    """

    run: dict[str, Any]
    results: dict[str, Any]
    histories: list[dict[str, list[float]]]

    @property
    def oracle(self) -> bool:
        """Whether an epoch was selected on a test speaker, whatever the protocol is called."""
        return self.results["oracle"] or any(fold["selected_on"] == "test" for fold in self.results["folds"])

    @property
    def chance(self) -> float:
        """UA of blind guessing, a fraction."""
        return 1 / len(self.results["classes"])


def read_record(run: Path) -> Record:
    """Reads a run folder.

    Args:
        run: a folder in which `cv` has finished.

    Raises:
        MfhcaError: the run is not finished, or a file is missing or damaged.
    """
    for name in ("run.json", "results.json"):
        if not (run / name).is_file():
            raise MfhcaError(
                f"{run}: no {name}, so no finished run; run `mfhca-train cv` with this --out first"
            )
    about, results = read_about(run), read_sealed(run / "results.json")
    _expect(run / "run.json", problem(about, Identity))
    _expect(run / "results.json", problem(results, Results) or disagreement(results))
    histories = []
    for fold in results["folds"]:
        folder = unit_folder(run, CV_ROW, fold["seed"], fold["id"])
        read_agreeing(run, CV_ROW, folder, fold, results["classes"])
        histories.append(read_history(folder / "history.csv", fold["epochs"]))
    return Record(about, results, histories)


def read_agreeing(
    run: Path, row: str, folder: Path, told: Mapping[str, Any], classes: Sequence[str], command: str = "cv"
) -> UnitFiles:
    """A unit's result and predictions, which must be those that results.json tells of.

    Args:
        run: the run folder.
        row: the unit's.
        folder: of the unit.
        told: its entry in results.json.
        classes: K names, in order.
        command: which makes results.json anew, for the message.

    Raises:
        MfhcaError: a file is missing, damaged, or contradicts another.
    """
    (unit,) = read_units([folder], None, classes)
    differing = [key for key in FOLD if unit.result.get(key) != told.get(key)]
    if differing:
        raise MfhcaError(
            f"{run / 'results.json'}: row {row}, fold {told['id']}, seed {told['seed']}: {differing[0]} is not that "
            f"of {folder}/result.json; run `mfhca-train {command}` again"
        )
    return unit


def _expect(path: Path, wrong: str | None) -> None:
    if wrong:
        raise MfhcaError(f"{path}: {wrong}; delete it and run `mfhca-train cv` again")


def disagreement(results: Mapping[str, Any]) -> str | None:
    """What in the results of a row contradicts itself, as far as whoever shows them relies on it; None for nothing."""
    classes, confusion = results["classes"], results["confusion"]
    count = len(classes)
    if [len(row) for row in confusion] != [count] * count or min(map(min, confusion), default=-1) < 0:
        return f"confusion is not a table of {count} by {count} counts"
    if not any(map(any, confusion)):
        return "confusion counts no utterance"
    if list(results["recalls"]) != classes:
        return "recalls are not those of the classes"
    if results["headline"] not in ("mean", "pooled"):
        return f"headline is {results['headline']!r:.40}, neither mean nor pooled"
    units = [(fold["seed"], fold["id"]) for fold in results["folds"]]
    expected = len(results["seeds"]) * results["n_folds"]
    if not units or len(units) != len(set(units)) or len(units) != expected:
        return f"{len(set(units))} different folds and seeds are listed, expected {expected}"
    for fold in results["folds"]:
        if not 1 <= fold["best_epoch"] <= fold["epochs"]:
            return f"fold {fold['id']!r:.40}: best epoch {fold['best_epoch']} of {fold['epochs']}"
    intervals = [results[score][name] for score in SCORES for name in ("ci95", "pooled_ci95")]
    if any(interval is not None and len(interval) != 2 for interval in intervals):
        return "an interval has not two ends"
    return None


def read_history(path: Path, epochs: int, command: str = "cv") -> dict[str, list[float]]:
    """The curves of a unit, CURVES by epoch; a loss that overflowed stays what it is.

    Args:
        path: of history.csv.
        epochs: how many there must be.
        command: which makes it anew, for the message.

    Raises:
        MfhcaError: it is missing or damaged.
    """
    try:
        rows = read_rows(path)
        curves = {name: [float(row[name]) for row in rows] for name in CURVES}
        numbers = [int(row["epoch"]) for row in rows]
        if not all(0 <= value <= 1 for name in CURVES[2:] for value in curves[name]):
            raise ValueError("a score is not between 0 and 1")
    except MfhcaError:
        raise
    except (KeyError, ValueError) as error:
        reason = f"{type(error).__name__} {error}"
        raise MfhcaError(
            f"{path}: cannot be read ({reason}); delete {path.parent} and run `mfhca-train {command}` again"
        ) from error
    if numbers != list(range(1, epochs + 1)):
        raise MfhcaError(
            f"{path}: {len(rows)} epochs, results.json says {epochs}; delete {path.parent} and run "
            f"`mfhca-train {command}` again"
        )
    return curves
