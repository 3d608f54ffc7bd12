"""The training loss against formulas in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from mfhca_train.config.settings import TrainConfig
from mfhca_train.training.loss import class_weights, training_loss

RANDOM = np.random.default_rng(0)
LOGITS = torch.from_numpy(RANDOM.normal(0, 2, (9, 4)).astype(np.float32))
LABEL = torch.from_numpy(RANDOM.integers(0, 4, 9))
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 1.5])


def formula(gamma: float, smoothing: float, weights: np.ndarray | None) -> float:
    logp = np.log(np.exp(LOGITS.numpy()) / np.exp(LOGITS.numpy()).sum(axis=1, keepdims=True))
    label, w = LABEL.numpy(), np.ones(4) if weights is None else weights
    rows = np.arange(9)
    target = np.full((9, 4), smoothing / 4)
    target[rows, label] += 1 - smoothing
    each = -(target * logp * w).sum(axis=1) * (1 - np.exp(logp[rows, label])) ** gamma
    return float(each.sum() / w[label].sum())


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(("gamma", "smoothing"), [(0, 0), (0, 0.1), (2, 0), (1.5, 0.2)])
def test_the_loss_is_the_formula(gamma: float, smoothing: float, weights: torch.Tensor | None) -> None:
    config = TrainConfig(focal_gamma=gamma, label_smoothing=smoothing)
    found = training_loss(LOGITS, LABEL, config, weights)
    assert float(found) == pytest.approx(
        formula(gamma, smoothing, None if weights is None else weights.numpy()), rel=1e-5
    )


def test_by_default_it_is_the_plain_cross_entropy_bit_for_bit() -> None:
    assert torch.equal(
        training_loss(LOGITS, LABEL, TrainConfig(), None), functional.cross_entropy(LOGITS, LABEL)
    )
    assert torch.equal(
        training_loss(LOGITS, LABEL, TrainConfig(), WEIGHTS),
        functional.cross_entropy(LOGITS, LABEL, weight=WEIGHTS),
    )


def test_class_weights_balance_the_classes() -> None:
    labels = np.array([0, 0, 0, 2, 2, 3])
    weights = class_weights(labels, 4).numpy()
    totals = [weights[k] * (labels == k).sum() for k in (0, 2, 3)]
    np.testing.assert_allclose(totals, len(labels) / 3, rtol=1e-6)
    assert weights[1] == 0
