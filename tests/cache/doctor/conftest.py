"""A corpus for doctor, without network access."""

from __future__ import annotations

from pathlib import Path

import pytest
from audio_factory import manifest_of, write_audio, write_corpus
from click.testing import CliRunner
from huggingface_hub import constants

from mfhca_cache.cli import main
from mfhca_cache.corpora import demo_encoder
from mfhca_cache.manifest.utterance import Utterance


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with audio/, hubert/, rows.csv and a cache of spectrograms. Not to be changed."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = write_corpus(folder / "audio")
    write_audio(folder / "audio/d/d1.wav", "d1")
    manifest_of(folder / "rows.csv", [*rows, Utterance("d1", "d/d1.wav", "d", "anger")])
    (folder / "hubert").mkdir()
    demo_encoder.write(folder / "hubert")
    places = [str(folder / "rows.csv"), "--root", str(folder / "audio"), "--cache", str(folder / "cache")]
    assert CliRunner().invoke(main, ["features", *places, "--kind", "logspec"]).exit_code == 0
    return folder
