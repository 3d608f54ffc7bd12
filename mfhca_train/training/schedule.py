"""The learning rate over the steps of a training."""

from __future__ import annotations

import math

from mfhca_train.config.settings import TrainConfig


def lr_factor(config: TrainConfig, step: int, steps: int) -> float:
    """The factor of the learning rate.

    Args:
        config: `schedule` and `epochs` are read.
        step: 1 for the first of the whole training.
        steps: per epoch.

    >>> [round(lr_factor(TrainConfig(schedule="cosine", epochs=3), step, 2), 3) for step in range(1, 7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if config.schedule == "constant":
        return 1.0
    if step <= steps:
        return step / steps
    done = (step - steps - 1) / max(1, (config.epochs - 1) * steps)
    return 0.5 * (1 + math.cos(math.pi * done))
