"""The order of an epoch's training segments: each once, or drawn so that groups are equally likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfhca_train.data.batch import Array


def epoch_order(random: np.random.Generator, sampling: str, labels: Array, speakers: Sequence[str]) -> Array:
    """Indices of the segments of one epoch; always as many as there are segments.

    Args:
        random: of the epoch.
        sampling: TrainConfig.sampling.
        labels: (N,) class of each segment.
        speakers: N names.

    >>> order = epoch_order(np.random.default_rng(0), "class", np.array([0] * 9 + [1]), ["a"] * 10)
    >>> len(order), int((order == 9).sum())
    (10, 5)
    """
    if sampling == "all":
        return random.permutation(len(labels))
    pairs = zip(labels.tolist(), speakers, strict=True)
    keys = [label if sampling == "class" else (label, speaker) for label, speaker in pairs]
    groups: dict[object, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    # Equal shares, the remainder to random groups. Within its share a group repeats all its segments before any
    # of them is drawn once more than another.
    share, remainder = divmod(len(labels), len(groups))
    extra = set(random.permutation(len(groups))[:remainder].tolist())
    drawn = []
    for number, members in enumerate(groups.values()):
        count = share + (number in extra)
        rounds = [random.permutation(members) for _ in range(-(-count // len(members)))]
        drawn.append(np.concatenate(rounds)[:count] if rounds else np.empty(0, np.int64))
    return random.permutation(np.concatenate(drawn).astype(np.int64))
