"""mfhca_cache.manifest.copies, and the commands that refuse one recording under two speakers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_factory import manifest_of, sound, write_audio
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.copies import Copies, check_copies, find_copies
from mfhca_cache.manifest.utterance import Utterance

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("123")), min_size=1, max_size=8
)


@given(ROWS)
def test_exactly_the_pairs_of_equal_recordings_are_found(rows: list[tuple[str, str, str]]) -> None:
    utterances = [Utterance(f"u{i}", f"u{i}.wav", s, label) for i, (s, label, _) in enumerate(rows)]
    identity = {f"u{i}": digest for i, (_, _, digest) in enumerate(rows)}
    copies = find_copies(utterances, identity)
    # Recomputed pair by pair: groups of (recording, speaker), and pairs of speakers for each recording.
    speakers = {digest: {s for s, _, d in rows if d == digest} for _, _, digest in rows}
    assert len(copies.across_speakers) == sum(len(s) * (len(s) - 1) // 2 for s in speakers.values())
    assert len(copies.within_speaker) == len(rows) - len({(s, d) for s, _, d in rows})
    two = {d for d in speakers if len({label for _, label, x in rows if x == d}) > 1}
    assert len(copies.two_labels) == sum(digest in two for _, _, digest in rows)


def test_accepting_is_the_users_explicit_word() -> None:
    copies = Copies(across_speakers=("a of speaker 1 and b of speaker 2 (a.wav, b.wav)",))
    with pytest.raises(
        MfhcaError,
        match=r"(?s)x.csv: 1 pair of identical recordings under two speakers.*one speaker id.*a of sp",
    ):
        check_copies(copies, "x.csv")
    check_copies(copies, "x.csv", accept=True)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three speakers with two recordings each."""
    for speaker in "abc":
        for take in (1, 2):
            write_audio(
                tmp_path / "audio" / f"{speaker}{take}.wav", f"{speaker}{take}", 0.5, subtype="PCM_16"
            )
    return tmp_path


def call(folder: Path, command: str, *options: str, labels: str = "jsjsjs") -> Result:
    files = sorted((folder / "audio").iterdir())
    rows = [Utterance(f.stem, f.name, f.stem[0], label) for f, label in zip(files, labels, strict=True)]
    manifest_of(folder / "rows.csv", rows)
    places = ["--root", str(folder / "audio"), "--cache", str(folder / "cache"), "--kind", "logspec"]
    return CliRunner().invoke(main, [command, str(folder / "rows.csv"), *places, *options])


def test_one_file_under_two_speakers_is_refused_before_anything_is_computed(corpus: Path) -> None:
    shutil.copy(corpus / "audio" / "a1.wav", corpus / "audio" / "c2.wav")
    result = call(corpus, "features")
    assert result.exit_code == 1
    assert "1 pair of identical recordings under two speakers" in result.stderr
    assert "  a1 of speaker a and c2 of speaker c (a1.wav, c2.wav)" in result.stderr
    assert "--accept-copies" in result.stderr
    assert not list(corpus.glob("cache/*/*.h5"))
    accepted = call(corpus, "features", "--accept-copies")
    assert accepted.exit_code == 0
    assert "warning: " in accepted.stderr
    assert "a test recording may also be in training" in accepted.stderr


@pytest.mark.parametrize("suffix", ["flac", "aiff"])
def test_the_same_samples_in_another_container_are_refused_too(corpus: Path, suffix: str) -> None:
    samples, rate = soundfile.read(corpus / "audio" / "a1.wav", dtype="int16")
    (corpus / "audio" / "c2.wav").unlink()
    soundfile.write(corpus / "audio" / f"c2.{suffix}", samples, rate, subtype="PCM_16")
    for _ in range(2):  # with a finished cache as well
        result = call(corpus, "features")
        assert result.exit_code == 1
        assert f"a1 of speaker a and c2 of speaker c (a1.wav, c2.{suffix})" in result.stderr
    assert call(corpus, "features", "--accept-copies").exit_code == 0


def test_copies_within_a_speaker_and_with_two_labels_are_warnings(corpus: Path) -> None:
    shutil.copy(corpus / "audio" / "a1.wav", corpus / "audio" / "a2.wav")
    result = call(corpus, "features")
    assert result.exit_code == 0
    assert "1 copies of recordings of the same speaker: a2" in result.stderr
    assert "2 copies with different labels of recordings: a1, a2" in result.stderr
    other = call(corpus, "features", labels="jjjsjs")
    assert "different labels" not in other.stderr


def test_silence_is_no_copy(corpus: Path) -> None:
    for name, samples in (("a1", 8000), ("c2", 8001)):
        soundfile.write(corpus / "audio" / f"{name}.wav", np.zeros(samples), 16_000)
    assert call(corpus, "features").exit_code == 0


def test_doctor_finds_them_before_features_are_computed(corpus: Path) -> None:
    assert "identical recordings" not in call(corpus, "doctor").output
    shutil.copy(corpus / "audio" / "a1.wav", corpus / "audio" / "c2.wav")
    result = call(corpus, "doctor")
    assert result.exit_code == 1
    assert "1 pair of identical recordings under two speakers" in result.output
    assert (
        "identical recordings under two speakers, accepted"
        in call(corpus, "doctor", "--accept-copies").output
    )


def test_similar_recordings_are_no_copies(corpus: Path) -> None:
    loud = sound("a1", 0.5, 16_000) * 0.5
    soundfile.write(corpus / "audio" / "c2.wav", loud, 16_000)
    assert call(corpus, "features").exit_code == 0
