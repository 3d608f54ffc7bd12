"""mfhca_cache.corpora.demo: the synthetic corpus, and folders that are complete or absent."""

from __future__ import annotations

import errno
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_cache.corpora import demo, demo_encoder, scan
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.manifest.utterance import Utterance

MODEL_FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the whole demo."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "root"
    demo.synthesise(folder)
    return folder


def samples_of(root: Path, utterance: Utterance) -> np.ndarray:
    """The samples of a 16-bit file at full scale 1, float64 (samples,)."""
    with wave.open(str(root / utterance.path)) as file:
        assert file.getparams()[:3] == (1, 2, 16000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def touch(folder: Path) -> None:
    """A quick replacement for writing audio."""
    (folder / "file").write_text("made")


# --- the corpus


def test_the_demo_is_complete_and_says_that_it_means_nothing(root: Path, tmp_path: Path) -> None:
    summary = scan.build("demo", root, tmp_path / "demo.csv")
    manifest = read_manifest(tmp_path / "demo.csv")
    assert manifest.card is not None
    assert len(manifest.select()) == manifest.card.expected["utterances"] == 102
    assert manifest.has_sessions
    for session in "123":
        members = {(u.speaker, u.gender) for u in manifest.utterances if u.session == session}
        assert members == {(f"{session}F", "f"), (f"{session}M", "m")}
    for text in (str(summary), manifest.card.title):
        assert "mean" in text
        assert "nothing" in text


def test_the_demos_audio_is_speech_like_in_length_and_level(root: Path) -> None:
    found = scan.scan("demo", root)
    assert (found.ignored, found.problems) == ({}, ())
    for utterance in found.utterances:
        samples = samples_of(root, utterance)
        assert 1.0 <= len(samples) / 16000 <= 4.5
        assert len(samples) == utterance.samples
        assert 0.005 < np.sqrt(np.mean(samples**2)) < 0.3
        assert np.abs(samples).max() < 1.0
        assert abs(samples.mean()) < 0.01
    assert len({samples_of(root, utterance).tobytes() for utterance in found.utterances}) == 102


def test_the_same_seed_gives_the_same_utterance_and_another_seed_another(root: Path) -> None:
    def synthesise(take: int) -> np.ndarray:
        generator = np.random.default_rng([demo.SEED, 0, 0, take])
        return demo.utterance_samples(demo.SPEAKERS["1F"], demo.EMOTIONS["anger"], generator)

    utterance = next(u for u in scan.scan("demo", root).utterances if u.utterance == "1F_anger_1")
    np.testing.assert_array_equal(synthesise(1), synthesise(1))
    np.testing.assert_allclose(synthesise(1), samples_of(root, utterance), atol=2 / 32768)
    assert len(synthesise(1)) != len(synthesise(2))


def test_emotions_move_pitch_level_and_tilt_as_intended() -> None:
    def measure(emotion: str) -> tuple[float, float]:
        levels, tilts = [], []
        for take in range(6):
            generator = np.random.default_rng([7, take])
            samples = demo.utterance_samples(demo.SPEAKERS["1M"], demo.EMOTIONS[emotion], generator)
            power = np.abs(np.fft.rfft(samples)) ** 2
            high = np.fft.rfftfreq(len(samples), 1 / 16000) > 1000
            levels.append(10 * np.log10(np.mean(samples**2)))
            tilts.append(10 * np.log10(power[high].sum() / power[~high].sum()))
        return float(np.mean(levels)), float(np.mean(tilts))

    anger, neutral, sadness = measure("anger"), measure("neutral"), measure("sadness")
    assert anger[0] > neutral[0] + 3 > sadness[0] + 6
    assert anger[1] > neutral[1] + 2 > sadness[1] + 4


def test_pulses_have_the_pitch_that_is_asked_for() -> None:
    spectrum = np.abs(np.fft.rfft(demo._pulses(np.full(16000, 200.0))))
    peaks = np.flatnonzero(spectrum > 0.05 * spectrum.max())
    assert set(peaks % 200) == {0}
    assert 200 in peaks
    for pitch in (100.0, 300.0):
        assert np.sqrt(np.mean(demo._pulses(np.full(16000, pitch)) ** 2)) == pytest.approx(1.0, abs=0.1)


def test_every_file_of_the_demo_is_counted(root: Path) -> None:
    others = [root / "wav" / name for name in ("1F_anger_x.wav", "notes.txt", ".DS_Store")]
    for file in others:
        file.touch()
    try:
        found = scan.scan("demo", root)
    finally:
        for file in others:
            file.unlink()
    assert len(found.utterances) == 102
    assert found.file_counts().splitlines()[0] == (
        "102 files used, 3 ignored: 1 hidden, 1 named almost like 1F_anger_1, 1 not .wav"
    )


def test_a_demo_that_lost_a_file_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "wav" / "2M_sadness_3.wav").rename(tmp_path / "away.wav")
    try:
        with pytest.raises(
            MfhcaError, match=r"(?s)delete its folder wav and run again.*speaker 2M: 16 found, 17 expected"
        ):
            scan.build("demo", root, tmp_path / "demo.csv")
    finally:
        (tmp_path / "away.wav").rename(root / "wav" / "2M_sadness_3.wav")


# --- creating folders


def test_existing_folders_are_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_folder: Path) -> None:
        raise AssertionError("written again")

    monkeypatch.setattr(demo, "_write_audio", refuse)
    monkeypatch.setattr(demo_encoder, "write", refuse)
    with lock(root / ".demo.lock", "it"):  # nothing to write, no need to wait
        demo.synthesise(root)


def test_only_missing_folders_are_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wav").mkdir()
    monkeypatch.setattr(demo_encoder, "write", touch)
    demo.synthesise(tmp_path)
    assert list((tmp_path / "wav").iterdir()) == []
    assert (tmp_path / "hubert-demo" / "file").exists()


def test_an_interrupted_synthesis_leaves_no_folder_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        touch(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_encoder, "write", touch)
    monkeypatch.setattr(demo, "_write_audio", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        demo.synthesise(tmp_path)
    assert not (tmp_path / "wav").exists()
    (tmp_path / ".wav.tmp").mkdir(exist_ok=True)  # what a killed process leaves
    (tmp_path / ".wav.tmp" / "half").touch()
    monkeypatch.setattr(demo, "_write_audio", touch)
    demo.synthesise(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".demo.lock", "hubert-demo", "wav"]
    assert [file.name for file in (tmp_path / "wav").iterdir()] == ["file"]


def test_a_full_disk_is_one_line_and_leaves_no_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        touch(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(demo, "_write_audio", full)
    with pytest.raises(
        MfhcaError, match=r"wav: cannot be written \(No space left on device\); free space"
    ) as caught:
        demo.synthesise(tmp_path)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == [".demo.lock"]


def test_two_processes_do_not_write_the_demo_at_once(tmp_path: Path) -> None:
    with (
        lock(tmp_path / ".demo.lock", "it"),
        pytest.raises(MfhcaError, match=r"the demo in .* is in use by another process"),
    ):
        demo.synthesise(tmp_path)
