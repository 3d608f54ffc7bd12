"""The training loss: cross-entropy, optionally with class weights, label smoothing and focal weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.batch import Array


def class_weights(labels: Array, classes: int, device: str = "cpu") -> Tensor:
    """Weights (K,) by inverse frequency, with mean 1 over the labels; 0 for a class without a label.

    >>> class_weights(np.array([0, 0, 0, 1]), 3)
    tensor([0.6667, 2.0000, 0.0000])
    """
    counts = np.bincount(labels, minlength=classes)
    present = (counts > 0).sum()
    weights = np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0.0)
    return torch.tensor(weights, dtype=torch.float32, device=device)


def training_loss(logits: Tensor, label: Tensor, config: TrainConfig, weights: Tensor | None) -> Tensor:
    """The mean loss of a batch.

    With focal_gamma = g, a segment whose true class has probability p weighs (1 - p)^g (Lin et al., 2017).

    Args:
        logits: (B, K) float32.
        label: (B,).
        config: `label_smoothing` and `focal_gamma` are read.
        weights: (K,) of the classes, or None.

    >>> logits, label = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    >>> round(float(training_loss(logits, label, TrainConfig(), None)), 3)
    0.127
    >>> round(float(training_loss(logits, label, TrainConfig(focal_gamma=2), None)), 3)
    0.002
    """
    smoothing = config.label_smoothing
    if not config.focal_gamma:
        return functional.cross_entropy(logits, label, weight=weights, label_smoothing=smoothing)
    each = functional.cross_entropy(
        logits, label, weight=weights, label_smoothing=smoothing, reduction="none"
    )
    true_class = torch.softmax(logits, dim=1).gather(1, label[:, None])[:, 0]
    focal = (1 - true_class) ** config.focal_gamma * each
    return focal.mean() if weights is None else focal.sum() / weights[label].sum()
