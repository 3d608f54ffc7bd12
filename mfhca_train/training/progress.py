"""Progress of the training of many units: their epochs, scores so far, and how long the rest will take."""

from __future__ import annotations

import contextlib
import heapq
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.progress import is_shown, progress
from mfhca_cache.common.text import plural
from mfhca_train.results.checksums import read_sealed
from mfhca_train.results.schema import RESULT_FILE
from mfhca_train.training.epochs import Epoch, EpochWatcher, OnEpoch
from mfhca_train.training.unit import Unit


class TrainingProgress:
    """Counts the epochs of all units in a bar; without a bar it logs each finished unit.

    Args:
        units: unfinished; none is in training yet.
        jobs: how many are trained at the same time; None if that is not known, as on a cluster.
        callbacks: see `EpochWatcher`.

    Attributes:
        watcher: reports new epochs, to the callbacks too.
    """

    def __init__(self, units: Sequence[Unit], jobs: int | None, callbacks: Sequence[OnEpoch]) -> None:
        self.watcher = EpochWatcher(units, (self._on_epoch, *callbacks), self._count)
        self._unfinished = {unit.folder: unit for unit in units}
        self._units, self._jobs, self._start = len(units), jobs, time.monotonic()
        self._epochs = 0  # trained in this call
        # Epochs of the units that are finished now, of those with a second training apart.
        self._lengths: dict[bool, list[int]] = {False: [], True: []}
        self._finished = 0
        self._active: set[tuple[str, str, int]] = set()
        self._most_active = 1
        self._test_ua: dict[str, list[float]] = {}  # of finished units, by row
        self._scores = {"validation": "", "test": ""}  # the last ones
        self._bar: Any = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bar."""
        done = sum(map(self._epochs_of, self._unfinished))
        with progress(self._expected_total(), " epochs", "training", done, self._status) as self._bar:
            yield

    def finish(self, unit: Unit) -> None:
        """Takes note of a finished unit, whose files are visible here."""
        self.watcher.report(unit)
        del self._unfinished[unit.folder]
        self._active.discard((unit.row, unit.fold.id, unit.seed))
        self._lengths[unit.config.train.refit].append(self._epochs_of(unit.folder))
        self._finished += 1
        result = read_sealed(unit.folder / RESULT_FILE)
        scores = self._test_ua.setdefault(unit.row, [])
        scores.append(result["ua"])
        kind = "ORACLE" if result["selected_on"] == "test" else "test"
        self._scores["test"] = f", {kind} UA {100 * fmean(scores):.1f} %"
        log.LOG.log(
            logging.DEBUG if is_shown() else logging.INFO,
            "%s: %s WA %.1f %%, UA %.1f %%, %s; %d of %s, mean UA %.1f %%",
            unit.name,
            kind,
            100 * result["wa"],
            100 * result["ua"],
            plural(result["epochs"], "epoch"),
            self._finished,
            plural(self._units, "unit"),
            100 * fmean(scores),
        )
        self._bar.expect(self._expected_total())

    def _epochs_of(self, folder: Path) -> int:
        """Epochs of a unit so far, in both trainings."""
        return self.watcher.count[folder] + self.watcher.refit_count[folder]

    def _count(self, epochs: int) -> None:
        self._epochs += epochs
        self._bar.update(epochs)

    def _on_epoch(self, epoch: Epoch) -> None:
        self._active.add((epoch.row, epoch.fold, epoch.seed))
        self._most_active = max(self._most_active, len(self._active))
        self._scores["validation"] = f", validation UA {100 * epoch.scores['validation_ua']:.1f} %"
        self._count(1)

    def _remaining(self) -> list[float]:
        """Epochs that each unfinished unit still needs if patience ends it as the finished ones; begun units first."""
        means = {refit: fmean(own) if own else float("inf") for refit, own in self._lengths.items()}
        units = list(self._unfinished.values())  # the bar is drawn in a thread of its own
        counts = sorted(
            ((self._epochs_of(unit.folder), unit.config.train) for unit in units), key=lambda c: -c[0]
        )
        return [
            max(1.0, min(means[train.refit], train.epochs * (2 if train.refit else 1)) - count)
            for count, train in counts
        ]

    def _expected_total(self) -> int:
        return round(sum(map(self._epochs_of, self.watcher.count)) + sum(self._remaining()))

    def _status(self) -> tuple[float | None, str]:
        """Seconds that the rest will take, and the scores so far."""
        left = None
        if self._epochs:
            jobs = self._jobs or self._most_active
            seconds_per_epoch = jobs * (time.monotonic() - self._start) / self._epochs
            left = seconds_per_epoch * makespan(self._remaining(), jobs)
        return left, f", {self._finished}/{self._units} folds" + "".join(self._scores.values())


def makespan(lengths: Iterable[float], jobs: int) -> float:
    """When the last task ends if `jobs` tasks run at a time, each started when a place is free.

    >>> makespan([4, 3, 2], jobs=2), makespan([], jobs=2)
    (5.0, 0.0)
    """
    ends = [0.0] * jobs
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)
