"""From audio to features, at the speed of the encoder.

Each file is decoded once for all kinds of features. Threads decode, segment and
compute spectra while the main thread runs the encoder; a batch holds segments of
several utterances. The room `build` stores the results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import Audio
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.hub import one_line
from mfhca_cache.features.mel import logmel, mfcc
from mfhca_cache.features.segments import cut
from mfhca_cache.features.spectrum import logspec
from mfhca_cache.recipe.kinds import LogMel, LogSpec, Mfcc, Recipe, Ssl

AHEAD = 4  # utterances decoded in advance, per thread
AHEAD_SECONDS = 600.0  # of their audio, per thread; a longer utterance is decoded alone

Tag = TypeVar("Tag")


class Readable(Protocol):
    """The audio of one utterance: a row of a manifest (`sources.Source`), a file, or an array."""

    def read(self, sample_rate: int, pre_emphasis: float) -> Audio:
        """Mono audio at `sample_rate`; raises MfhcaError if it cannot be read."""

    def seconds(self) -> float | None:
        """The length as far as it is known without decoding."""


@dataclass(frozen=True)
class Extracted:
    """The features of one utterance: by kind float32 (S, T, F) or (S, M, T, F), and valid frames int32 (S,)."""

    digest: str  # of the audio that was decoded, see audio.Audio
    samples_digest: str
    segments: int
    samples: int  # at the sample rate of the recipes
    features: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()  # see audio.Audio

    @property
    def nbytes(self) -> int:
        """Size of the features in bytes."""
        return sum(values.nbytes for values, _ in self.features.values())


@dataclass
class _Encoding(Generic[Tag]):
    """An utterance whose segments are being encoded."""

    tag: Tag
    name: str  # for messages
    extracted: Extracted
    inputs: np.ndarray  # float32 (S, samples), prepared
    lengths: np.ndarray  # int32 (S,), samples without padding
    states: np.ndarray  # float32 (S, T, D) or (S, M, T, D), filled batch by batch
    encoded: int = 0  # segments


class Extractor(Generic[Tag]):
    """Computes several kinds of features, decoding each file once.

    Args:
        recipes: by kind, with the same segmentation.
        encoder: for the kind "ssl".
        jobs: decoding threads.
    """

    def __init__(self, recipes: Mapping[str, Recipe], encoder: Encoder | None = None, jobs: int = 1) -> None:
        self._recipes, self._encoder, self._jobs = dict(recipes), encoder, jobs
        self._queue: deque[tuple[_Encoding[Tag], int]] = deque()

    def run(
        self, requests: Iterable[tuple[Tag, Readable, Collection[str]]]
    ) -> Generator[tuple[Tag, Extracted | MfhcaError], None, None]:
        """Computes features of several utterances; takes requests only slightly ahead of the results.

        Args:
            requests: a tag that is returned with the result, the utterance, and the kinds of features to compute.

        Yields:
            The tag, and the features or the error. Results are in the order of the requests, except that those
            without "ssl" may come earlier.
        """
        ahead: deque[tuple[Tag, str, Future[tuple[Extracted, np.ndarray, np.ndarray | None]]]] = deque()
        lengths: deque[float] = deque()  # of the utterances in `ahead`, seconds
        most = AHEAD_SECONDS * self._jobs
        pool = ThreadPoolExecutor(self._jobs, "decode")
        try:
            for tag, source, kinds in requests:
                known = source.seconds()
                length = most if known is None else known
                while ahead and (len(ahead) >= AHEAD * self._jobs or sum(lengths) + length > most):
                    lengths.popleft()
                    yield from self._encode(*ahead.popleft())
                ahead.append((tag, name_of(source), pool.submit(self._decode, source, kinds)))
                lengths.append(length)
            while ahead:
                yield from self._encode(*ahead.popleft())
            while self._queue:
                yield from self._encode_batch()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decode(
        self, source: Readable, kinds: Collection[str]
    ) -> tuple[Extracted, np.ndarray, np.ndarray | None]:
        """Everything except the encoder: the spectra, segment lengths (S,), the encoder's input. Runs in a thread.

        Raises:
            MfhcaError: the audio cannot be used; whatever a library raised for it is turned into this.
        """
        try:
            return self._compute(source, kinds)
        except MfhcaError:
            raise
        except Exception as error:  # one bad file never stops the others
            raise _failure(name_of(source), "computing its features", error) from error

    def _compute(
        self, source: Readable, kinds: Collection[str]
    ) -> tuple[Extracted, np.ndarray, np.ndarray | None]:
        shared = next(iter(self._recipes.values()))
        audio = source.read(shared.sample_rate, shared.pre_emphasis)
        segments, lengths = cut(
            audio.samples, shared.segment_samples, shared.tail, shared.minimum_tail_samples
        )
        extracted = Extracted(
            audio.digest, audio.samples_digest, len(lengths), len(audio.samples), warnings=audio.warnings
        )
        inputs = None
        for kind in kinds:
            recipe = self._recipes[kind]
            if isinstance(recipe, LogSpec):
                extracted.features[kind] = logspec(segments, lengths, recipe)
            elif isinstance(recipe, LogMel):
                extracted.features[kind] = logmel(segments, lengths, recipe)
            elif isinstance(recipe, Mfcc):
                extracted.features[kind] = mfcc(segments, lengths, recipe)
            elif self._encoder is not None:
                inputs = self._encoder.prepare(segments, lengths)
        return extracted, lengths, inputs

    def _encode(
        self, tag: Tag, name: str, future: Future[tuple[Extracted, np.ndarray, np.ndarray | None]]
    ) -> Iterator[tuple[Tag, Extracted | MfhcaError]]:
        try:
            extracted, lengths, inputs = future.result()
        except MfhcaError as error:
            yield tag, error
            return
        if inputs is None or self._encoder is None:
            yield tag, extracted
            return
        states = np.empty((len(lengths), *self._encoder.frame_shape), dtype=np.float32)
        encoding = _Encoding(tag, name, extracted, inputs, lengths, states)
        self._queue.extend((encoding, row) for row in range(len(lengths)))
        while len(self._queue) >= self._encoder.batch_size:
            yield from self._encode_batch()

    def _encode_batch(self) -> Iterator[tuple[Tag, Extracted | MfhcaError]]:
        """Encodes one batch and yields the utterances whose last segment is in it."""
        if self._encoder is None:
            return
        batch = [self._queue.popleft() for _ in range(min(self._encoder.batch_size, len(self._queue)))]
        inputs = np.stack([encoding.inputs[row] for encoding, row in batch])
        lengths = np.array([encoding.lengths[row] for encoding, row in batch], dtype=np.int32)
        try:
            encoded = self._encoder.forward(inputs, lengths)
        except MfhcaError:
            raise
        except Exception as error:
            # All utterances of the batch fail, because any of them may be the cause.
            failed = {id(encoding): encoding for encoding, _ in batch}
            self._queue = deque(item for item in self._queue if id(item[0]) not in failed)
            for encoding in failed.values():
                yield encoding.tag, _failure(encoding.name, "running the encoder on it", error)
            return
        for (encoding, row), states in zip(batch, encoded, strict=True):
            encoding.states[row] = states
            encoding.encoded += 1
            if encoding.encoded == len(encoding.lengths):
                valid = self._encoder.backbone.valid_frames(encoding.lengths)
                encoding.extracted.features[Ssl.kind] = (encoding.states, valid)
                yield encoding.tag, encoding.extracted


def name_of(source: object) -> str:
    """The name of a recording for messages: its path, or its name."""
    return str(getattr(source, "path", None) or getattr(source, "name", source))


def _failure(name: str, action: str, error: Exception) -> MfhcaError:
    """The error of one recording; its traceback goes to the log and to -v."""
    log.LOG.debug("%s: %s failed", name, action, exc_info=error)
    return MfhcaError(f"{name}: {action} failed ({one_line(error)}); repair it, or leave it out")
