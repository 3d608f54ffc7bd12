"""The `logmel` and `mfcc` features: mel bands of the spectrum from `spectrum`.

X[t, k] is the short-time spectrum of `spectrum.power`, with all dft / 2 + 1 bins.
With triangular filters W on HTK's scale, mel(f) = 2595 log10(1 + f / 700),

    logmel  L[t, b] = 10 log10 max(sum_k W[b, k] |X[t, k]|^2, floor)
    mfcc    c[t, n] = s_n sum_b L[t, b] cos(pi n (b + 1/2) / B),  divided by its Euclidean length over n

with B bands, s_0 = sqrt(1 / B) and s_n = sqrt(2 / B) otherwise: the orthonormal
DCT-II. Triangle b rises from point b to point b + 1 of B + 2 points equally spaced
in mel, and falls to point b + 2. Its area over Hz is 1, as in librosa; a constant
factor per band has no effect after stage two's standardisation.

The baseline's own code computes its MFCCs with librosa's defaults: a Hann window of
2048 samples, 128 bands, a floor 80 dB below the maximum. We keep the window of
section III.A. With a DFT of 800, each of 80 bands contains at least two bins; of 128
bands, seven would contain only one and the lowest bands would be duplicates.
Coefficient n is the same ripple over the mel axis for any number of bands.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.spectrum import decibels, power, relative, valid_frames

if TYPE_CHECKING:
    from mfhca_cache.recipe.kinds import LogMel, Mfcc


@lru_cache(maxsize=4)
def filterbank(sample_rate: int, dft: int, bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    """The triangles W, float32 (dft / 2 + 1, bands).

    Raises:
        MfhcaError: a band contains no bin of the DFT.
    """
    from librosa.filters import mel  # a slow import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about empty bands, refused below
        weights = mel(sr=sample_rate, n_fft=dft, n_mels=bands, fmin=low_hz, fmax=high_hz, htk=True).T
    if not weights.any(axis=0).all():
        raise MfhcaError(f"some of {bands} mel bands contain no bin of a DFT of {dft}; use fewer bands")
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    weights.flags.writeable = False
    return weights


def mel_power(segments: np.ndarray, recipe: LogMel | Mfcc) -> np.ndarray:
    """sum_k W[b, k] |X[t, k]|^2 of one utterance's segments.

    Args:
        segments: float32 (S, segment_samples), zero-padded, full scale 1.
        recipe: the settings.

    Returns:
        float32 (S, frames, bands).
    """
    weights = filterbank(recipe.sample_rate, recipe.dft, recipe.bands, recipe.low_hz, recipe.high_hz)
    spectra = np.empty((len(segments), recipe.frames, recipe.bands), dtype=np.float32)
    for row, segment in enumerate(segments):
        np.matmul(power(segment, recipe, len(weights)), weights, out=spectra[row])
    return spectra


def logmel(
    segments: np.ndarray, lengths: np.ndarray, recipe: LogMel, loudest: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Log-Mel spectrograms of one utterance's segments.

    Args:
        segments: float32 (S, segment_samples), zero-padded, full scale 1.
        lengths: int (S,), samples of each segment without its padding.
        recipe: the settings.
        loudest: the largest value of `mel_power` in the utterance, if it has more segments than these.

    Returns:
        dB, float32 (S, frames, bands), time-major, not below `floor_db`; and valid frames, int32 (S,).
    """
    spectra = relative(mel_power(segments, recipe), recipe, loudest)
    return decibels(spectra, recipe.floor_db), valid_frames(lengths, recipe.hop_samples, recipe.frames)


def mfcc(segments: np.ndarray, lengths: np.ndarray, recipe: Mfcc) -> tuple[np.ndarray, np.ndarray]:
    """Cepstral coefficients of one utterance's segments, each frame scaled to Euclidean length 1.

    Args:
        segments: float32 (S, segment_samples), zero-padded, full scale 1.
        lengths: int (S,), samples of each segment without its padding.
        recipe: the settings.

    Returns:
        float32 (S, frames, coefficients), time-major; and valid frames, int32 (S,). A silent frame, with all
        bands at the floor, is (-1, 0, ..., 0).
    """
    bands = decibels(mel_power(segments, recipe), recipe.floor_db)
    cepstra = scipy.fft.dct(bands, type=2, norm="ortho", axis=-1)[..., : recipe.coefficients]
    length = np.linalg.norm(cepstra, axis=-1, keepdims=True)
    cepstra = cepstra / np.maximum(length, np.float32(1e-12))
    return cepstra, valid_frames(lengths, recipe.hop_samples, recipe.frames)
