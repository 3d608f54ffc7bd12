"""MF and networks compute and train alike in the fast and the plain version."""

from __future__ import annotations

import copy

import pytest
import torch
from norm_factory import leaf

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.cpu import PLAIN
from mfhca_train.model.mf import MultiSpatialFusion
from mfhca_train.model.network import MFHCA
from mfhca_train.model.pooling import averaging_matrix


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
