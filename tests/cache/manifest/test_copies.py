"""mfhca_cache.manifest.copies, and the commands that refuse one recording under two speakers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import combinations
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
from mfhca_cache.manifest.copies import Copies, check_copies, find_copies, find_overlaps
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


SPANS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(0, 30), st.integers(1, 20)),
    max_size=7,
)


@given(SPANS)
def test_exactly_the_overlapping_spans_of_one_file_are_found(rows: list[tuple[str, str, int, int]]) -> None:
    """In tenths of a second, recomputed pair by pair from sets of tenths."""
    spans = {
        f"u{i}": (file, who, set(range(start, start + n))) for i, (file, who, start, n) in enumerate(rows)
    }
    across, partly, within = 0, 0, 0
    for (file, who, own), (other_file, other, theirs) in combinations(spans.values(), 2):
        shared = len(own & theirs)
        if file == other_file and own != theirs and shared > 1 and shared > 0.05 * min(len(own), len(theirs)):
            most = shared >= max(10, 0.5 * max(len(own), len(theirs)))
            within, across = within + (who == other), across + (who != other and most)
            partly += who != other and not most
    found = find_overlaps(
        Utterance(name, file, who, "joy", start_s=min(own) / 10, end_s=(max(own) + 1) / 10)
        for name, (file, who, own) in spans.items()
    )
    assert (len(found.across_speakers), len(found.partly), len(found.within_speaker)) == (
        across,
        partly,
        within,
    )


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ((0.0, 2.0), (2.0, 4.0), None),  # touching
        ((0.0, 2.0), (1.92, 4.0), None),  # the margin of a segmentation
        ((0.0, 30.0), (28.8, 60.0), None),
        ((0.0, 8.0), (3.0, 3.8), "partly"),  # "yes" while the other one talks
        ((0.0, 3.0), (2.0, 5.0), "partly"),
        ((0.0, 0.7), (0.3, 0.9), "partly"),  # both say "yes"
        ((0.0, 2.0), (0.5, 2.5), "across_speakers"),
        ((0.0, 2.0), (1.0, 3.0), "across_speakers"),
        ((None, None), (3.0, 4.0), "across_speakers"),  # the whole file of one speaker
        ((1.0, None), (1.5, None), "across_speakers"),
        ((None, 2.0), (0.1, 2.0), "across_speakers"),
    ],
)
def test_which_overlaps_are_refused(
    first: tuple[float | None, float | None], second: tuple[float | None, float | None], kind: str | None
) -> None:
    for samples in (None, 10 * 16_000):
        rows = [
            Utterance(f"{speaker}1", "d.wav", speaker, "joy", "", "", samples, 16_000, *span)
            for speaker, span in (("a", first), ("b", second))
        ]
        for order in (rows, rows[::-1]):
            found = vars(find_overlaps(order))
            assert [name for name, pairs in found.items() if pairs] == ([kind] if kind else [])
        other_corpora = [replace(row, corpus=row.speaker) for row in rows]
        assert find_overlaps(other_corpora) == find_overlaps([])


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
    assert "1 copy of recordings of the same speaker: a2" in result.stderr
    assert "2 copies with different labels of recordings: a1, a2" in result.stderr
    other = call(corpus, "features", labels="jjjsjs")
    assert "different labels" not in other.stderr


def test_silence_is_no_copy(corpus: Path) -> None:
    for name, samples in (("a1", 8001), ("c2", 8002)):
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


def test_overlapping_spans_under_two_speakers_are_refused_as_copies_are(corpus: Path) -> None:
    spans = [(0.0, 0.2), (0.2, 0.4), (0.0, 0.15), (0.0, 0.25), (None, None)]
    rows = [
        Utterance(f"{speaker}{take}", f"{file}1.wav", speaker, label, start_s=start, end_s=end)
        for (start, end), (speaker, take, file), label in zip(
            spans, ("a1a", "a2a", "a3a", "b1b", "c1b"), "jsjjs", strict=True
        )
    ]
    manifest_of(corpus / "rows.csv", rows)
    places = [str(corpus / "rows.csv"), "--root", str(corpus / "audio"), "--cache", str(corpus / "cache")]
    places += ["--kind", "logspec"]
    pair = "b1 of speaker b and c1 of speaker c (b1.wav, 0 to 0.25 s)"
    for command in ("features", "doctor"):
        result = CliRunner().invoke(main, [command, *places])
        assert result.exit_code == 1
        assert "1 pair of overlapping utterances of one file under two speakers" in result.output
        assert pair in result.output
    assert not list(corpus.glob("cache/*/*.h5"))
    for command in ("features", "doctor"):
        result = CliRunner().invoke(main, [command, *places, "--accept-copies"])
        assert "1 pair of overlapping utterances of one file under two speakers, accepted" in result.output
        assert "1 pair of utterances of one speaker overlap: a3 and a1" in result.output
    assert list(corpus.glob("cache/*/*.h5"))


def test_similar_recordings_are_no_copies(corpus: Path) -> None:
    loud = sound("a1", 0.5, 16_000) * 0.5
    soundfile.write(corpus / "audio" / "c2.wav", loud, 16_000)
    assert call(corpus, "features").exit_code == 0
