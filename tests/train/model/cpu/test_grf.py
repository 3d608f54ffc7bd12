"""The GRF block's functions equal the plain equations, in value and in gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from norm_factory import assert_alike, leaf, norms, parameters, plainly
from torch.nn import functional

from mfhca_train.model.cpu.grf import GatedSum, PositionalPools, interpolation
from mfhca_train.model.cpu.norm import norm_relu

SIGNS = pytest.mark.parametrize("scales", [[1.0, 0.5, 2.0], [1.0, -0.5, 0.3]])
MODES = pytest.mark.parametrize("training", [True, False])


@pytest.mark.parametrize(("low", "high"), [(37, 149), (24, 99), (5, 5), (1, 7), (9, 149)])
def test_interpolation_equals_torchs(low: int, high: int) -> None:
    x = leaf(1, 1, low, 1).detach()
    expected = functional.interpolate(x, size=(high, 1), mode="bilinear", align_corners=False)
    before, after, share = torch.from_numpy(interpolation(low, high, np.dtype(np.float64))).T
    found = x[..., before.long(), :] * (1 - share[:, None]) + x[..., after.long(), :] * share[:, None]
    torch.testing.assert_close(found, expected)


@MODES
@SIGNS
@pytest.mark.parametrize("rate", [1, 2, 4])
def test_positional_pools_equal_plain_pooling(rate: int, scales: list[float], training: bool) -> None:
    x, mine = leaf(2, 3, 9, 11), norms(scales, training)
    y, theirs = x.detach().clone().requires_grad_(), norms(scales, training)
    pools = PositionalPools.apply(*norm_relu(x, mine), rate)
    z = plainly(y, theirs)
    plain = z.mean(3, keepdim=True), z.mean(2, keepdim=True), functional.avg_pool2d(z, rate)
    flat = [torch.cat([part.flatten() for part in parts]) for parts in (pools, plain)]
    assert_alike(*flat, (x, y), *parameters(mine, theirs))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(dict(a.named_buffers()), dict(b.named_buffers()))


@MODES
@SIGNS
def test_gated_sum_equals_equations_6_to_8(scales: list[float], training: bool) -> None:
    rest = [leaf(2, 3, 7, 1, seed=1), leaf(2, 3, 1, 9, seed=2), leaf(2, 3, 3, 4, seed=3)]
    again = [part.detach().clone().requires_grad_() for part in rest]
    x, mine = leaf(2, 3, 7, 9), norms(scales, training)
    y, theirs = x.detach().clone().requires_grad_(), norms(scales, training)
    found = GatedSum.apply(*norm_relu(x, mine), *rest)
    z, (g_h, g_w, low) = plainly(y, theirs), again
    up = functional.interpolate(low, size=(7, 9), mode="bilinear", align_corners=False)
    assert_alike(
        found, z + z * g_h * g_w + (z + up), (x, y), *zip(rest, again, strict=True), *parameters(mine, theirs)
    )


def test_gradients_agree_with_finite_differences() -> None:
    def block(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        normed = norm_relu(x, norms([1.0, -0.5, 0.3]))
        z_h, z_w, low = PositionalPools.apply(*normed, 2)
        return GatedSum.apply(*normed, z_h + rest[0], z_w + rest[1], low * 2)

    assert torch.autograd.gradcheck(
        block, [leaf(2, 3, 6, 5), leaf(2, 3, 6, 1, seed=1), leaf(2, 3, 1, 5, seed=2)]
    )
