"""A dry run tells what would be trained and writes nothing; compiling beforehand changes no byte."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from corpus_factory import request
from cv_factory import cv_command, fails
from grid_factory import RATES, SMALL_GRID, short, write_grid
from run_factory import tree

from mfhca_train.runs.ablation import ablate
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.runs.dry_run import describe_ablation
from mfhca_train.training import trial


def test_a_dry_run_counts_units_and_times_steps_without_a_run_folder(tmp_path: Path) -> None:
    request(tmp_path)
    result = cv_command(tmp_path, "--dry-run", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"units: 8 \(4 folds, 2 seeds, protocol strict\), 0 finished, 8 to train\n"
        r"segments: 36, of which 9 train a fold\n"
        r"epochs: at most 3 per unit, about \d+\.\d s each\n"
        r"time: at most about [\dsmin .]+ with 1 unit at a time; patience \(\d+\) may end a unit earlier\n",
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


def test_a_dry_run_of_an_ablation_times_each_row_and_trains_each_unit_once(
    corpus: Path, tmp_path: Path
) -> None:
    """Then the ablation trains what was announced, and a second dry run finds it finished."""
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID + RATES.replace("reference = true", ""))
    wanted = short(corpus, "dry", seeds=(0, 1))
    before = tree(corpus / "runs") if (corpus / "runs").exists() else {}
    units, segments, *rest = describe_ablation(wanted, grid, ("a", "b", "again", "svm", "best"), False)
    # Two seeds of six networks and one of the classifier; `again` is `a`, and `best` is `slow` or `fast`.
    assert (
        units == "units: 13 of 7 rows, 0 finished, 2 equal to another, 2 selected from other rows, 9 to train"
    )
    assert segments.startswith("segments: ")
    timed = [line.split()[2].removesuffix(":") for line in rest if line.startswith("epochs of ")]
    assert timed == ["a", "b", "slow", "fast"]
    assert rest[-2] == "not in the time: 1 unit without a network, of a few seconds each"
    assert re.match(r"time: at most about [\dsmin .]+ with 1 unit at a time; patience \(\d+\)", rest[-1])
    assert (tree(corpus / "runs") if (corpus / "runs").exists() else {}) == before
    only = ("a", "svm")
    ablate(wanted, grid, only)
    assert next(describe_ablation(wanted, grid, only, False)) == "units: 3 of 2 rows, 3 finished, 0 to train"
    elsewhere = short(corpus, "other", seeds=(0, 1))
    (units, *_) = describe_ablation(elsewhere, grid, only, False)
    assert units == "units: 3 of 2 rows, 0 finished, 3 finished by another run, 0 to train"


def test_a_refit_is_in_the_estimate(tmp_path: Path) -> None:
    request(tmp_path)
    result = cv_command(tmp_path, "--dry-run", "--set", "train.refit=true", "--set", "train.select=last")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("epochs: ")]
    assert re.fullmatch(
        r"epochs: at most 3 per unit, about \d+\.\d s each, then as many of about \d+\.\d s for the refit",
        line,
    )
    assert "patience" not in result.stdout


def test_compiling_beforehand_changes_no_byte(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(trial, "_are_compiled", lambda: bool(calls.append(1)))
    cross_validate(request(tmp_path, folds=("s0",), seeds=(0, 1)))
    assert calls
    name = "model/seed-0/fold-s0"
    assert tree(tmp_path / "run" / name) == tree(finished / "run" / name)
