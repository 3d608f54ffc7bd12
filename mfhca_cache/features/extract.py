"""From audio to features, at the speed of the encoder.

Each file is decoded once for all kinds of features. Threads decode, segment and
compute spectra while the main thread runs the encoder; a batch holds segments of
several utterances. A long utterance is computed in pieces of a few segments, so that
memory does not grow with its length. The room `build` stores the results.
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
from mfhca_cache.features.audio import Blocks, Properties
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.hub import one_line
from mfhca_cache.features.mel import logmel, mel_power, mfcc
from mfhca_cache.features.segments import cut_blocks
from mfhca_cache.features.spectrum import logspec, powers
from mfhca_cache.recipe.kinds import LogMel, LogSpec, Mfcc, Recipe, Ssl

# A multiple of 16: the transform of the MFCCs takes several frames at once, so that fewer could change last bits.
PIECE = 16  # segments computed at a time; 48 s of the paper's
AHEAD = 4  # utterances decoded in advance, per thread: the first piece of each
MOST_AHEAD = 128  # of them in total, if there are fewer threads; a long one holds two files open
NOTHING = np.zeros((0, 0), np.float32)

Tag = TypeVar("Tag")


class Readable(Protocol):
    """The audio of one utterance: a row of a manifest (`sources.Source`), a file, or an array."""

    def blocks(self, sample_rate: int, pre_emphasis: float) -> Blocks:
        """Mono audio at `sample_rate`, as `audio.stream_audio` yields it; raises MfhcaError if it cannot be read."""


@dataclass(frozen=True)
class Piece:
    """Consecutive segments of one utterance; most utterances have one piece.

    Attributes:
        first: index of its first segment.
        segments: their number S.
        audio: of the whole utterance, with its last piece; None before.
        features: by kind, float32 (S, T, F) or (S, M, T, F), and valid frames int32 (S,).
    """

    first: int
    segments: int
    audio: Properties | None
    features: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size of the features in bytes."""
        return sum(values.nbytes for values, _ in self.features.values())


@dataclass(frozen=True)
class _Decoded:
    """A piece whose segments the encoder has not seen yet."""

    piece: Piece
    lengths: np.ndarray  # int32 (S,), samples without padding
    inputs: np.ndarray  # float32 (S, samples), prepared for the encoder; (0, 0) if it is not needed


@dataclass(eq=False)
class _Utterance(Generic[Tag]):
    """An utterance that is being computed."""

    tag: Tag
    name: str  # for messages
    decoding: Iterator[_Decoded]
    error: MfhcaError | None = None
    reported: bool = False  # whether the error was yielded


@dataclass(eq=False)
class _Encoding(Generic[Tag]):
    """A piece in line for the encoder, or behind one that is."""

    utterance: _Utterance[Tag]
    decoded: _Decoded
    states: np.ndarray  # float32 (S, T, D) or (S, M, T, D), filled batch by batch
    missing: int  # segments to be encoded


class Extractor(Generic[Tag]):
    """Computes several kinds of features, decoding each file once.

    Args:
        recipes: by kind, with the same segmentation.
        encoder: for the kind "ssl".
        jobs: decoding threads.
    """

    def __init__(self, recipes: Mapping[str, Recipe], encoder: Encoder | None = None, jobs: int = 1) -> None:
        self._recipes, self._encoder, self._jobs = dict(recipes), encoder, jobs
        self._queue: deque[tuple[_Encoding[Tag], int]] = deque()  # segments for the encoder
        self._waiting: deque[_Encoding[Tag]] = deque()  # pieces not yet yielded

    def run(
        self, requests: Iterable[tuple[Tag, Readable, Collection[str]]]
    ) -> Generator[tuple[Tag, Piece | MfhcaError], None, None]:
        """Computes features of several utterances; takes requests only slightly ahead of the results.

        Args:
            requests: a tag that is returned with the result, the utterance, and the kinds of features to compute.

        Yields:
            The tag, and the next piece of its features or an error, after which no more pieces of it follow. Utterances
            are in the order of the requests, and so are the pieces of each.
        """
        ahead: deque[tuple[_Utterance[Tag], Future[_Decoded]]] = deque()
        most = min(AHEAD * self._jobs, max(MOST_AHEAD, self._jobs))
        pool = ThreadPoolExecutor(self._jobs, "decode")
        try:
            for tag, source, kinds in requests:
                while len(ahead) >= most:
                    yield from self._encode(pool, *ahead.popleft())
                utterance = _Utterance(tag, name_of(source), self._decode(source, kinds))
                ahead.append((utterance, pool.submit(_next, utterance)))
            while ahead:
                yield from self._encode(pool, *ahead.popleft())
            while self._queue:
                self._encode_batch()
            yield from self._finished()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _decode(self, source: Readable, kinds: Collection[str]) -> Iterator[_Decoded]:
        """Everything except the encoder, piece by piece. Runs in the threads."""
        loudest: dict[str, float] | None = None
        first = 0
        for segments, lengths, audio in self._cut(source):
            if loudest is None:
                loudest = {} if audio is not None else self._loudest(source, kinds)
            piece = Piece(first, len(lengths), audio)
            inputs = NOTHING
            for kind in kinds:
                recipe = self._recipes[kind]
                if isinstance(recipe, LogSpec):
                    piece.features[kind] = logspec(segments, lengths, recipe, loudest.get(kind))
                elif isinstance(recipe, LogMel):
                    piece.features[kind] = logmel(segments, lengths, recipe, loudest.get(kind))
                elif isinstance(recipe, Mfcc):
                    piece.features[kind] = mfcc(segments, lengths, recipe)
                elif self._encoder is not None:
                    inputs = self._encoder.prepare(segments, lengths)
            yield _Decoded(piece, lengths, inputs)
            first += len(lengths)

    def _cut(self, source: Readable) -> Iterator[tuple[np.ndarray, np.ndarray, Properties | None]]:
        recipe = next(iter(self._recipes.values()))
        blocks = source.blocks(recipe.sample_rate, recipe.pre_emphasis)
        return cut_blocks(blocks, recipe.segment_samples, recipe.tail, recipe.minimum_tail_samples, PIECE)

    def _loudest(self, source: Readable, kinds: Collection[str]) -> dict[str, float]:
        """The largest power of a long utterance, for each kind that is relative to it; decodes it once more."""
        recipes = {kind: self._recipes[kind] for kind in kinds}
        of_utterance = {
            kind: recipe
            for kind, recipe in recipes.items()
            if isinstance(recipe, LogSpec | LogMel) and recipe.db_reference == "utterance"
        }
        loudest = dict.fromkeys(of_utterance, 0.0)
        for segments, _, _ in self._cut(source) if of_utterance else ():
            for kind, recipe in of_utterance.items():
                power = (
                    powers(segments, recipe) if isinstance(recipe, LogSpec) else mel_power(segments, recipe)
                )
                loudest[kind] = max(loudest[kind], float(power.max()))
        return loudest

    def _encode(
        self, pool: ThreadPoolExecutor, utterance: _Utterance[Tag], future: Future[_Decoded]
    ) -> Iterator[tuple[Tag, Piece | MfhcaError]]:
        """Passes the pieces of one utterance to the encoder; yields the pieces that are complete by then."""
        last = False
        while not last and utterance.error is None:
            try:
                decoded = future.result()
            except MfhcaError as error:
                self._fail(utterance, error)
                decoded = _Decoded(Piece(0, 0, None), np.zeros(0, np.int32), NOTHING)  # in the error's place
            else:
                last = decoded.piece.audio is not None
                if not last:
                    future = pool.submit(_next, utterance)
            shape = () if self._encoder is None else self._encoder.frame_shape
            count = len(decoded.inputs)
            encoding = _Encoding(utterance, decoded, np.empty((count, *shape), np.float32), count)
            self._waiting.append(encoding)
            self._queue.extend((encoding, row) for row in range(count))
            # Pieces that need no encoder wait for those before them; if they become many, a batch is not filled.
            while self._encoder and (
                len(self._queue) >= self._encoder.batch_size
                or (self._queue and len(self._waiting) > 2 * self._encoder.batch_size)
            ):
                self._encode_batch()
            yield from self._finished()

    def _encode_batch(self) -> None:
        """Encodes one batch."""
        if self._encoder is None:
            return
        batch = [self._queue.popleft() for _ in range(min(self._encoder.batch_size, len(self._queue)))]
        inputs = np.stack([encoding.decoded.inputs[row] for encoding, row in batch])
        lengths = np.array([encoding.decoded.lengths[row] for encoding, row in batch], dtype=np.int32)
        try:
            encoded = self._encoder.forward(inputs, lengths)
        except MfhcaError:
            raise
        except Exception as error:
            # All utterances of the batch fail, because any of them may be the cause.
            for encoding, _ in batch:
                if encoding.utterance.error is None:
                    failure = _failure(encoding.utterance.name, "running the encoder on it", error)
                    self._fail(encoding.utterance, failure)
            return
        for (encoding, row), states in zip(batch, encoded, strict=True):
            encoding.states[row] = states
            encoding.missing -= 1

    def _fail(self, utterance: _Utterance[Tag], error: MfhcaError) -> None:
        utterance.error = error
        self._queue = deque(item for item in self._queue if item[0].utterance is not utterance)

    def _finished(self) -> Iterator[tuple[Tag, Piece | MfhcaError]]:
        """Takes pieces in their order, up to the first that is not complete."""
        while self._waiting and (self._waiting[0].missing == 0 or self._waiting[0].utterance.error):
            encoding = self._waiting.popleft()
            utterance, decoded = encoding.utterance, encoding.decoded
            if utterance.error is None:
                if len(decoded.inputs) and self._encoder is not None:
                    valid = self._encoder.backbone.valid_frames(decoded.lengths)
                    decoded.piece.features[Ssl.kind] = (encoding.states, valid)
                yield utterance.tag, decoded.piece
            elif not utterance.reported:
                utterance.reported = True
                yield utterance.tag, utterance.error


def _next(utterance: _Utterance[Tag]) -> _Decoded:
    """The next piece.

    Raises:
        MfhcaError: the audio cannot be used; whatever a library raised for it is turned into this.
    """
    try:
        return next(utterance.decoding)
    except MfhcaError:
        raise
    except Exception as error:  # one bad file never stops the others
        raise _failure(utterance.name, "computing its features", error) from error


def name_of(source: object) -> str:
    """The name of a recording for messages: its path, or its name."""
    return str(getattr(source, "path", None) or getattr(source, "name", source))


def _failure(name: str, action: str, error: Exception) -> MfhcaError:
    """The error of one recording; its traceback goes to the log and to -v."""
    log.LOG.debug("%s: %s failed", name, action, exc_info=error)
    return MfhcaError(f"{name}: {action} failed ({one_line(error)}); repair it, or leave it out")
