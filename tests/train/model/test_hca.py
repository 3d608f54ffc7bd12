"""HCA: eq. 9-11 written out, and the attention of all variants."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.network import MFHCA

T, F, L, D, K = 40, 30, 14, 32, 4
HCA = ("temporal", "channel", "frames", "released")
SMALL = {"grf_channels": (4, 6), "width": 16, "dropout": 0.0}


def model(**settings: object) -> MFHCA:
    torch.manual_seed(0)
    return MFHCA(ModelConfig(**{**SMALL, **settings}), K, L, D)  # type: ignore[arg-type]


def batch(n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, T, F, generator=generator), torch.randn(n, L, D, generator=generator)


@pytest.mark.parametrize("hca", HCA)
def test_attention_rows_sum_to_one_where_there_is_a_softmax(hca: str) -> None:
    attention = model(hca=hca)(*batch()).attention
    assert (
        attention.shape
        == {"temporal": (5, L), "channel": (5, D), "frames": (5, 19, L), "released": (5, L)}[hca]
    )
    if hca == "released":
        assert (attention >= 0).all()
        assert not torch.allclose(attention.sum(-1), torch.ones(()))
    else:
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))


@pytest.mark.parametrize(("scale", "divisor"), [("none", 1.0), ("sqrt", D**0.5)])
def test_temporal_hca_agrees_with_equations_9_to_11_written_out(scale: str, divisor: float) -> None:
    network = model(hca_scale=scale).eval()
    spec, ssl = batch(2)
    output = network(spec, ssl)
    pooled = functional.adaptive_avg_pool2d(network.mf(spec), (2, 3)).flatten(1)
    f_spec = functional.relu(network.spec_out(pooled))
    context, _ = network.bilstm(ssl)
    for b in range(2):
        scores = torch.stack(
            [network.fusion.query(f_spec[b]) @ context[b, frame] / divisor for frame in range(L)]
        )
        weights = torch.exp(scores) / torch.exp(scores).sum()
        attended = sum(weights[frame] * ssl[b, frame] for frame in range(L))
        side = functional.relu(network.fusion.out(attended))
        torch.testing.assert_close(output.attention[b], weights, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(output.features[b], torch.cat([f_spec[b], side]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hca", ["temporal", "frames"])
def test_statistics_pool_f_hubert_by_the_attention_weights(hca: str) -> None:
    network = model(hca=hca, pooling="statistics").eval()
    spec, ssl = batch(2)
    output = network(spec, ssl)
    assert network.fusion.out.in_features == 2 * D
    attention = output.attention if hca == "frames" else output.attention[:, None]  # (B, H, L)
    sides = []
    for b in range(2):
        for weights in attention[b]:
            mean = weights @ ssl[b]
            deviation = (weights @ (ssl[b] - mean).square()).sqrt()
            sides.append(functional.relu(network.fusion.out(torch.cat([mean, deviation]))))
    expected = torch.stack(sides).view(2, -1, 16).mean(dim=1)
    torch.testing.assert_close(output.features[:, 16:], expected, rtol=1e-3, atol=1e-4)
