"""The epochs of units as events in the parent process, wherever the units are trained.

The checkpoint of a unit holds its history, so the parent only has to look at it: a unit writes nothing more, and
neither its results nor its speed depend on whether anybody listens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_train.results.checksums import read_rows, read_sealed
from mfhca_train.results.inputs_header import UNREADABLE, read_metadata
from mfhca_train.results.schema import HISTORY, RESULT_FILE
from mfhca_train.training.unit import CHECKPOINT, REFIT_CHECKPOINT, Unit, hidden_folder

POLL_SECONDS = 1.0
IDLE_SHARE = 20  # polling takes at most 1/20 of the parent's time, however many units there are


@dataclass(frozen=True)
class Epoch:
    """An epoch that a unit has finished.

    Attributes:
        row: the unit's row; "model" in a `cv` run.
        fold: id of its fold.
        seed: the run's seed.
        epoch: from 1.
        epochs: the limit; patience may end the training earlier.
        scores: `train_loss` and `validation_loss` (nats), `validation_wa` and `validation_ua` (0 to 1).
    """

    row: str
    fold: str
    seed: int
    epoch: int
    epochs: int
    scores: Mapping[str, float]


OnEpoch = Callable[[Epoch], object]


class EpochWatcher:
    """Calls functions with every epoch of some units, each epoch once, those of a unit in order.

    Epochs that an earlier call has trained are left out.

    Args:
        units: unfinished; none is in training yet.
        callbacks: called in the thread that calls `poll`; what they raise ends the training.
        on_refit: called with every further epoch count of a unit's second training, see `TrainConfig.refit`.

    Attributes:
        count: epochs of each unit so far, by its folder.
        refit_count: those of its second training.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        callbacks: Sequence[OnEpoch],
        on_refit: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._callbacks, self._on_refit = tuple(callbacks), on_refit
        self._changed: dict[Path, int] = {}  # modification time of each unit's checkpoint when it was read
        self.count = {unit.folder: len(self._history(unit)) for unit in units}
        self.refit_count = {unit.folder: self._refit_epochs(unit) for unit in units}
        self._due = 0.0

    def poll(self, units: Iterable[Unit]) -> None:
        """Reports new epochs of units in training; does nothing if called again within a second."""
        start = time.monotonic()
        if start < self._due:
            return
        for unit in units:
            self.report(unit)
        now = time.monotonic()
        self._due = now + max(POLL_SECONDS, IDLE_SHARE * (now - start))

    def report(self, unit: Unit) -> None:
        """Reports the new epochs of one unit, which may be finished."""
        history = self._history(unit)
        for row in history[self.count[unit.folder] :]:
            scores = {name: value for name, value in row.items() if name != "epoch"}
            event = Epoch(
                unit.row, unit.fold.id, unit.seed, int(row["epoch"]), unit.config.train.epochs, scores
            )
            self.count[unit.folder] = event.epoch
            for callback in self._callbacks:
                callback(event)
        before, now = self.refit_count[unit.folder], self._refit_epochs(unit)
        if now > before:
            self.refit_count[unit.folder] = now
            self._on_refit(now - before)

    def _refit_epochs(self, unit: Unit) -> int:
        """How many epochs the second training of a unit has; 0 if it is being replaced, or has not changed."""
        if not unit.config.train.refit:
            return 0
        if unit.finished:
            return int(read_sealed(unit.folder / RESULT_FILE)["best_epoch"])
        return len(self._changed_history(hidden_folder(unit.folder) / REFIT_CHECKPOINT))

    def _history(self, unit: Unit) -> list[dict[str, float]]:
        """The rows of a unit's history so far; none if it is being replaced, or has not changed."""
        if unit.finished:
            return [
                {name: float(value) for name, value in row.items()}
                for row in read_rows(unit.folder / HISTORY)
            ]
        return self._changed_history(hidden_folder(unit.folder) / CHECKPOINT)

    def _changed_history(self, path: Path) -> list[dict[str, float]]:
        """The rows in a checkpoint; none if it has not changed since the last look."""
        try:
            changed = path.stat().st_mtime_ns
            if changed == self._changed.get(path):
                return []
            history: list[dict[str, float]] = json.loads(read_metadata(path)["history"])
            self._changed[path] = changed
        except UNREADABLE:
            return []  # absent, or replaced by the finished unit; a damaged one is reported when it is resumed
        return history
