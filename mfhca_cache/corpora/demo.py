"""The demo corpus: speech-like audio made by the program, for trying the pipeline without network or licence.

Pulses of a voice pass through the resonances of vowels, syllable by syllable.
Four emotions differ in pitch, its movement, rate, loudness and spectral tilt,
six speakers in pitch and in the length of the vocal tract; both vary from one
utterance to the next, so that no single number tells the emotions apart.
Figures computed from it say that the programs run and learn, and nothing else.
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
from mfhca_cache.corpora.filenames import scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

SAMPLE_RATE = 16000  # Hz
SEED = 20240
AUDIO = "wav"
BACKBONE = "hubert-demo"
NAME = re.compile(r"(?P<speaker>(?P<session>[123])(?P<gender>[FM]))_(?P<emotion>[a-z]+)_\d")
LOOSE = re.compile(r"\d[A-Z]_")

FRAME = 512  # samples of a synthesis frame
HOP = 256
DFT = 1024  # room for the resonances to ring on after a frame


@dataclass(frozen=True)
class Speaker:
    """What of a voice does not change with emotion."""

    pitch: float  # Hz, the neutral median
    tract: float  # factor on the resonances; a short vocal tract has higher ones
    level: float  # dB, how far from the microphone


@dataclass(frozen=True)
class Emotion:
    """How an emotion changes a voice; our choice, after what the literature reports of acted speech."""

    pitch: float  # semitones above the speaker's
    range: float  # semitones, standard deviation from syllable to syllable
    slope: float  # semitones from the first to the last syllable
    rate: float  # syllables per second
    level: float  # dB
    tilt: float  # dB per octave above 500 Hz, added to the pulses' own fall
    breath: float  # noise in the voice, relative to the pulses
    utterances: int  # of each speaker


SPEAKERS = {
    "1F": Speaker(196.0, 1.14, 0.0),
    "1M": Speaker(108.0, 0.97, -2.0),
    "2F": Speaker(224.0, 1.19, -3.0),
    "2M": Speaker(126.0, 1.00, 1.0),
    "3F": Speaker(182.0, 1.10, 2.0),
    "3M": Speaker(140.0, 1.04, -1.0),
}
EMOTIONS = {
    "anger": Emotion(3.0, 2.0, -2.5, 5.8, 6.0, 4.5, 0.01, 4),
    "happiness": Emotion(5.5, 3.6, 2.0, 4.8, 3.0, 1.5, 0.04, 4),
    "neutral": Emotion(0.0, 1.2, -1.5, 4.4, 0.0, 0.0, 0.04, 5),
    "sadness": Emotion(-1.0, 0.6, -3.0, 3.0, -5.0, -4.0, 0.12, 4),
}
# First to fourth resonance of the vowels of a man of average size, Hz (Peterson and Barney 1952, rounded).
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
    """Makes the demo's audio and its small encoder, each whole or not at all; what is there is left alone.

    Args:
        root: the corpus root; made if it does not exist. Audio goes to `wav`, the encoder to `hubert-demo`.

    Raises:
        MfhcaError: the folder cannot be written, or another process is synthesising there.
    """
    from mfhca_cache.corpora import demo_encoder

    makers: dict[str, Callable[[Path], None]] = {AUDIO: _write_audio, BACKBONE: demo_encoder.write}
    if all((root / name).is_dir() for name in makers):
        return
    with lock(root / ".demo.lock", f"the demo in {root}"):
        for name, make in makers.items():
            if not (root / name).is_dir():
                _make_folder(root / name, make)


def scan(root: Path) -> Scan:
    """Looks through a demo folder.

    Args:
        root: the folder that `synthesise` filled.

    Returns:
        The utterances in three sessions of two speakers, what was ignored and what cannot be used.

    Raises:
        MfhcaError: there is no demo in the folder.
    """
    if not (root / AUDIO).is_dir():
        raise MfhcaError(f"{root}: no demo in it; `mfhca-cache manifest demo --root {root}` makes it")
    return scan_names(root, _read, root / AUDIO)


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "1F_anger_1")
    return Utterance(
        utterance=path.stem,
        path=str(path),
        speaker=match["speaker"],
        emotion=match["emotion"],
        session=match["session"],
        gender=match["gender"].lower(),
    )


def utterance_samples(
    speaker: Speaker, emotion: Emotion, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Synthesises one utterance.

    Args:
        speaker: whose voice.
        emotion: how it is said.
        generator: the chance in it: text, length, loudness, how strongly the emotion shows.

    Returns:
        The audio, float64 (samples,), 16 kHz, 1.0 to 4.5 s, within -1 and 1.
    """
    strength = generator.uniform(0.7, 1.2)  # some utterances are hard to tell from neutral ones
    rate = 4.4 + strength * (emotion.rate - 4.4) + generator.normal(0.0, 0.25)
    seconds = generator.uniform(1.0, 4.5)
    syllables = max(3, round(rate * seconds))
    samples = round(seconds * SAMPLE_RATE)

    # Each syllable has a length, a height and a vowel; between them everything glides.
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
    vowels = VOWELS[generator.integers(0, len(VOWELS), syllables)] * speaker.tract
    frames = 1 + -(-samples // HOP)
    middles = np.arange(frames) * HOP / samples
    formants = np.stack(
        [np.interp(middles, centres, column) for column in vowels.T], axis=1
    )  # Hz (frames, 4)
    tilt = strength * emotion.tilt + generator.normal(0.0, 0.7)
    voice = _filter(source, formants, tilt)
    voice /= np.sqrt(np.mean(voice**2))
    voice += consonant * np.diff(noise, prepend=0.0)  # the difference leaves the high frequencies

    level = speaker.level + strength * emotion.level + generator.normal(0.0, 1.5)
    voice *= 0.035 * 10 ** (level / 20)
    voice += 0.0003 * generator.normal(size=samples)  # a room is never silent
    return np.clip(voice, -1.0, 1.0)


def _pulses(pitch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Flow through the glottis, differentiated: Rosenberg's pulse, open for 60 % of a period.

    Args:
        pitch: Hz (samples,).

    Returns:
        float64 (samples,), of root mean square 1.
    """
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1.0
    rise, fall = 0.4, 0.2
    opening = 0.5 * (1.0 - np.cos(np.pi * phase / rise))
    closing = np.cos(0.5 * np.pi * (phase - rise) / fall)
    flow = np.where(phase < rise, opening, np.where(phase < rise + fall, closing, 0.0))
    per_sample = np.diff(flow, prepend=flow[0])
    # The slope per period and not per sample, so that loudness does not follow pitch; root mean square 3.
    return per_sample * SAMPLE_RATE / pitch / 3.0


def _filter(source: NDArray[np.float64], formants: NDArray[np.float64], tilt: float) -> NDArray[np.float64]:
    """Passes a source through resonances that change from frame to frame, by overlap and add.

    Args:
        source: float64 (samples,).
        formants: Hz (frames, 4), one row each HOP samples.
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
    """Writes every utterance as 16-bit PCM; the chance in each has a seed of its own."""
    for s, (speaker_name, speaker) in enumerate(SPEAKERS.items()):
        for e, (emotion_name, emotion) in enumerate(EMOTIONS.items()):
            for take in range(1, emotion.utterances + 1):
                samples = utterance_samples(speaker, emotion, np.random.default_rng([SEED, s, e, take]))
                with wave.open(str(folder / f"{speaker_name}_{emotion_name}_{take}.wav"), "wb") as file:
                    file.setnchannels(1)
                    file.setsampwidth(2)
                    file.setframerate(SAMPLE_RATE)
                    file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())


def _make_folder(folder: Path, make: Callable[[Path], None]) -> None:
    """Makes a folder in full under another name, then gives it its own. The caller holds the lock."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir()
        make(temporary)
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
