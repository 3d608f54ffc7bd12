"""MFHCA_PLAIN=1 switches every fast version off; plain and fast networks agree."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model import cpu
from mfhca_train.model.network import MFHCA

NETWORKS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["bilstm", "multi_spatial_fusion"]),
    ({"grf": "released"}, ["bilstm"]),
    ({"inputs": "spec"}, ["multi_spatial_fusion"]),
    ({"inputs": "ssl", "bilstm": False, "ssl_layer": "weighted-norm"}, ["weighted_sum"]),
]


def train_step(network: MFHCA) -> tuple[Tensor, list[Tensor]]:
    """Logits and gradients of a seeded batch."""
    generator = torch.Generator().manual_seed(1)
    spec = torch.randn(4, 1, 40, 30, generator=generator) if network.has_spec else None
    layers = (3,) if network.has_layers else ()
    ssl = torch.randn(4, *layers, 9, 32, generator=generator) if network.has_ssl else None
    logits = network(spec, ssl).logits
    functional.cross_entropy(logits, torch.arange(4)).backward()
    return logits.detach(), [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize(("settings", "expected"), NETWORKS, ids=str)
def test_the_variable_switches_and_both_versions_agree(
    settings: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = ModelConfig(grf_channels=(4, 6), width=16, dropout=0.0, **settings)
    fast = MFHCA(config, 4, 9, 32, ssl_layers=3 if "ssl_layer" in settings else 0)
    plain = copy.deepcopy(fast)
    calls: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(cpu, name)

        def call(*arguments: Any) -> Any:
            calls.append(name)
            return original(*arguments)

        return call

    for name in ("bilstm", "multi_spatial_fusion", "weighted_sum"):
        monkeypatch.setattr(cpu, name, counted(name))
    fast_logits, fast_gradients = train_step(fast)
    assert sorted(calls) == expected
    calls.clear()
    monkeypatch.setenv(cpu.PLAIN, "1")
    plain_logits, plain_gradients = train_step(plain)
    assert calls == []
    torch.testing.assert_close(fast_logits, plain_logits, rtol=1e-4, atol=1e-5)
    for a, b in zip(fast_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=5e-3, atol=1e-5)
    monkeypatch.setenv(cpu.PLAIN, "0")
    assert cpu.is_faster(torch.zeros(1))
    assert not cpu.is_faster(torch.zeros(1, device="meta"))
