"""The prediction of an ensemble for one recording. It is computed in `predictor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.analysis.probe import attended
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.model.fusion import TIME
from mfhca_train.results.metrics import Array
from mfhca_train.results.probabilities import normalised


@dataclass(frozen=True)
class Attention:
    """Attention weights of an ensemble over time. F encoder frames with audio, S segments.

    Attributes:
        segment: (F,) index of the segment of each frame.
        starts, ends: (F,) the span of audio each frame covers, in seconds from the beginning of the recording.
        weights: (F,) share of the segment's attention, mean over the networks.
        padding: (S,) share of the attention on padding; with the weights it sums to one per segment.
    """

    segment: Array
    starts: Array
    ends: Array
    weights: Array
    padding: Array


class FrameTimes(NamedTuple):
    """The encoder's frames, in samples: their distance, their width, and the samples of a second."""

    hop: int
    view: int
    sample_rate: int


def attention_of(
    weights: Array, valid: Array, starts: Array, seconds: float, frames: FrameTimes
) -> Attention:
    """Attention weights with their times.

    Args:
        weights: (S, L), rows sum to one.
        valid: (S,) frames with audio.
        starts: (S,) start of each segment, in seconds.
        seconds: duration of the recording.
        frames: of the encoder.
    """
    segment = np.repeat(np.arange(len(valid)), valid)
    frame = np.concatenate([np.arange(count) for count in valid])
    begins = starts[segment] + frame * frames.hop / frames.sample_rate
    real = weights[segment, frame]
    return Attention(
        segment,
        begins,
        np.minimum(begins + frames.view / frames.sample_rate, seconds),
        real,
        np.maximum(weights.sum(axis=1) - np.bincount(segment, real, len(valid)), 0),
    )


def require_attention(ensemble: Ensemble) -> None:
    """Checks that networks have attention over time.

    Raises:
        MfhcaError: they have none, or not over time.
    """
    config = ensemble.config.model
    if attended(config) != TIME:
        variant = f"{config.fusion}, model.hca={config.hca}" if config.fusion == "hca" else config.fusion
        raise MfhcaError(
            f"{ensemble.source}: with model.inputs={config.inputs}, model.fusion={variant} the networks have no "
            "attention over time; leave attention out"
        )


def require_statistics(ensemble: Ensemble, one_speaker: bool) -> None:
    """Checks that the statistics are there with which networks scale their inputs.

    Args:
        ensemble: the networks.
        one_speaker: whether all recordings are by one speaker.

    Raises:
        MfhcaError: they scale each corpus, or each speaker, by its own statistics, and these are not there.
    """
    if ensemble.config.normalises_per("corpus"):
        raise MfhcaError(
            f"{ensemble.source}: these networks scale each corpus by its own statistics, which single recordings do "
            "not have; score them on a whole corpus with `mfhca-train evaluate`, or train without *_norm=corpus"
        )
    if ensemble.config.normalises_per("speaker") and not one_speaker:
        raise MfhcaError(
            f"{ensemble.source}: these networks were trained with normalisation per speaker (transductive); they need "
            "all recordings of a speaker together, preferably dozens with all emotions. Pass the recordings of one "
            "speaker with --one-speaker (in Python one_speaker=True), or train without *_norm=speaker"
        )


@dataclass(frozen=True, repr=False)
class Prediction:
    """Class probabilities of one recording. M networks, K classes.

    Attributes:
        name: of the file.
        seconds: duration.
        segments: number of segments.
        classes: K names.
        log_probabilities: (M, K), each network's mean over the segments, as in predictions.csv.
        seen_by: how many of the networks were trained or selected on this recording.
        attention: if it was requested.
    """

    name: str
    seconds: float
    segments: int
    classes: tuple[str, ...]
    log_probabilities: Array
    seen_by: int = 0
    attention: Attention | None = None

    @property
    def network_probabilities(self) -> Array:
        """(M, K), the probabilities of each network."""
        return normalised(self.log_probabilities)

    @property
    def probabilities(self) -> Array:
        """(K,), the mean over the networks."""
        mean: Array = self.network_probabilities.mean(axis=0)
        return mean

    @property
    def spread(self) -> Array | None:
        """(K,), the standard deviation over the networks (ddof 1); None for a single network."""
        if len(self.log_probabilities) < 2:
            return None
        deviation: Array = self.network_probabilities.std(axis=0, ddof=1)
        return deviation

    @property
    def emotion(self) -> str:
        """The class with the highest probability; ties go to the first."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def votes(self) -> dict[str, int]:
        """The number of networks that predict each class."""
        counts = Counter(self.log_probabilities.argmax(axis=1).tolist())
        return {name: counts[k] for k, name in enumerate(self.classes)}

    def __repr__(self) -> str:
        probability = 100 * self.probabilities.max()
        return f"Prediction({self.name!r}: {self.emotion}, {probability:.1f} %)"


@dataclass(frozen=True)
class Failure:
    """A recording that cannot be used, and the reason."""

    name: str
    reason: str


def without_failures(results: Iterable[Prediction | Failure]) -> Iterator[Prediction]:
    """The predictions.

    Raises:
        MfhcaError: a recording cannot be used.
    """
    for result in results:
        if isinstance(result, Failure):
            raise MfhcaError(result.reason)
        yield result
