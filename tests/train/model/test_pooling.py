"""Softmax, means and pooling with and without masks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mfhca_train.model.pooling import adaptive_average, pool_cells, softmax_over_time, valid_mask


def test_softmax_gives_nothing_to_masked_frames() -> None:
    weights = softmax_over_time(torch.zeros(2, 5), valid_mask(torch.tensor([2, 5]), 5))
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5, 0, 0, 0], [0.2] * 5]))


@pytest.mark.parametrize(("size", "cells"), [((149, 99), (2, 3)), ((7, 5), (7, 3)), ((4, 9), (1, 1))])
def test_adaptive_average_equals_torchs(size: tuple[int, int], cells: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(adaptive_average(x, cells), functional.adaptive_avg_pool2d(x, cells))


def test_pooling_with_a_mask_averages_the_real_frames_only() -> None:
    x = torch.randn(1, 2, 10, 6)
    found = pool_cells(x, (2, 3), torch.tensor([3]))
    torch.testing.assert_close(found[:, :, 0], functional.adaptive_avg_pool2d(x[:, :, :3], (1, 3))[:, :, 0])
    assert (found[:, :, 1] == 0).all()
