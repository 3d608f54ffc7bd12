"""Locating and hashing the audio of a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest
from audio_factory import write_audio

from mfhca_cache.build.sources import OTHER_LENGTH, read_sources
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.segments import cut_blocks
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


@pytest.mark.parametrize(
    ("length", "said"),
    [((16_000, 16_000), False), ((None, None), False), ((17_000, 16_000), False), ((18_000, 16_000), True),
     ((16_000, 8_000), True), ((None, 48_000), True)],
)  # fmt: skip
def test_audio_of_another_length_than_the_manifest_says_is_warned_of(
    root: Path, length: tuple[int | None, int | None], said: bool
) -> None:
    """The report divides utterances by the manifest's durations."""
    write_audio(root / "x.wav", "x", 1.0)
    (source,) = read_sources([Utterance("x", "x.wav", "s", "joy", "", "", *length)], root).available.values()
    *_, (_, _, audio) = cut_blocks(source.blocks(16_000, 0.0), 16_000, "pad", 0, 1)
    assert audio is not None
    assert (OTHER_LENGTH in audio.warnings) is said
