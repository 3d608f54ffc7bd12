"""The memory-saving forms equal the plain ones, in value and in gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from mfhca_train import fused
from mfhca_train.config import ModelConfig
from mfhca_train.model import MFHCA, MultiSpatialFusion
from mfhca_train.pooling import averaging_matrix


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize(("low", "high"), [(37, 149), (24, 99), (5, 5), (1, 7), (9, 149)])
def test_bilinear_matrix_equals_interpolate(low: int, high: int) -> None:
    x = leaf(2, 3, low, 4).detach()
    expected = functional.interpolate(x, size=(high, 4), mode="bilinear", align_corners=False)
    matrix = fused.bilinear_matrix(low, high, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(matrix @ x, expected)


@pytest.mark.parametrize("rate", [1, 2, 4])
def test_positional_pools_equal_plain_pooling_and_its_gradient(rate: int) -> None:
    x = leaf(2, 3, 9, 11)
    pools = fused.PositionalPools.apply(x, rate)
    plain = x.mean(3, keepdim=True), x.mean(2, keepdim=True), functional.avg_pool2d(x, rate)
    for found, expected in zip(pools, plain, strict=True):
        torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(lambda v: fused.PositionalPools.apply(v, rate), [x])


def test_gated_sum_equals_equations_6_to_8_and_its_gradient() -> None:
    x, g_h, g_w, low = (
        leaf(2, 3, 7, 9),
        leaf(2, 3, 7, 1, seed=1),
        leaf(2, 3, 1, 9, seed=2),
        leaf(2, 3, 3, 4, seed=3),
    )
    up = functional.interpolate(low, size=(7, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(fused.GatedSum.apply(x, g_h, g_w, low), x + x * g_h * g_w + (x + up))
    assert torch.autograd.gradcheck(fused.GatedSum.apply, [x, g_h, g_w, low])


def test_gated_sum_makes_its_input_again_instead_of_keeping_it() -> None:
    source, scale, shift = leaf(2, 3, 7, 9), leaf(3, 1, 1, seed=5), leaf(3, 1, 1, seed=6)
    origin = fused.Origin(source.detach(), scale.detach(), shift.detach())
    x = functional.relu(source * scale + shift).detach().requires_grad_()
    rest = [leaf(2, 3, 7, 1, seed=1), leaf(2, 3, 1, 9, seed=2), leaf(2, 3, 3, 4, seed=3)]
    weights = leaf(2, 3, 7, 9, seed=4).detach()
    kept = torch.autograd.grad((fused.GatedSum.apply(x, *rest) * weights).sum(), [x, *rest])
    again = torch.autograd.grad((fused.GatedSum.apply(x, *rest, origin) * weights).sum(), [x, *rest])
    for a, b in zip(again, kept, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_batch_statistics_equal_float64_even_far_from_zero(offset: float) -> None:
    x = torch.randn(5, 3, 40, 30) + offset
    mean, variance = fused.batch_statistics(x)
    expected = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean.double(), expected[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(variance.double(), expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scales", [[1.0, 0.5, 2.0], [1.0, -0.5, 0.3]])
def test_norm_relu_equals_the_two_layers(scales: list[float]) -> None:
    norm = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(scales))
        norm.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    plain = copy.deepcopy(norm)
    a, b = leaf(2, 3, 5, 4), leaf(2, 3, 5, 4)
    found, origin = fused.norm_relu(a, norm)
    expected = functional.relu(plain(b))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(functional.relu(origin.source * origin.scale + origin.shift), expected)
    weights = leaf(*found.shape, seed=5).detach()
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    for mine, theirs in zip(norm.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    for mine, theirs in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("scales", [[1.0, 0.5, 2.0], [1.0, -0.5, 0.3]])
def test_norm_relu_pool_equals_the_three_layers(scales: list[float]) -> None:
    norm = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(scales))
        norm.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    plain = copy.deepcopy(norm)
    a, b = leaf(2, 3, 11, 13), leaf(2, 3, 11, 13)
    found = fused.norm_relu_pool(a, norm)
    expected = functional.max_pool2d(functional.relu(plain(b)), 3, stride=2)
    torch.testing.assert_close(found, expected)
    weights = leaf(*found.shape, seed=5).detach()
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad)
    torch.testing.assert_close(norm.bias.grad, plain.bias.grad)
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


def test_the_whole_module_trains_alike_with_either_form(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = MultiSpatialFusion(ModelConfig(grf_channels=(4, 6))).double()
    plain = copy.deepcopy(module)
    x = leaf(2, 1, 60, 40).detach()
    found = module(x)
    monkeypatch.setattr(fused, "pays_for", lambda _: False)
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
    fused.bilinear_matrix.cache_clear()
    averaging_matrix.cache_clear()
    network = MFHCA(ModelConfig(inputs="spec", grf_channels=(4, 6)), classes=2)
    x = torch.randn(2, 1, 60, 40)
    with torch.inference_mode():
        network.eval()(x)
        kept = (
            fused.bilinear_matrix(3, 7, torch.float32, x.device),
            averaging_matrix(7, 3, torch.float32, x.device),
        )
    assert not any(matrix.is_inference() for matrix in kept)
    network.train()(x).logits.sum().backward()
