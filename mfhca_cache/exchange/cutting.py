"""Cutting frames of whole utterances into the segments of this project."""

from __future__ import annotations

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.text import plural
from mfhca_cache.exchange.frames import Array, Frames
from mfhca_cache.features.segments import segment_count, segment_starts
from mfhca_cache.recipe.kinds import External

# Frames that may be missing or too many, of any utterance and per frame expected: encoders lose some at the ends.
TOLERANCE, RELATIVE_TOLERANCE = 3, 0.02


def cut_frames(frames: Frames, seconds: float, recipe: External) -> tuple[Array, Array]:
    """Cuts the frames of an utterance where its audio is cut; segments stay as they are.

    The number of segments follows from the length of the audio, as for the other kinds. A final segment that is too
    short to have a frame of its own gets the last one.

    Args:
        frames: of an utterance of this length.
        seconds: length of the audio.
        recipe: `frames` and the segmentation are read.

    Returns:
        float32 (S, T, F), zeros after the end; and int32 (S,), frames that are not such zeros.

    >>> recipe = External("", 2, 6)  # two frames a second
    >>> values, valid = cut_frames(Frames(np.arange(1, 9, dtype=np.float32)[:, None]), 4.0, recipe)
    >>> values[..., 0].tolist(), valid.tolist()
    ([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 0.0, 0.0, 0.0, 0.0]], [6, 2])
    """
    if frames.valid is not None:
        return frames.values, frames.valid.astype(np.int32)
    samples = round(seconds * recipe.sample_rate)
    count = _segment_count(seconds, recipe)
    starts = segment_starts(samples, count, recipe.segment_samples, recipe.tail) * recipe.frame_rate
    firsts = np.rint(starts / recipe.sample_rate).astype(np.int64)
    values = np.zeros((count, recipe.frames, frames.values.shape[1]), np.float32)
    valid = np.zeros(count, np.int32)
    for k, first in enumerate(firsts.tolist()):
        part = frames.values[min(first, len(frames.values) - 1) :][: recipe.frames]
        values[k, : len(part)], valid[k] = part, len(part)
    return values, valid


def check_length(frames: Frames, seconds: float, frame_rate: float | None, recipe: External) -> None:
    """Refuses features that cannot be of audio of this length: of another recording, or with another frame rate.

    Args:
        frames: of an utterance.
        seconds: length of its audio.
        frame_rate: frames per second; needed for frames of the whole utterance.
        recipe: its segmentation is read.

    Raises:
        MfhcaError: the number of frames or of segments does not fit; without the utterance's name.
    """
    count = len(frames.values)
    if frames.valid is not None:
        expected = _segment_count(seconds, recipe)
        if count != expected:
            raise MfhcaError(
                f"{plural(count, 'segment')}, but its audio of {seconds:.2f} s has {expected}; "
                "use the --tail and --minimum-tail that they were cut with"
            )
        return
    if frame_rate is None:
        raise MfhcaError(
            f"{count} frames of the whole utterance of {seconds:.2f} s; pass --frame-rate, "
            "the frames per second (50 for HuBERT, wav2vec 2.0 and emotion2vec)"
        )
    wanted = seconds * frame_rate
    if abs(count - wanted) > TOLERANCE + RELATIVE_TOLERANCE * wanted:
        raise MfhcaError(
            f"{count} frames, but its audio of {seconds:.2f} s has {wanted:.0f} at "
            f"{frame_rate:g} Hz; correct --frame-rate, or remove padding"
        )


def _segment_count(seconds: float, recipe: External) -> int:
    samples = round(seconds * recipe.sample_rate)
    return segment_count(samples, recipe.segment_samples, recipe.tail, recipe.minimum_tail_samples)
