"""Dividing an utterance into segments of a fixed length."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TypeVar

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.kinds import TAILS

T = TypeVar("T")


def cut(
    samples: np.ndarray, segment_samples: int, tail: str = "pad", minimum_tail_samples: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts an utterance into consecutive segments; there is always at least one.

    Args:
        samples: float32 (n,), n >= 1.
        segment_samples: length of a segment.
        tail: how to handle a short final segment: "pad" with zeros, "overlap" (the last segment is moved back
            to end with the utterance) or "drop". An utterance shorter than one segment is always padded.
        minimum_tail_samples: a shorter final segment is dropped.

    Returns:
        Segments float32 (S, segment_samples), and their lengths without padding, int32 (S,).

    Raises:
        MfhcaError: an unknown tail rule.

    >>> cut(np.arange(5, dtype=np.float32), 2, "pad")[0].tolist()
    [[0.0, 1.0], [2.0, 3.0], [4.0, 0.0]]
    >>> cut(np.arange(5, dtype=np.float32), 2, "overlap")[0].tolist()
    [[0.0, 1.0], [2.0, 3.0], [3.0, 4.0]]
    >>> cut(np.arange(5, dtype=np.float32), 2, "drop")[0].tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    if tail not in TAILS:
        raise MfhcaError(f"tail rule {tail!r} is unknown; choose one of {', '.join(TAILS)}")
    whole, remainder = divmod(len(samples), segment_samples)
    count = segment_count(len(samples), segment_samples, tail, minimum_tail_samples)
    has_tail = count > whole
    segments = np.zeros((count, segment_samples), dtype=np.float32)
    segments[:whole] = samples[: whole * segment_samples].reshape(whole, segment_samples)
    lengths = np.full(count, segment_samples, dtype=np.int32)
    if has_tail and tail == "overlap" and whole:
        segments[-1] = samples[-segment_samples:]
    elif has_tail:
        segments[-1, :remainder] = samples[whole * segment_samples :]
        lengths[-1] = remainder
    return segments, lengths


def cut_blocks(
    blocks: Generator[np.ndarray, None, T],
    segment_samples: int,
    tail: str,
    minimum_tail_samples: int,
    most: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, T | None]]:
    """`cut`, for an utterance whose samples come block by block: the same segments, some at a time.

    Args:
        blocks: float32 (n,), consecutive samples.
        segment_samples, tail, minimum_tail_samples: as in `cut`.
        most: segments at a time, at least 1; the last piece has up to two more.

    Yields:
        Segments float32 (S, segment_samples), their lengths int32 (S,), and None; with the last ones, what `blocks`
        returned.
    """
    samples = np.zeros(0, np.float32)
    with contextlib.closing(blocks):
        while True:
            try:
                samples = np.concatenate([samples, next(blocks)])
            except StopIteration as end:
                yield *cut(samples, segment_samples, tail, minimum_tail_samples), end.value
                return
            # A whole segment stays back: the last one decides how to handle a short rest (`cut`).
            while len(samples) >= (most + 1) * segment_samples:
                piece, samples = np.split(samples, [most * segment_samples])
                yield *cut(piece, segment_samples), None


def segment_starts(samples: int, count: int, segment_samples: int, tail: str) -> np.ndarray:
    """The starts of the segments of `cut`.

    Args:
        samples: length of the utterance.
        count: number of segments.
        segment_samples: length of a segment.
        tail: as in `cut`.

    Returns:
        int64 (S,), samples from the start of the utterance.

    >>> segment_starts(5, 3, 2, "pad").tolist(), segment_starts(5, 3, 2, "overlap").tolist()
    ([0, 2, 4], [0, 2, 3])
    """
    starts = np.arange(count, dtype=np.int64) * segment_samples
    if tail == "overlap" and samples > segment_samples:
        starts[-1] = samples - segment_samples
    return starts


def segment_count(
    samples: int, segment_samples: int, tail: str = "pad", minimum_tail_samples: int = 0
) -> int:
    """The number of segments into which `cut` divides an utterance of so many samples.

    >>> [segment_count(n, 48_000) for n in (160, 48_000, 48_001, 96_000)]
    [1, 1, 2, 2]
    """
    whole, remainder = divmod(samples, segment_samples)
    return whole + int(whole == 0 or (remainder > 0 and tail != "drop" and remainder >= minimum_tail_samples))
