"""The memory-saving forms equal the plain ones, in value and in gradient."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.cpu import PLAIN, fused, kernels
from mfhca_train.model.cpu.numba_tools import over_samples
from mfhca_train.model.mf import MultiSpatialFusion
from mfhca_train.model.network import MFHCA
from mfhca_train.model.pooling import averaging_matrix


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def norms(scales: list[float], training: bool = True) -> list[nn.BatchNorm2d]:
    """Two norms over three channels in all, with these scales."""
    found = [nn.BatchNorm2d(1), nn.BatchNorm2d(2)]
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for norm, part in zip(found, torch.tensor(scales).split([1, 2]), strict=True):
            norm.weight.copy_(part)
            for other in (norm.bias, norm.running_mean):
                other.copy_(torch.randn(len(part), generator=generator))
            norm.running_var.copy_(torch.rand(len(part), generator=generator) + 0.5)
    return [norm.double().train(training) for norm in found]


def plainly(x: torch.Tensor, layers: list[nn.BatchNorm2d]) -> torch.Tensor:
    """The same norms and ReLU by torch."""
    return functional.relu(
        torch.cat([norm(part) for norm, part in zip(layers, x.split([1, 2], 1), strict=True)], 1)
    )


SIGNS = pytest.mark.parametrize("scales", [[1.0, 0.5, 2.0], [1.0, -0.5, 0.3]])
MODES = pytest.mark.parametrize("training", [True, False])


def assert_alike(
    found: torch.Tensor, expected: torch.Tensor, *pairs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Equal values, and equal gradients of a random weighting of them, for each pair of leaves."""
    torch.testing.assert_close(found, expected)
    weights = leaf(*found.shape, seed=5).detach()
    mine = torch.autograd.grad((found * weights).sum(), [a for a, _ in pairs])
    theirs = torch.autograd.grad((expected * weights).sum(), [b for _, b in pairs])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def parameters(
    mine: list[nn.BatchNorm2d], theirs: list[nn.BatchNorm2d]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Corresponding parameters of two lists of norms."""
    return [
        (a, b)
        for p, q in zip(mine, theirs, strict=True)
        for a, b in zip(p.parameters(), q.parameters(), strict=True)
    ]


@pytest.mark.parametrize(("low", "high"), [(37, 149), (24, 99), (5, 5), (1, 7), (9, 149)])
def test_interpolation_equals_torchs(low: int, high: int) -> None:
    x = leaf(1, 1, low, 1).detach()
    expected = functional.interpolate(x, size=(high, 1), mode="bilinear", align_corners=False)
    before, after, share = torch.from_numpy(fused.interpolation(low, high, np.dtype(np.float64))).T
    found = x[..., before.long(), :] * (1 - share[:, None]) + x[..., after.long(), :] * share[:, None]
    torch.testing.assert_close(found, expected)


@MODES
@SIGNS
@pytest.mark.parametrize("rate", [1, 2, 4])
def test_positional_pools_equal_plain_pooling(rate: int, scales: list[float], training: bool) -> None:
    x, mine = leaf(2, 3, 9, 11), norms(scales, training)
    y, theirs = x.detach().clone().requires_grad_(), norms(scales, training)
    pools = fused.PositionalPools.apply(*fused.norm_relu(x, mine), rate)
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
    found = fused.GatedSum.apply(*fused.norm_relu(x, mine), *rest)
    z, (g_h, g_w, low) = plainly(y, theirs), again
    up = functional.interpolate(low, size=(7, 9), mode="bilinear", align_corners=False)
    assert_alike(
        found, z + z * g_h * g_w + (z + up), (x, y), *zip(rest, again, strict=True), *parameters(mine, theirs)
    )


def test_gradients_agree_with_finite_differences() -> None:
    def block(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        normed = fused.norm_relu(x, norms([1.0, -0.5, 0.3]))
        z_h, z_w, low = fused.PositionalPools.apply(*normed, 2)
        return fused.GatedSum.apply(*normed, z_h + rest[0], z_w + rest[1], low * 2)

    assert torch.autograd.gradcheck(
        block, [leaf(2, 3, 6, 5), leaf(2, 3, 6, 1, seed=1), leaf(2, 3, 1, 5, seed=2)]
    )


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
    source, scale, shift = fused.norm_relu(x, mine, pool=True)
    z, *_ = fused.PositionalPools.apply(source, scale, shift, 1)
    low = fused.PositionalPools.apply(source, scale, shift, 1)[2]
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
    x = fused.channels_last(torch.randn(5, 3, 40, 30) + offset)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        mean, variance = fused.batch_statistics(x)
        torch.set_num_threads(1)
        assert [t.tolist() for t in fused.batch_statistics(x)] == [mean.tolist(), variance.tolist()]
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
    over_samples(kernels.norm_backward, 4, fused.channels_last(x), fused.channels_last(x), one, zero, zero, d)
    assert torch.equal(d, x.to(torch.bfloat16))


def test_what_is_not_finite_stays_so() -> None:
    x = torch.zeros(2, 3, 8, 8)
    x[1, 2, 3, 3] = torch.nan
    source, scale, shift = fused.norm_relu(x, [nn.BatchNorm2d(3).eval()], pool=True)
    z_h, _, low = fused.PositionalPools.apply(source, scale, shift, 1)
    assert torch.isnan(low).any()
    assert torch.isnan(z_h).any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_bfloat16_is_near_and_float32_at_rounding(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = MFHCA(ModelConfig(grf_channels=(8, 12), dropout=0.0), 4, 12, 32)
    plain = copy.deepcopy(network).double()
    spec, ssl = torch.randn(6, 1, 60, 40), torch.randn(6, 12, 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        found = network(spec, ssl).logits.float()
    found.square().sum().backward()
    monkeypatch.setenv(PLAIN, "1")
    expected = plain(spec.double(), ssl.double()).logits
    expected.square().sum().backward()
    pairs = [(p.grad, q.grad) for p, q in zip(network.parameters(), plain.parameters(), strict=True)]
    near = 1e-4 if precision == "float32" else 0.25
    whole = [torch.cat([side.double().flatten() for side in sides]) for sides in zip(*pairs, strict=True)]
    for a, b in [(found.detach(), expected.detach()), whole, *(pairs if precision == "float32" else ())]:
        assert float((a - b).norm()) <= near * float(b.norm()) + 1e-6


def test_the_whole_module_trains_alike_with_either_form(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = MultiSpatialFusion(ModelConfig(grf_channels=(4, 6))).double()
    plain = copy.deepcopy(module)
    x = leaf(2, 1, 60, 40).detach()
    found = module(x)
    monkeypatch.setenv(PLAIN, "1")
    expected = plain(x)
    torch.testing.assert_close(found, expected)
    weights = leaf(*found.shape, seed=7).detach()
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, a), b in zip(module.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    for (name, a), b in zip(module.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, n=name: f"{n}: {m}")


def test_training_may_follow_an_evaluation_in_the_same_process() -> None:
    averaging_matrix.cache_clear()
    network = MFHCA(ModelConfig(inputs="spec", grf_channels=(4, 6)), classes=2)
    x = torch.randn(2, 1, 60, 40)
    with torch.inference_mode():
        network.eval()(x)
        kept = averaging_matrix(7, 3, torch.float32, x.device)
    assert not kept.is_inference()
    network.train()(x).logits.sum().backward()
