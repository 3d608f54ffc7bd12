"""Units trained in parallel give the same bytes, also when a worker is killed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from cluster_factory import Killer, holders, needs_proc
from corpus_factory import request
from epoch_factory import reported, written
from run_factory import tree

from mfhca_train.runs.crossval import cross_validate
from mfhca_train.training import process, trial
from mfhca_train.training.epochs import Epoch


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with a finished strict run of two seeds, not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    cross_validate(request(folder, seeds=(0, 1)))
    return folder


def test_folds_side_by_side_give_the_same_bytes_as_one_after_the_other(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "x", ignore=shutil.ignore_patterns("run"))
    events: list[Epoch] = []
    cross_validate(request(tmp_path / "x", seeds=(0, 1), jobs=2, on_epoch=(events.append,)))
    assert tree(tmp_path / "x/run") == tree(finished / "run")
    assert reported(events) == written(finished / "run")


def test_where_no_process_can_be_started_folds_follow_one_another(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That /dev/shm is full is simulated here; `tests/faults` mounts one that is."""
    monkeypatch.setattr(process, "why_no_workers", lambda jobs: f"no space for {jobs}")
    monkeypatch.setattr(trial, "_are_compiled", lambda: False)  # as after installing: a process would compile

    def no_space(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("joblib.externals.loky.ProcessPoolExecutor", no_space)
    shutil.copytree(finished, tmp_path / "x", ignore=shutil.ignore_patterns("run"))
    cross_validate(request(tmp_path / "x", jobs=2, folds=("s0", "s1")))
    assert (
        "trained one after the other, because parallel processes cannot be started (no space for 2)"
        in (tmp_path / "x/run/log.txt").read_text()
    )
    for fold in ("s0", "s1"):
        at = f"model/seed-0/fold-{fold}/best.safetensors"
        assert (tmp_path / "x/run" / at).read_bytes() == (finished / "run" / at).read_bytes()


@needs_proc
def test_a_killed_worker_costs_its_unit_alone(finished: Path, tmp_path: Path) -> None:
    """Nobody starts the command again: what was finished stays as it is, the rest is trained by new workers."""
    shutil.copytree(finished, tmp_path / "x", ignore=shutil.ignore_patterns("run"))
    units = tmp_path / "x/run/model/seed-0"
    before: dict[Path, int] = {}

    def choose() -> int | None:
        children = [
            int(pid)
            for path in Path("/proc/self/task").glob("*/children")
            for pid in path.read_text().split()
        ]
        done, begun = list(units.glob("fold-*")), holders(units, children) if children else {}
        if not done or not begun:
            return None
        before.update({path: path.stat().st_mtime_ns for unit in done for path in unit.iterdir()})
        return next(iter(begun))

    killer = Killer(choose)
    events: list[Epoch] = []
    cross_validate(request(tmp_path / "x", jobs=2, on_epoch=(events.append,)))
    assert reported(events) == written(tmp_path / "x/run")
    assert killer.victim not in (None, os.getpid())
    assert before
    assert {path: path.stat().st_mtime_ns for path in before} == before
    started = re.findall(r"(fold s\d+ seed 0): started$", (tmp_path / "x/run/log.txt").read_text(), re.M)
    assert len(started) == len(set(started)) + 1  # the unit beside it went on
    assert tree(units) == tree(finished / "run/model/seed-0")
