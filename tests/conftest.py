"""Fixtures that several test modules use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from places import REPOSITORY

# The same examples every time, however slow the machine is: a test that fails can be run again and fails again.
settings.register_profile("repository", deadline=None, derandomize=True)
settings.load_profile("repository")

# One thread a process: the tests compute little, and threads that wait for each other on a busy machine cost more.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real speech and a really pre-trained small HuBERT, which is not part of the repository."""
    folder = Path(os.environ.get("MFHCA_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real speech and weights are not at {folder} (set MFHCA_SHARED to their folder)")
    return folder
