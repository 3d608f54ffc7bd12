"""The corpus and the encoder of the tests of build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from audio_factory import write_corpus

from mfhca_cache.build import sources
from mfhca_cache.corpora import demo_encoder
from mfhca_cache.features.audio import stream_audio
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.manifest.utterance import Utterance


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("hubert-demo")
    demo_encoder.write(folder)
    return resolve(str(folder))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "corpus"


@pytest.fixture
def rows(root: Path) -> list[Utterance]:
    return write_corpus(root)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded while the test runs."""
    names: list[str] = []

    def noting(path: Path, *args: Any, **options: Any) -> Any:
        names.append(path.stem)
        return stream_audio(path, *args, **options)

    monkeypatch.setattr(sources, "stream_audio", noting)
    return names
