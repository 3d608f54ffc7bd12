"""What an ensemble says of one recording. How it comes to say so is in `predict`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from mfhca_train.results.metrics import Array


def normalised(log_probabilities: Array) -> Array:
    """The exponentials over the last axis, scaled to sum to one.

    A mean of segments' log-probabilities is that of no distribution; this makes it one and keeps its order.

    >>> normalised(np.log([[0.2, 0.2]])).tolist()
    [[0.5, 0.5]]
    """
    raised = np.exp(log_probabilities - log_probabilities.max(axis=-1, keepdims=True))
    scaled: Array = raised / raised.sum(axis=-1, keepdims=True)
    return scaled


@dataclass(frozen=True)
class Attention:
    """Where in time an ensemble looked. F frames of the encoder that hold audio, S segments.

    Attributes:
        segment: (F,) which segment a frame is of.
        starts, ends: (F,) the audio that a frame sees, in seconds from the recording's beginning.
        weights: (F,) its share of the segment's attention, mean over the networks.
        padding: (S,) the share that fell on padding behind the recording's end: with the weights one a segment.
    """

    segment: Array
    starts: Array
    ends: Array
    weights: Array
    padding: Array


@dataclass(frozen=True)
class Prediction:
    """Class probabilities of one recording. M networks, K classes.

    Attributes:
        name: of the file.
        seconds: its length.
        segments: it was cut into.
        classes: K names.
        log_probabilities: (M, K), each network's mean over the segments, as in predictions.csv.
        heard_by: how many of the networks were trained or selected on this very file.
        attention: where they looked, if that was asked for.
    """

    name: str
    seconds: float
    segments: int
    classes: tuple[str, ...]
    log_probabilities: Array
    heard_by: int = 0
    attention: Attention | None = None

    @property
    def of_networks(self) -> Array:
        """(M, K), each network's probabilities: the exponentials of its log-probabilities, scaled to sum to one."""
        return normalised(self.log_probabilities)

    @property
    def probabilities(self) -> Array:
        """(K,), the arithmetic mean over the networks."""
        mean: Array = self.of_networks.mean(axis=0)
        return mean

    @property
    def spread(self) -> Array | None:
        """(K,), the standard deviation over the networks (ddof 1); None for a single one."""
        if len(self.log_probabilities) < 2:
            return None
        deviation: Array = self.of_networks.std(axis=0, ddof=1)
        return deviation

    @property
    def emotion(self) -> str:
        """The class with the highest probability; of equal ones the first."""
        return self.classes[int(self.probabilities.argmax())]

    @property
    def votes(self) -> dict[str, int]:
        """How many networks find each class the most likely."""
        counts = Counter(self.log_probabilities.argmax(axis=1).tolist())
        return {name: counts[k] for k, name in enumerate(self.classes)}


@dataclass(frozen=True)
class Failure:
    """A recording of which nothing can be said, and why."""

    name: str
    reason: str
