"""Measures of attention and gates: weight on padding, concentration, correlation with the level. Arrays only.

N segments, L encoder frames, T spectrogram frames, F bins; the map of a GRF block has H x W cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfhca_train.analysis.stored import MeanAndCount
from mfhca_train.data.batch import Array

MIN_FRAMES = 8  # fewer are too few for a correlation


def normalise_weights(weights: Array) -> Array:
    """(N, L) weights divided by their sum; a segment of zero weights stays zero."""
    sums = weights.sum(axis=1, keepdims=True, dtype=np.float64)
    normalised: Array = np.divide(weights, sums, out=np.zeros(weights.shape), where=sums > 0)
    return normalised


def padding_mass(weights: Array, valid: Array) -> tuple[Array, Array]:
    """The fraction of the attention on padded frames, and the fraction of the frames that are padded.

    For uniform attention the two are equal.

    Args:
        weights: (N, L), not negative.
        valid: (N,) number of real frames, which come first.

    Returns:
        Two arrays (M,), for the segments with padding and nonzero weights.
    """
    frames = weights.shape[1]
    valid = np.maximum(valid, 1)
    selected = (valid < frames) & (weights.sum(axis=1) > 0)
    padded = np.arange(frames)[None] >= valid[selected, None]
    return (normalise_weights(weights[selected]) * padded).sum(axis=1), 1 - valid[selected] / frames


def effective_frames(weights: Array, valid: Array) -> Array:
    """exp(entropy) of the weights on real frames over their number n: 1 for uniform weights, 1/n for a single frame.

    Args:
        weights, valid: as in `padding_mass`.

    Returns:
        (M,), for the segments with nonzero weights on real frames.
    """
    valid = np.maximum(valid, 1)
    real = np.arange(weights.shape[1])[None] < valid[:, None]
    p = normalise_weights(weights * real)
    logs = np.log(p, out=np.zeros(p.shape), where=p > 0)
    effective: Array = np.exp(-(p * logs).sum(axis=1)) / valid
    return effective[p.any(axis=1)]


def level(spec: Array, decibels: bool = True) -> Array:
    """(..., T, F) dB to (..., T) dB: the mean power over the bins of each frame; of other values their mean."""
    if not decibels:
        mean: Array = np.mean(spec.astype(np.float64), axis=-1)
        return mean
    power: Array = np.mean(10 ** (spec.astype(np.float64) / 10), axis=-1)
    return 10 * np.log10(power)


def at_encoder_frames(values: Array, frames: int) -> Array:
    """(T,) values of spectrogram frames interpolated at the centres of `frames` encoder frames of the same duration."""
    count = len(values)
    return np.interp((np.arange(frames) + 0.5) * count / frames - 0.5, np.arange(count), values)


def level_correlation(weights: Array, valid: Array, levels: Array) -> Array:
    """Spearman's correlation of weight and level over the real frames of each segment.

    Args:
        weights, valid: as in `padding_mass`.
        levels: (N, T) dB.

    Returns:
        (M,), for the segments with enough real frames in which both vary.
    """
    from scipy.stats import rankdata  # takes a second to import, and drawing stored analyses does not need it

    correlations = []
    for w, count, loudness in zip(weights, np.maximum(valid, 1), levels, strict=True):
        x, y = w[:count], at_encoder_frames(loudness, len(w))[:count]
        if count >= MIN_FRAMES and np.ptp(x) > 0 and np.ptp(y) > 0:
            correlations.append(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
    return np.array(correlations)


def gate_map(g_h: Array, g_w: Array) -> Array:
    """g_h (N, C, H) and g_w (N, C, W) to (N, H, W): the mean over channels of g_h g_w, by which eq. 6 scales X."""
    g_h, g_w = g_h.astype(np.float32), g_w.astype(np.float32)
    mean: Array = g_h.transpose(0, 2, 1) @ g_w / g_h.shape[1]
    return mean


def resized(maps: Array, height: int, width: int) -> Array:
    """(N, T, F) to (N, height, width) by averaging: cell i covers floor(i T / height) to ceil((i + 1) T / height)."""
    averaged: Array = _averages(maps.shape[1], height) @ maps @ _averages(maps.shape[2], width).T
    return averaged


def _averages(size: int, cells: int) -> Array:
    at = np.arange(cells)
    low, high = at * size // cells, -(-(at + 1) * size // cells)
    covered = (np.arange(size) >= low[:, None]) & (np.arange(size) < high[:, None])
    matrix: Array = covered / covered.sum(axis=1, keepdims=True)
    return matrix.astype(np.float32)


def gate_measures(maps: Array, cells: Array, valid: Array, frames: int) -> tuple[Array, Array]:
    """How much gates vary over a map, and whether they follow the spectrogram, over the real frames of each segment.

    Args:
        maps: (N, H, W) from `gate_map`.
        cells: (N, H, W), the network's input `resized` to the map.
        valid: (N,) real frames of the input.
        frames: T of the input.

    Returns:
        (N, 2): the 5th and 95th percentile of the map's cells; (M,): Pearson's correlation of map and spectrogram
        over the cells, for the segments in which both vary.
    """
    count, height, _ = maps.shape
    ends, correlations = np.zeros((count, 2)), []
    for k, real in enumerate(np.maximum(valid, 1)):
        rows = max(1, -(-int(real) * height // frames))
        x, y = maps[k, :rows].ravel(), cells[k, :rows].ravel()
        ends[k] = np.percentile(x, (5, 95))
        if x.std() > 1e-7 and y.std() > 1e-7:
            correlations.append(np.corrcoef(x, y)[0, 1])
    return ends, np.array(correlations)


def mean_and_count(parts: Sequence[Array]) -> MeanAndCount:
    """Number and mean of the values of all parts; the mean of none is None."""
    values = np.concatenate([np.zeros(0), *parts])
    return {"n": len(values), "mean": float(values.mean()) if len(values) else None}
