"""Progress of training: every unit is told of, and the estimate knows how many units run side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from corpus_factory import request
from cv_factory import cv_command

from mfhca_train.runs.crossval import cross_validate
from mfhca_train.training import progress as module
from mfhca_train.training.epochs import Epoch
from mfhca_train.training.progress import TrainingProgress, makespan
from mfhca_train.training.unit import Unit


def test_without_a_terminal_every_finished_unit_is_a_line(tmp_path: Path) -> None:
    request(tmp_path)
    result = cv_command(tmp_path, "--fold", "s0", "--fold", "s1", "--protocol", "oracle")
    assert result.exit_code == 0, result.output
    score = r"ORACLE WA \d+\.\d %, UA (\d+\.\d) %"
    found = re.findall(
        rf"^fold (s\d) seed 0: {score}, 3 epochs; (\d) of 2 units, mean UA (\d+\.\d) %$", result.stderr, re.M
    )
    assert [(fold, number) for fold, _, number, _ in found] == [("s0", "1"), ("s1", "2")]
    first = result.stdout.splitlines()[0]
    assert re.fullmatch(
        r"corpus: ORACLE: UA [\d.]+ ± [\d.]+ %, WA [\d.]+ ± [\d.]+ % \(.* 2 folds, .* oracle\)", first
    ), first
    steps = [" ".join(line.split()[:3]) for line in result.stderr.splitlines()[-3:]]
    run = tmp_path / "run"
    assert steps == [
        f"next: open {run}/report.html",
        f"mfhca-train predict {run}",
        f"mfhca-train compare {run}",
    ]
    assert float(found[1][3]) == pytest.approx(sum(float(ua) for _, ua, _, _ in found) / 2, abs=0.11)
    assert cv_command(tmp_path, "--fold", "s2", "--protocol", "oracle", "-q").stderr == ""


def test_the_estimate_falls_with_every_epoch_and_knows_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, float | None]] = []
    started: list[TrainingProgress] = []

    class Watched(TrainingProgress):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            started.append(self)

    def record(epoch: Epoch) -> None:
        del epoch
        left, text = started[0]._status()
        match = re.match(r", (\d)/2 folds, validation UA \d+\.\d %", text)
        assert match
        seen.append((started[0]._bar.n, int(match[1]), left))

    monkeypatch.setattr("mfhca_train.training.queue.TrainingProgress", Watched)
    clock = iter(range(100_000))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    cross_validate(request(tmp_path, folds=("s0", "s1"), on_epoch=(record,)))
    assert [(n, finished) for n, finished, _ in seen] == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)]
    assert all(left is not None and left > 0 for _, _, left in seen)
    assert started[0]._bar.total == 6


def test_the_second_training_of_a_refit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both trainings are in the bar and in its total."""
    drawn: list[tuple[int, int]] = []

    class Watched(TrainingProgress):
        def _count(self, epochs: int) -> None:
            super()._count(epochs)
            drawn.append((self._bar.n, self._bar.total))

        def finish(self, unit: Unit) -> None:
            super().finish(unit)
            drawn.append((self._bar.n, self._bar.total))

    monkeypatch.setattr("mfhca_train.training.queue.TrainingProgress", Watched)
    settings = {"train.refit": "true", "train.select": "last"}
    cross_validate(request(tmp_path, settings=settings, folds=("s0", "s1")))
    assert [n for n, _ in drawn] == [1, 2, 3, 4, 5, 6, 6, 7, 8, 9, 10, 11, 12, 12]
    assert {total for _, total in drawn} == {12}


@pytest.mark.parametrize("jobs", [1, 2, 3, 10])
def test_a_makespan_is_between_its_bounds(jobs: int) -> None:
    lengths = [5.0, 1.0, 3.0, 3.0, 2.0, 8.0, 1.0]
    least = max(max(lengths), sum(lengths) / jobs)
    assert least <= makespan(lengths, jobs) <= sum(lengths) / jobs + max(lengths)
    assert makespan(lengths, 1) == sum(lengths)
