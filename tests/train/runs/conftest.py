"""A corpus and a finished run that several test modules of the runs use."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_factory import request
from grid_factory import make_corpus

from mfhca_train.runs.crossval import cross_validate


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All features; not to be written to but for runs of other names."""
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with a finished strict run of two seeds, not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    cross_validate(request(folder, seeds=(0, 1)))
    return folder
