"""Locating and hashing the audio of a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
from audio_factory import write_audio

from mfhca_cache.build.sources import read_sources
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance


def test_link_out_of_the_root_is_refused_unless_it_is_allowed(root: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "elsewhere.wav", "x")
    root.mkdir()
    (root / "x.wav").symlink_to(tmp_path / "elsewhere.wav")
    rows = [Utterance("x", "x.wav", "s", "joy")]
    assert "is a link out of" in read_sources(rows, root).unreadable["x"]
    assert read_sources(rows, root, allow_outside=True).unreadable == {}


def test_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match="nowhere: no such folder; pass the corpus folder as --root"):
        read_sources([], tmp_path / "nowhere")
