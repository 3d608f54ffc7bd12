from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.mf import GlobalReceptiveField, MultiSpatialFusion
from mfhca_train.model.network import MFHCA, parameter_counts
from mfhca_train.model.pooling import adaptive_average, pool_cells, softmax_over_time, valid_mask

T, F, L, D, K = 40, 30, 14, 32, 4
HCA = ("temporal", "channel", "frames", "released")
SMALL = {"grf_channels": (4, 6), "width": 16, "dropout": 0.0}


def model(**settings: object) -> MFHCA:
    torch.manual_seed(0)
    return MFHCA(ModelConfig(**{**SMALL, **settings}), K, L, D)  # type: ignore[arg-type]


def batch(n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, T, F, generator=generator), torch.randn(n, L, D, generator=generator)


VARIANTS = [
    *(
        {"hca": hca, "grf": grf, "bilstm": lstm}
        for hca, grf, lstm in itertools.product(HCA, ("equations", "released"), (True, False))
    ),
    *(
        {"fusion": fusion, "bilstm": lstm}
        for fusion, lstm in itertools.product(("concat", "coattention"), (True, False))
    ),
    {"inputs": "spec"},
    {"inputs": "ssl"},
    {"inputs": "ssl", "bilstm": False},
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_every_reading_gives_logits_and_gradients_everywhere(settings: dict, masked: bool) -> None:
    network = model(**settings, mask_padding=masked)
    spec, ssl = batch()
    valid = torch.tensor([T, T // 2, 1, T, 3]), torch.tensor([L, L // 2, 1, L, 2])
    output = network(
        spec if network.has_spec else None,
        ssl if network.has_ssl else None,
        valid[0] if network.has_spec else None,
        valid[1] if network.has_ssl else None,
    )
    assert output.logits.shape == (5, K)
    functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 3, 0])).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


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


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_a_segment_is_judged_alike_in_any_company(settings: dict) -> None:
    network = model(**settings).eval()
    spec, ssl = batch()
    order = torch.tensor([3, 0, 4])
    spec, ssl = (spec if network.has_spec else None), (ssl if network.has_ssl else None)
    all_of_them = network(spec, ssl).logits
    some = network(None if spec is None else spec[order], None if ssl is None else ssl[order]).logits
    torch.testing.assert_close(all_of_them[order], some, rtol=1e-4, atol=1e-5)


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


def test_grf_agrees_with_equations_1_to_8_written_out() -> None:
    """An independent computation in loops, in evaluation mode."""
    torch.manual_seed(1)
    block = GlobalReceptiveField(3, 2).double().eval()
    for norm in (block.squeeze_norm, block.context_norm):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    _, c, h, w = x.shape

    def linear(layer: torch.nn.Conv2d, v: Tensor) -> Tensor:
        return layer.weight[:, :, 0, 0] @ v + layer.bias

    def normed(norm: torch.nn.BatchNorm2d, v: Tensor) -> Tensor:
        return (v - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps) * norm.weight + norm.bias

    def swish(v: Tensor) -> Tensor:
        return v / (1 + torch.exp(-v))

    def gate(layer: torch.nn.Conv2d, z: Tensor) -> Tensor:
        return 1 / (
            1 + torch.exp(-linear(layer, swish(normed(block.squeeze_norm, linear(block.squeeze, z)))))
        )

    g_h = [gate(block.excite_h, sum(x[0, :, j, i] for i in range(w)) / w) for j in range(h)]
    g_w = [gate(block.excite_w, sum(x[0, :, j, i] for j in range(h)) / h) for i in range(w)]
    low = torch.zeros(c, h // 2, w // 2, dtype=torch.float64)
    for j, i in itertools.product(range(h // 2), range(w // 2)):
        low[:, j, i] = x[0, :, 2 * j : 2 * j + 2, 2 * i : 2 * i + 2].mean(dim=(1, 2))
    low = torch.stack(
        [
            normed(
                block.context_norm,
                torch.stack(
                    [
                        sum(
                            (
                                block.context.weight[:, :, a + 1, b + 1] @ low[:, j + a, i + b]
                                for a, b in itertools.product((-1, 0, 1), repeat=2)
                                if 0 <= j + a < h // 2 and 0 <= i + b < w // 2
                            ),
                            start=block.context.bias,
                        )
                    ]
                )[0],
            )
            for j, i in itertools.product(range(h // 2), range(w // 2))
        ],
        dim=1,
    ).reshape(c, h // 2, w // 2)
    up = functional.interpolate(low[None], size=(h, w), mode="bilinear", align_corners=False)[0]
    y = torch.empty(c, h, w, dtype=torch.float64)
    for j, i in itertools.product(range(h), range(w)):
        here = x[0, :, j, i]
        y[:, j, i] = here + here * g_h[j] * g_w[i] + (here + up[:, j, i])
    torch.testing.assert_close(block(x)[0], y)


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


def test_parameters_of_the_released_modules_are_the_counted_ones() -> None:
    """Counted in the released code: MF 119,592 (its three equal input channels, without the layer behind it)."""
    mf = MultiSpatialFusion(ModelConfig(grf="released"), in_channels=3)
    assert sum(p.numel() for p in mf.parameters()) == 119_592
    counts = parameter_counts(MFHCA(ModelConfig(), 4))
    assert counts["mf"] == 54_120
    assert counts["bilstm"] == 3_545_088
    assert counts["total"] == sum(v for k, v in counts.items() if k != "total")


def test_encoder_width_and_frames_are_never_assumed() -> None:
    network = MFHCA(ModelConfig(**SMALL), 3, ssl_frames=7, ssl_width=10)  # type: ignore[arg-type]
    assert network(torch.randn(2, 1, 33, 21), torch.randn(2, 7, 10)).logits.shape == (2, 3)


@pytest.mark.parametrize(
    ("settings", "width", "message"),
    [
        ({"hca": "released"}, 48, "divisible by 32, found 48"),
        ({}, 33, "even encoder width, found 33"),
        ({"grf_channels": (5, 6)}, 32, "must be even, found 5"),
    ],
)
def test_what_cannot_be_built_is_refused(settings: dict, width: int, message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        MFHCA(ModelConfig(**{**SMALL, **settings}), K, L, width)


def test_the_full_model_overfits_sixteen_segments() -> None:
    torch.manual_seed(0)
    network = MFHCA(ModelConfig(dropout=0.0), K, 149, 64)
    spec, ssl = torch.randn(16, 1, 100, 80), torch.randn(16, 149, 64)
    labels = torch.arange(16) % K
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        functional.cross_entropy(network(spec, ssl).logits, labels).backward()
        optimiser.step()
    assert (network(spec, ssl).logits.argmax(1) == labels).all()


def test_bfloat16_autocast_stays_close() -> None:
    network = model().eval()
    spec, ssl = batch()
    exact = network(spec, ssl).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network(spec, ssl).logits
    torch.testing.assert_close(rounded.float(), exact, rtol=0.1, atol=0.05)
