"""The small corpus of the command tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from audio_factory import manifest_of, write_corpus

from mfhca_cache.corpora import demo_encoder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with audio/, hubert/ and rows.csv. Not to be changed."""
    folder = tmp_path_factory.mktemp("corpus")
    manifest_of(folder / "rows.csv", write_corpus(folder / "audio"))
    (folder / "hubert").mkdir()
    demo_encoder.write(folder / "hubert")
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The same without an encoder, to be changed."""
    manifest_of(tmp_path / "rows.csv", write_corpus(tmp_path / "audio"))
    return tmp_path
