"""From audio files to features, as fast as the encoder goes.

Each file is decoded once for all kinds of features. Threads decode, cut and
compute spectra while the main thread runs the encoder; segments of several
utterances share a batch. Where the features go is `build`'s business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import Audio, cut
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.mel import logmel, mfcc
from mfhca_cache.features.spectrum import logspec
from mfhca_cache.recipe.kinds import LogMel, LogSpec, Mfcc, Recipe, Ssl

AHEAD = 4  # utterances decoded in advance, for each thread

Tag = TypeVar("Tag")


class Readable(Protocol):
    """Something that holds one utterance: a row of a manifest (`sources.Source`), a file, an array."""

    def read(self, sample_rate: int, pre_emphasis: float) -> Audio:
        """Its audio, mono at `sample_rate`; raises MfhcaError if there is none."""


@dataclass(frozen=True)
class Extracted:
    """The features of one utterance: for each kind float32 (S, T, F), or (S, M, T, F), and valid frames int32 (S,)."""

    digest: str  # of the audio that was decoded, see audio.digest_of
    segments: int
    samples: int  # at the recipes' rate
    features: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


@dataclass
class _Encoding(Generic[Tag]):
    """An utterance on its way through the encoder."""

    tag: Tag
    extracted: Extracted
    inputs: np.ndarray  # float32 (S, samples), prepared
    real: np.ndarray  # int32 (S,), real samples
    states: np.ndarray  # float32 (S, T, D) or (S, M, T, D), filled batch by batch
    filled: int = 0


class Extractor(Generic[Tag]):
    """Computes several kinds of features from one decoding.

    Args:
        recipes: by kind; they cut segments alike.
        encoder: for the kind "ssl".
        jobs: decoding threads.
    """

    def __init__(self, recipes: Mapping[str, Recipe], encoder: Encoder | None = None, jobs: int = 1) -> None:
        self._recipes, self._encoder, self._jobs = dict(recipes), encoder, jobs
        self._queue: deque[tuple[_Encoding[Tag], int]] = deque()

    def run(
        self, requests: Iterable[tuple[Tag, Readable, Collection[str]]]
    ) -> Generator[tuple[Tag, Extracted | MfhcaError], None, None]:
        """Computes what is asked for; asks for the next request only a little ahead of the results.

        Args:
            requests: a tag that comes back with the result, the utterance, and the kinds wanted of it.

        Yields:
            The tag, and the features or why there are none. Requests without "ssl" may overtake others.
        """
        ahead: deque[tuple[Tag, Future[tuple[Extracted, np.ndarray, np.ndarray | None]]]] = deque()
        pool = ThreadPoolExecutor(self._jobs, "decode")
        try:
            for tag, source, kinds in requests:
                ahead.append((tag, pool.submit(self._decode, source, kinds)))
                if len(ahead) >= AHEAD * self._jobs:
                    yield from self._take(*ahead.popleft())
            while ahead:
                yield from self._take(*ahead.popleft())
            while self._queue:
                yield from self._forward()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decode(
        self, source: Readable, kinds: Collection[str]
    ) -> tuple[Extracted, np.ndarray, np.ndarray | None]:
        """All but the encoder: the spectra, real samples (S,), the encoder's input. Runs in a thread."""
        shared = next(iter(self._recipes.values()))
        audio = source.read(shared.sample_rate, shared.pre_emphasis)
        segments, real = cut(audio.samples, shared.segment_samples, shared.tail, shared.minimum_tail_samples)
        extracted, inputs = Extracted(audio.digest, len(real), len(audio.samples)), None
        for kind in kinds:
            recipe = self._recipes[kind]
            if isinstance(recipe, LogSpec):
                extracted.features[kind] = logspec(segments, real, recipe)
            elif isinstance(recipe, LogMel):
                extracted.features[kind] = logmel(segments, real, recipe)
            elif isinstance(recipe, Mfcc):
                extracted.features[kind] = mfcc(segments, real, recipe)
            elif self._encoder is not None:
                inputs = self._encoder.prepare(segments, real)
        return extracted, real, inputs

    def _take(
        self, tag: Tag, future: Future[tuple[Extracted, np.ndarray, np.ndarray | None]]
    ) -> Iterator[tuple[Tag, Extracted | MfhcaError]]:
        try:
            extracted, real, inputs = future.result()
        except MfhcaError as error:
            yield tag, error
            return
        if inputs is None or self._encoder is None:
            yield tag, extracted
            return
        states = np.empty((len(real), *self._encoder.frame_shape), dtype=np.float32)
        encoding = _Encoding(tag, extracted, inputs, real, states)
        self._queue.extend((encoding, row) for row in range(len(real)))
        while len(self._queue) >= self._encoder.batch_size:
            yield from self._forward()

    def _forward(self) -> Iterator[tuple[Tag, Extracted | MfhcaError]]:
        """One batch through the encoder; yields the utterances whose last segment was in it."""
        if self._encoder is None:
            return
        batch = [self._queue.popleft() for _ in range(min(self._encoder.batch_size, len(self._queue)))]
        inputs = np.stack([encoding.inputs[row] for encoding, row in batch])
        real = np.array([encoding.real[row] for encoding, row in batch], dtype=np.int32)
        for (encoding, row), states in zip(batch, self._encoder.forward(inputs, real), strict=True):
            encoding.states[row] = states
            encoding.filled += 1
            if encoding.filled == len(encoding.real):
                valid = self._encoder.backbone.valid_frames(encoding.real)
                encoding.extracted.features[Ssl.kind] = (encoding.states, valid)
                yield encoding.tag, encoding.extracted
