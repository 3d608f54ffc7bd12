"""Finished runs that the tests of this folder share; not to be written to."""

from __future__ import annotations

from pathlib import Path

import pytest
from analysis_factory import FOLDS, GRID, analysed_request
from grid_factory import write_grid

from mfhca_train.runs.ablation import ablate
from mfhca_train.runs.crossval import cross_validate


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus, cache and an ablation with every kind of row, one fold."""
    folder = tmp_path_factory.mktemp("analysis")
    ablate(analysed_request(folder, folds=FOLDS[:1]), write_grid(folder / "fusions.toml", GRID))
    return folder


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a run of `cv`."""
    folder = tmp_path_factory.mktemp("single")
    cross_validate(analysed_request(folder))
    return folder
