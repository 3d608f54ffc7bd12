"""The demo corpus: synthetic speech-like audio, to try the pipeline without network access or a licence.

Glottal pulses are filtered by the formants of vowels, syllable by syllable. The
four emotions differ in pitch, its movement, speaking rate, loudness and spectral
tilt, the six speakers in pitch and vocal tract length. Both vary from utterance
to utterance, so that no single number separates the emotions. Scores on this
corpus only show that the programs run and learn.
"""

from __future__ import annotations

import os
import re
import shutil
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import fsync_folder, lock
from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance

SAMPLE_RATE = 16000  # Hz
SEED = 20240
AUDIO = "wav"
BACKBONE = "hubert-demo"

FRAME = 512  # samples per synthesis frame
HOP = 256  # samples
DFT = 1024  # longer than a frame, because the formants ring on after it


@dataclass(frozen=True)
class Speaker:
    """The properties of a voice that do not depend on emotion."""

    pitch: float  # Hz, median of neutral speech
    tract: float  # factor on the formants; a short vocal tract has higher ones
    level: float  # dB; distance from the microphone


@dataclass(frozen=True)
class Emotion:
    """How an emotion changes a voice; our choice, in line with the literature on acted speech."""

    pitch: float  # semitones above the speaker's median
    range: float  # semitones, standard deviation from syllable to syllable
    slope: float  # semitones from the first to the last syllable
    rate: float  # syllables per second
    level: float  # dB
    tilt: float  # dB per octave above 500 Hz, added to that of the pulses
    breath: float  # breath noise, relative to the pulses
    formants: float  # factor on the formants: a smile shortens the vocal tract
    utterances: int  # per speaker


SPEAKERS = {
    "1F": Speaker(196.0, 1.14, 0.0),
    "1M": Speaker(108.0, 0.97, -2.0),
    "2F": Speaker(224.0, 1.19, -3.0),
    "2M": Speaker(126.0, 1.00, 1.0),
    "3F": Speaker(182.0, 1.10, 2.0),
    "3M": Speaker(140.0, 1.04, -1.0),
}
EMOTIONS = {
    "anger": Emotion(3.0, 2.0, -2.5, 6.0, 6.0, 6.0, 0.01, 1.0, 4),
    "happiness": Emotion(8.0, 4.0, 4.0, 5.2, 3.0, 0.5, 0.12, 1.18, 4),
    "neutral": Emotion(0.0, 1.2, -1.5, 4.4, 0.0, 0.0, 0.04, 1.0, 5),
    "sadness": Emotion(-2.0, 0.6, -3.0, 3.0, -5.0, -5.0, 0.16, 0.95, 4),
}
# First to fourth formant of the vowels of an average man, Hz (Peterson and Barney 1952, rounded).
VOWELS = np.array(
    [
        [730.0, 1090.0, 2440.0, 3400.0],  # a
        [530.0, 1840.0, 2480.0, 3500.0],  # e
        [270.0, 2290.0, 3010.0, 3600.0],  # i
        [570.0, 840.0, 2410.0, 3300.0],  # o
        [300.0, 870.0, 2240.0, 3200.0],  # u
    ]
)
BANDWIDTHS = np.array([70.0, 90.0, 130.0, 180.0])  # Hz


def synthesise(root: Path) -> None:
    """Writes the demo's audio and its small encoder. Existing folders are kept; a new one is complete or absent.

    Args:
        root: the corpus root; created if it does not exist. Audio goes to `wav`, the encoder to `hubert-demo`.

    Raises:
        MfhcaError: the folder cannot be written, or another process is synthesising there.
    """
    from mfhca_cache.corpora import demo_encoder

    writers: dict[str, Callable[[Path], None]] = {AUDIO: _write_audio, BACKBONE: demo_encoder.write}
    if all((root / name).is_dir() for name in writers):
        return
    with lock(root / ".demo.lock", f"the demo in {root}"):
        for name, write in writers.items():
            if not (root / name).is_dir():
                _create_folder(root / name, write)


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance:
    speaker, session, gender = match["speaker"], match["session"], match["gender"].lower()
    return Utterance(path.stem, str(path), speaker, match["emotion"], session, gender)


FILES = FileNames(
    name=re.compile(r"(?P<speaker>(?P<session>[123])(?P<gender>[FM]))_(?P<emotion>[a-z]+)_\d"),
    similar=re.compile(r"\d[A-Z]_"),
    example="1F_anger_1",
    utterance=_utterance,
    subfolder=AUDIO,
)


def utterance_samples(
    speaker: Speaker, emotion: Emotion, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Synthesises one utterance.

    Args:
        speaker: the voice.
        emotion: how it changes the voice.
        generator: draws vowels, length, loudness and the strength of the emotion.

    Returns:
        The audio, float64 (samples,), 16 kHz, 1.0 to 4.5 s, within -1 and 1.
    """
    strength = generator.uniform(0.9, 1.2)  # some utterances are close to neutral
    rate = 4.4 + strength * (emotion.rate - 4.4) + generator.normal(0.0, 0.25)
    seconds = generator.uniform(1.0, 4.5)
    syllables = max(3, round(rate * seconds))
    samples = round(seconds * SAMPLE_RATE)

    # Each syllable has a length, a pitch and a vowel; values are interpolated between syllables.
    lengths = generator.uniform(0.7, 1.3, syllables)
    edges = np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum()
    centres = (edges[:-1] + edges[1:]) / 2
    time = np.arange(samples) / samples  # 0 to 1
    semitones = (
        generator.normal(0.0, 0.8)
        + strength * (emotion.pitch + emotion.slope * (centres - 0.5))
        + generator.normal(0.0, 1.2 + strength * (emotion.range - 1.2), syllables)
    )
    pitch = speaker.pitch * 2.0 ** (np.interp(time, centres, semitones) / 12)  # Hz (samples,)
    pitch *= 1.0 + 0.01 * np.interp(
        time, np.linspace(0, 1, samples // 400), generator.normal(size=samples // 400)
    )

    place = np.interp(time, edges, np.arange(syllables + 1.0))
    within = place % 1.0
    stress = generator.uniform(0.6, 1.0, syllables)[np.minimum(place.astype(int), syllables - 1)]
    loudness = stress * np.sin(np.pi * within) ** 0.7
    hiss = generator.uniform(0.0, 0.25, syllables)[np.minimum(place.astype(int), syllables - 1)]
    consonant = hiss * np.exp(-(((within - 0.05) / 0.06) ** 2))

    noise = generator.normal(size=samples)
    source = loudness * (_pulses(pitch) + emotion.breath * noise)
    vowels = VOWELS[generator.integers(0, len(VOWELS), syllables)]
    vowels = vowels * speaker.tract * (1.0 + strength * (emotion.formants - 1.0))
    frames = 1 + -(-samples // HOP)
    middles = np.arange(frames) * HOP / samples
    formants = np.stack(
        [np.interp(middles, centres, column) for column in vowels.T], axis=1
    )  # Hz (frames, 4)
    tilt = strength * emotion.tilt + generator.normal(0.0, 0.7)
    voice = _filter(source, formants, tilt)
    voice /= np.sqrt(np.mean(voice**2))
    voice += consonant * np.diff(noise, prepend=0.0)  # a first difference is a high-pass filter

    level = speaker.level + strength * emotion.level + generator.normal(0.0, 1.5)
    voice *= 0.035 * 10 ** (level / 20)
    voice += 0.0003 * generator.normal(size=samples)  # room noise
    return np.clip(voice, -1.0, 1.0)


def _pulses(pitch: NDArray[np.float64]) -> NDArray[np.float64]:
    """The derivative of the glottal flow: Rosenberg's pulse, open for 60 % of a period.

    Args:
        pitch: Hz (samples,).

    Returns:
        float64 (samples,), with a root mean square of 1.
    """
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1.0
    rise, fall = 0.4, 0.2
    opening = 0.5 * (1.0 - np.cos(np.pi * phase / rise))
    closing = np.cos(0.5 * np.pi * (phase - rise) / fall)
    flow = np.where(phase < rise, opening, np.where(phase < rise + fall, closing, 0.0))
    per_sample = np.diff(flow, prepend=flow[0])
    # The slope per period, not per sample, so that loudness does not follow pitch; its root mean square is 3.
    return per_sample * SAMPLE_RATE / pitch / 3.0


def _filter(source: NDArray[np.float64], formants: NDArray[np.float64], tilt: float) -> NDArray[np.float64]:
    """Filters a source by formants that change from frame to frame (overlap-add).

    Args:
        source: float64 (samples,).
        formants: Hz (frames, 4), one row per HOP samples.
        tilt: dB per octave above 500 Hz.

    Returns:
        float64 (samples,).
    """
    frames = len(formants)
    padded = np.pad(source, (FRAME // 2, frames * HOP + FRAME - len(source)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[: frames * HOP : HOP]  # (frames, FRAME)
    frequency = np.fft.rfftfreq(DFT, 1 / SAMPLE_RATE)
    back = np.exp(-2j * np.pi * frequency / SAMPLE_RATE)  # one sample's delay
    damping = np.ones((frames, len(frequency)), complex)
    for formant, bandwidth in zip(formants.T, BANDWIDTHS, strict=True):
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        cosine = 2 * radius * np.cos(2 * np.pi * formant / SAMPLE_RATE)[:, None]  # (frames, 1)
        damping *= (1 + radius**2 * back**2 - cosine * back) / (1 - cosine + radius**2)
    gain = 10 ** (tilt * np.log2(np.maximum(frequency, 500.0) / 500.0) / 20)
    spectra = np.fft.rfft(windows * np.hanning(FRAME + 1)[:-1], DFT)  # (frames, DFT // 2 + 1)
    pieces = np.fft.irfft(gain * spectra / damping, DFT)  # (frames, DFT)
    result = np.zeros(frames * HOP + DFT)
    for index, piece in enumerate(pieces):
        result[index * HOP : index * HOP + DFT] += piece
    return result[FRAME // 2 : FRAME // 2 + len(source)]


def _write_audio(folder: Path) -> None:
    """Writes every utterance as 16-bit PCM, each from its own seed."""
    for s, (speaker_name, speaker) in enumerate(SPEAKERS.items()):
        for e, (emotion_name, emotion) in enumerate(EMOTIONS.items()):
            for take in range(1, emotion.utterances + 1):
                samples = utterance_samples(speaker, emotion, np.random.default_rng([SEED, s, e, take]))
                with wave.open(str(folder / f"{speaker_name}_{emotion_name}_{take}.wav"), "wb") as file:
                    file.setnchannels(1)
                    file.setsampwidth(2)
                    file.setframerate(SAMPLE_RATE)
                    file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())


def _create_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fills a folder under a temporary name, then renames it. The caller holds the lock."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed run
        temporary.mkdir()
        write(temporary)
        for file in temporary.iterdir():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
        fsync_folder(temporary)
        temporary.rename(folder)
        fsync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise MfhcaError(
            f"{folder}: cannot be written ({error.strerror}); free space or choose another --root"
        ) from error
