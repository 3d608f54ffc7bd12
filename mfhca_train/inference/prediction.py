"""The prediction of an ensemble for one recording. It is computed in `predictor`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

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
