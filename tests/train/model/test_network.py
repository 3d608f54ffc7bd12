from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
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
def test_every_variant_gives_logits_and_gradients_everywhere(settings: dict, masked: bool) -> None:
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


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_output_of_a_segment_does_not_depend_on_its_batch(settings: dict) -> None:
    network = model(**settings).eval()
    spec, ssl = batch()
    order = torch.tensor([3, 0, 4])
    spec, ssl = (spec if network.has_spec else None), (ssl if network.has_ssl else None)
    all_of_them = network(spec, ssl).logits
    some = network(None if spec is None else spec[order], None if ssl is None else ssl[order]).logits
    torch.testing.assert_close(all_of_them[order], some, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize("settings", [{"inputs": "ssl"}, {"fusion": "concat", "bilstm": False}], ids=str)
def test_statistics_pool_mean_and_deviation_over_real_frames(settings: dict) -> None:
    network = model(**settings, pooling="statistics", pool_norm=True, mask_padding=True).eval()
    spec, ssl = batch(2)
    valid = torch.tensor([L, 5])
    features = network(spec if network.has_spec else None, ssl, torch.full((2,), T), valid).features[:, -16:]
    for b, count in enumerate(valid.tolist()):
        real = ssl[b : b + 1, :count]
        context = (network.bilstm(real)[0] if network.config.bilstm else real)[0]
        pooled = torch.cat([context.mean(dim=0), context.var(dim=0, correction=0).clamp(min=1e-4).sqrt()])
        side = functional.relu(network.ssl_out(network.pool_norm(pooled[None]))[0])
        torch.testing.assert_close(features[b], side, rtol=1e-3, atol=1e-4)


def test_a_training_batch_of_one_segment_passes_with_pool_norm() -> None:
    for settings in ({"inputs": "ssl"}, {"hca": "temporal"}, {"hca": "frames"}):
        network = model(**settings, pool_norm=True).train()
        spec, ssl = batch(1)
        logits = network(spec if network.has_spec else None, ssl).logits
        assert logits.isfinite().all()


@pytest.mark.parametrize("settings", [{}, {"hca": "frames"}, {"fusion": "concat"}], ids=str)
def test_modality_dropout_zeroes_f_spec_at_the_classifier_alone_and_in_training_alone(settings: dict) -> None:
    plain, dropping = model(**settings), model(**settings, modality_dropout=0.5)
    spec, ssl = batch(64)
    expected = plain(spec, ssl).features
    torch.manual_seed(3)
    found = dropping(spec, ssl).features
    torch.manual_seed(3)
    assert torch.equal(dropping(spec, ssl).features, found)
    torch.testing.assert_close(found[:, 16:], expected[:, 16:])  # still guided by f_spec
    dropped = (found[:, :16] == 0).all(dim=1)
    assert 16 < dropped.sum() < 48
    torch.testing.assert_close(found[~dropped], expected[~dropped])
    evaluated = [model(**settings, modality_dropout=p).eval()(spec, ssl).logits for p in (0.0, 0.5)]
    assert torch.equal(*evaluated)
