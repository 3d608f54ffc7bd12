"""A dry run tells what would be trained and writes nothing; compiling beforehand changes no byte."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from corpus_factory import request
from cv_factory import cv_command, fails
from run_factory import tree

from mfhca_train.runs.crossval import cross_validate
from mfhca_train.training import trial


def test_a_dry_run_counts_units_and_times_steps_without_a_run_folder(tmp_path: Path) -> None:
    request(tmp_path)
    result = cv_command(tmp_path, "--dry-run", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"units: 8 \(4 folds, 2 seeds, protocol strict\), 0 finished, 8 to train\n"
        r"segments: 36, of which 9 to 9 train a fold\n"
        r"epochs: at most 3 per unit, about \d+\.\d s each\n"
        r"time: at most about [\dsmin .]+ with 1 units at a time; patience \(\d+\) may end a unit earlier\n",
        result.stdout,
    ), result.stdout
    assert not (tmp_path / "run").exists()


def test_a_dry_run_knows_what_is_finished_and_refuses_another_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    before = tree(tmp_path / "x/run")
    result = cv_command(tmp_path / "x", "--dry-run", "--seeds", "2")
    assert "8 finished, 0 to train" in result.stdout
    assert result.stdout.endswith("nothing to train\n")
    fails(cv_command(tmp_path / "x", "--dry-run", "--set", "train.lr=1"), "holds another run", "train.lr")
    assert tree(tmp_path / "x/run") == before


def test_compiling_beforehand_changes_no_byte(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(trial, "_are_compiled", lambda: bool(calls.append(1)))
    cross_validate(request(tmp_path, folds=("s0",), seeds=(0, 1)))
    assert calls
    name = "model/seed-0/fold-s0"
    assert tree(tmp_path / "run" / name) == tree(finished / "run" / name)
