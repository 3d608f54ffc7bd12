"""Softmax, means and pooling with and without masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mfhca_train.model.pooling import (
    VARIANCE_FLOOR,
    PoolNorm,
    adaptive_average,
    pool_cells,
    softmax_over_time,
    valid_mask,
    weighted_statistics,
)


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


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("heads", [(), (4,)])
def test_weighted_statistics_agree_with_their_definition_even_far_from_zero(
    heads: tuple[int, ...], offset: float
) -> None:
    x = torch.randn(3, 9, 5, dtype=torch.float64)
    weights = torch.softmax(torch.randn(3, *heads, 9, dtype=torch.float64), dim=-1)
    found = weighted_statistics((x + offset).float(), weights.float()).double()
    assert found.shape == (3, *heads, 10)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in weights.shape[:-1])).view(
        -1, weights.ndim - 1
    ):
        w, sample = weights[tuple(index)], x[index[0]]
        mean = sum(w[t] * sample[t] for t in range(9))
        variance = sum(w[t] * (sample[t] - mean) ** 2 for t in range(9))
        torch.testing.assert_close(found[tuple(index)][:5], mean + offset, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[tuple(index)][5:], variance.sqrt(), rtol=1e-3, atol=1e-4)


def test_deviation_of_frames_without_weight_does_not_count_and_has_a_floor() -> None:
    x = torch.randn(2, 6, 3)
    x[:, 4:] = 50
    weights = torch.tensor([[0.25] * 4 + [0] * 2, [1.0] + [0] * 5])
    found = weighted_statistics(x, weights)
    torch.testing.assert_close(found[0, 3:], x[0, :4].std(dim=0, correction=0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[1, 3:], torch.full((3,), VARIANCE_FLOOR**0.5))


def test_statistics_are_float32_under_autocast_and_their_gradient_is_right() -> None:
    x = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.softmax(torch.randn(2, 6, dtype=torch.float64), dim=-1).requires_grad_()
    assert torch.autograd.gradcheck(weighted_statistics, (x, weights))
    with torch.autocast("cpu", torch.bfloat16):
        low = weighted_statistics(x.bfloat16(), weights.float())
    assert low.dtype == torch.float32


@pytest.mark.parametrize("shape", [(8, 3), (4, 5, 3)])
def test_pool_norm_is_batch_norm_without_affine_part(shape: tuple[int, ...]) -> None:
    ours, theirs = PoolNorm(3), nn.BatchNorm1d(3, affine=False)
    for _ in range(3):
        x = torch.randn(shape) * 2 + 1
        torch.testing.assert_close(ours(x), theirs(x.flatten(0, -2)).view(shape))
    torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x.flatten(0, -2)).view(shape))


def test_pool_norm_of_a_single_vector_uses_the_running_statistics() -> None:
    norm = PoolNorm(3)
    norm(torch.randn(8, 3) + 5)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    x = torch.randn(1, 3)
    in_training = norm(x)
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())
    torch.testing.assert_close(in_training, norm.eval()(x))


def test_pool_norm_with_a_mask_has_the_statistics_of_the_vectors_inside_it() -> None:
    ours, theirs = PoolNorm(3), PoolNorm(3)
    x, mask = torch.randn(4, 5, 3), torch.rand(4, 5) < 0.6
    torch.testing.assert_close(ours(x, mask)[mask], theirs(x[mask]))
    torch.testing.assert_close(dict(ours.named_buffers()), dict(theirs.named_buffers()))
