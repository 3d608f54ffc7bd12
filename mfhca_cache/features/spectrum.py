"""The `logspec` features: a log power spectrum of each 3 s segment (paper, section III.A).

40 ms periodic Hamming window, 10 ms hop, DFT of 800 and its first 200 bins (0
to 4 kHz at 16 kHz). The trainer normalises them over the training speakers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

if TYPE_CHECKING:
    from mfhca_cache.recipe.kinds import LogMel, LogSpec, Spectral


@lru_cache(maxsize=4)
def hamming(samples: int) -> np.ndarray:
    """Periodic Hamming window, float32 (samples,): 0.54 - 0.46 cos(2 pi n / samples).

    >>> window = hamming(640)
    >>> round(float(window[0]), 6), round(float(window[320]), 6)
    (0.08, 1.0)
    """
    window = (0.54 - 0.46 * np.cos(2 * np.pi * np.arange(samples) / samples)).astype(np.float32)
    window.flags.writeable = False
    return window


def valid_frames(lengths: np.ndarray, hop_samples: int, frames: int) -> np.ndarray:
    """Frames whose centre is not padding: ceil(length / hop), between 1 and `frames`.

    Args:
        lengths: int (S,), samples of each segment without its padding.
        hop_samples: samples between frames.
        frames: frames per segment.

    Returns:
        int32 (S,).

    >>> valid_frames(np.array([1, 160, 161, 48_000]), 160, 300).tolist()
    [1, 1, 2, 300]
    """
    clipped: np.ndarray = np.clip(-(-lengths // hop_samples), 1, frames)
    return clipped.astype(np.int32)


def power(segment: np.ndarray, recipe: Spectral, bins: int) -> np.ndarray:
    """Power spectrum of one padded segment.

    Frame t is centred at sample hop * t, with zeros before and after the segment. The position of the window
    within the DFT only changes phases, so a frame is the window's samples, zero-padded at its end.

    Args:
        segment: float32 (segment_samples,), full scale 1.
        recipe: window, DFT, hop and frames.
        bins: number of bins, starting at 0 Hz.

    Returns:
        |X|^2, float32 (frames, bins).
    """
    half = recipe.window_samples // 2
    span = (recipe.frames - 1) * recipe.hop_samples + recipe.window_samples
    padded = np.zeros(span, dtype=np.float32)
    inside = min(len(segment), span - half)
    padded[half : half + inside] = segment[:inside]
    frames = np.lib.stride_tricks.sliding_window_view(padded, recipe.window_samples)[:: recipe.hop_samples]
    # (frames, window) -> (frames, bins)
    spectrum = scipy.fft.rfft(frames * hamming(recipe.window_samples), recipe.dft, axis=1)[:, :bins]
    squared: np.ndarray = np.square(spectrum.real) + np.square(spectrum.imag)
    return squared


def powers(segments: np.ndarray, recipe: LogSpec) -> np.ndarray:
    """`power` of all segments, float32 (S, frames, bins)."""
    spectra = np.empty((len(segments), recipe.frames, recipe.bins), dtype=np.float32)
    for row, segment in enumerate(segments):
        spectra[row] = power(segment, recipe, recipe.bins)
    return spectra


def relative(spectra: np.ndarray, recipe: LogSpec | LogMel, loudest: float | None) -> np.ndarray:
    """Power relative to the reference of 0 dB, computed in place and returned.

    Args:
        spectra: power, float32 (S, frames, bins).
        recipe: `db_reference` is "full_scale", or "utterance" for the loudest value of the utterance.
        loudest: that value, if `spectra` is not the whole utterance.
    """
    if recipe.db_reference == "utterance":
        maximum = spectra.max() if loudest is None else np.float32(loudest)
        if maximum:  # silence has none
            spectra /= maximum
    return spectra


def decibels(power: np.ndarray, floor_db: float) -> np.ndarray:
    """10 log10 of power, not below the floor; float32 of any shape, computed in place and returned."""
    np.maximum(power, np.float32(10.0 ** (floor_db / 10.0)), out=power)
    np.log10(power, out=power)
    power *= 10.0
    np.maximum(power, np.float32(floor_db), out=power)  # log10 of the floor may round below it
    return power


def logspec(
    segments: np.ndarray, lengths: np.ndarray, recipe: LogSpec, loudest: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log power spectra of one utterance's segments: 20 log10 |X|, not below a floor.

    Args:
        segments: float32 (S, segment_samples), zero-padded, full scale 1.
        lengths: int (S,), samples of each segment without its padding.
        recipe: the settings.
        loudest: the largest power of the utterance, if it has more segments than these; see `relative`.

    Returns:
        dB, float32 (S, frames, bins), time-major, not below `floor_db`; and valid frames, int32 (S,). With
        `db_reference = "utterance"` 0 dB is the maximum of the utterance (as in the released code) instead of
        full scale.
    """
    spectra = relative(powers(segments, recipe), recipe, loudest)
    return decibels(spectra, recipe.floor_db), valid_frames(lengths, recipe.hop_samples, recipe.frames)
