"""Batch norm, ReLU and pooling equal torch's, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from norm_factory import assert_alike, leaf, norms, parameters, plainly
from torch import nn
from torch.nn import functional

from mfhca_train.model.cpu import kernels
from mfhca_train.model.cpu.grf import PositionalPools
from mfhca_train.model.cpu.maps import channels_last
from mfhca_train.model.cpu.norm import all_rows, batch_statistics, norm_relu
from mfhca_train.model.cpu.numba_tools import over_samples

SIGNS = pytest.mark.parametrize("scales", [[1.0, 0.5, 2.0], [1.0, -0.5, 0.3]])
MODES = pytest.mark.parametrize("training", [True, False])


@MODES
@SIGNS
@pytest.mark.parametrize("height", [11, 12])
def test_pooling_before_the_norm_equals_pooling_after_it(
    scales: list[float], training: bool, height: int
) -> None:
    """Also where values are equal, as in padding: the gradient goes where torch sends it."""
    x = leaf(2, 3, height, 14).detach().round()
    y = x.clone().requires_grad_()
    x.requires_grad_()
    mine, theirs = norms(scales, training), norms(scales, training)
    normed = norm_relu(x, mine, pool=True)
    z, *_ = PositionalPools.apply(*normed, 1)
    low = PositionalPools.apply(*normed, 1)[2]
    expected = functional.max_pool2d(plainly(y, theirs), 3, stride=2)
    torch.testing.assert_close(z, expected.mean(3, keepdim=True))
    if (
        min(scales) > 0
    ):  # with a negative scale the first of equal values is the same, but ReLU makes more of them equal
        assert_alike(low, expected, *parameters(mine, theirs), (x, y))
    else:
        assert_alike(low, expected, *parameters(mine, theirs))


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_batch_statistics_equal_float64_even_far_from_zero(offset: float, threads: int) -> None:
    x = channels_last(torch.randn(5, 3, 40, 30) + offset)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        mean, variance, _ = batch_statistics(x, all_rows(x))
        torch.set_num_threads(1)
        assert [t.tolist() for t in batch_statistics(x, all_rows(x))[:2]] == [
            mean.tolist(),
            variance.tolist(),
        ]
    finally:
        torch.set_num_threads(before)
    expected = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean.double(), expected[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance.double(), expected[0], rtol=1e-5 if offset == 0 else 1e-4, atol=1e-6)


def test_bfloat16_is_rounded_as_torch_rounds_it() -> None:
    """norm_backward with scale 1 and nothing else copies: float32 to bfloat16 and back, ties included."""
    bits = torch.arange(0, 2**31 - 1, 77_773, dtype=torch.int64).to(torch.int32)
    x = bits.view(torch.float32)
    x = x[torch.isfinite(x)][: 4 * 6000].reshape(4, 1, 60, 100)
    one, zero = torch.ones(100), torch.zeros(100)
    d = torch.empty_like(x, dtype=torch.bfloat16)
    x = channels_last(x)
    over_samples(kernels.norm_backward, 4, x, all_rows(x), x, one, zero, zero, d)
    assert torch.equal(d, x.to(torch.bfloat16))


def test_what_is_not_finite_stays_so() -> None:
    x = torch.zeros(2, 3, 8, 8)
    x[1, 2, 3, 3] = torch.nan
    normed = norm_relu(x, [nn.BatchNorm2d(3).eval()], pool=True)
    z_h, _, low = PositionalPools.apply(*normed, 1)
    assert torch.isnan(low).any()
    assert torch.isnan(z_h).any()
