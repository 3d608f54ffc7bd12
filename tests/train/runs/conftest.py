"""A corpus and a finished run that several test modules of the runs use."""

from __future__ import annotations

from pathlib import Path

import pytest
from grid_factory import make_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All features; not to be written to but for runs of other names."""
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder)
    return folder
