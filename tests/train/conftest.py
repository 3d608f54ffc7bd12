"""Finished runs and their reports, shared by the tests of the report's modules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ablation_factory import SKILLS, make_ablation, small_grid
from run_factory import leave_out_pictures, make_run

from mfhca_train.report.page import write_report


@pytest.fixture(scope="session")
def cv_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation with pictures; not to be written to."""
    run = tmp_path_factory.mktemp("runs") / "cv"
    make_run(run)
    write_report(run)
    return run


@pytest.fixture(scope="session")
def ablation_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ablation with pictures; not to be written to."""
    folder = tmp_path_factory.mktemp("runs")
    make_ablation(folder / "ablation", small_grid(folder), SKILLS, sessions=True)
    write_report(folder / "ablation")
    return folder / "ablation"


@pytest.fixture
def cv_copy(cv_run: Path, tmp_path: Path) -> Path:
    """A copy for a test to change."""
    return Path(shutil.copytree(cv_run, tmp_path / "run"))


@pytest.fixture
def ablation_copy(ablation_run: Path, tmp_path: Path) -> Path:
    """A copy for a test to change."""
    return Path(shutil.copytree(ablation_run, tmp_path / "run"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the pictures, which take nearly all of the time, where a test is about the text."""
    leave_out_pictures(monkeypatch)
