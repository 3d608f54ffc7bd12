"""With `mask_padding` no output depends on padded frames, in training and in evaluation, plain and fast."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.cpu import PLAIN
from mfhca_train.model.masking import average_pool, batch_norm, extend, masked, mean_over_rows, row_mask
from mfhca_train.model.network import MFHCA

T, F, L, D = 76, 70, 14, 32
VARIANTS: list[dict[str, Any]] = [
    *({"hca": hca} for hca in ("temporal", "channel", "frames", "released")),
    {"grf": "released"},
    {"hca": "frames", "grf": "released", "grf_rate": 3},
    {"fusion": "coattention"},
    {"fusion": "concat", "bilstm": False, "pooling": "statistics"},
    {"hca": "temporal", "pooling": "statistics", "pool_norm": True},
    {"hca": "frames", "pooling": "statistics", "pool_norm": True},
    {"inputs": "ssl", "pooling": "statistics", "pool_norm": True},
    {"inputs": "spec"},
    {"inputs": "ssl"},
    {"inputs": "ssl", "ssl_layer": "weighted-norm"},
    {"spec_encoder": "alexnet"},
    {"spec_encoder": "alexnet", "hca": "frames"},
    {"fusion": "coattention", "mfcc": True},
]
SPEC_VALID = torch.tensor([T, T // 2, 1, 13, 66])
SSL_VALID = torch.tensor([L, L // 2, 1, 2, 12])
MFCC_VALID = torch.tensor([20, 10, 1, 3, 19])


def network(settings: dict[str, Any]) -> MFHCA:
    torch.manual_seed(0)
    layers = 3 if "ssl_layer" in settings else 0
    config = ModelConfig(
        **{"grf_channels": (4, 6), "width": 16, "dropout": 0.0, "mask_padding": True} | settings
    )
    return MFHCA(config, 4, L, D, mfcc_shape=(20, 6), ssl_layers=layers)


def inputs(model: MFHCA, padding: float) -> dict[str, Tensor]:
    """Random inputs whose padded frames are multiplied by `padding`."""
    generator = torch.Generator().manual_seed(1)
    layers = (3,) if model.has_layers else ()
    values = {
        "spec": torch.randn(5, 1, T, F, generator=generator),
        "ssl": torch.randn(5, *layers, L, D, generator=generator),
        "mfcc": torch.randn(5, 20, 6, generator=generator),
    }
    given: dict[str, Tensor] = {}
    for side, valid in (("spec", SPEC_VALID), ("ssl", SSL_VALID), ("mfcc", MFCC_VALID)):
        if {"spec": model.has_spec, "ssl": model.has_ssl, "mfcc": model.config.mfcc}[side]:
            x = values[side]
            frames = torch.arange(x.shape[-2])[:, None]
            padded = frames >= valid.view(-1, *[1] * (x.ndim - 1))
            given[side] = torch.where(padded, padding * x, x)
            given[f"{side}_valid"] = valid
    return given


def outputs(model: MFHCA, given: dict[str, Tensor]) -> list[Tensor]:
    """Logits, features, and after a training step all gradients and running statistics."""
    model = copy.deepcopy(model)
    torch.manual_seed(2)  # the MFCCs' LSTM has dropout of its own
    output = model(**given)
    found = [output.logits.detach(), output.features.detach()]
    if model.training:
        functional.cross_entropy(output.logits, torch.tensor([0, 1, 2, 3, 0])).backward()
        found += [p.grad for p in model.parameters() if p.grad is not None]
    return [*found, *model.buffers()]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_nothing_depends_on_padded_frames(
    settings: dict[str, Any], plain: bool, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLAIN, "1" if plain else "0")
    model = network(settings).train(training)
    for a, b in zip(outputs(model, inputs(model, -4.0)), outputs(model, inputs(model, 9.0)), strict=True):
        assert torch.equal(a, b)
    model.config = ModelConfig(**vars(model.config) | {"mask_padding": False})
    free = [outputs(model, inputs(model, value))[0] for value in (-4.0, 9.0)]
    assert not torch.allclose(*free)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_plain_and_fast_masked_networks_agree(
    settings: dict[str, Any], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(settings).double().train(training)
    given = {name: x.double() if x.is_floating_point() else x for name, x in inputs(model, 3.0).items()}
    fast = outputs(model, given)
    monkeypatch.setenv(PLAIN, "1")
    for a, b in zip(fast, outputs(model, given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_batch_without_padding_is_computed_as_without_the_setting() -> None:
    model = network({}).train()
    given = inputs(model, 0.0) | {"spec_valid": torch.full((5,), T), "ssl_valid": torch.full((5,), L)}
    given["spec"], given["ssl"] = torch.randn(5, 1, T, F), torch.randn(5, L, D)
    masked_outputs = outputs(model, given)
    model.config = ModelConfig(**vars(model.config) | {"mask_padding": False})
    for a, b in zip(masked_outputs, outputs(model, given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def plain_map(mf: Any, spec: Tensor) -> Tensor:
    """MF without any mask, equation by equation, in torch's own operations."""
    along_time = functional.relu(mf.time_norm(mf.time_conv(spec)))
    along_frequency = functional.relu(mf.frequency_norm(mf.frequency_conv(spec)))
    x = functional.max_pool2d(torch.cat([along_time, along_frequency], dim=1), 3, stride=2)
    for index, grf in enumerate(mf.grfs):
        if index:
            x = functional.relu(mf.norms[index - 1](mf.convs[index - 1](x)))
        z = torch.cat([x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True).transpose(2, 3)], dim=2)
        f = functional.silu(grf.squeeze_norm(grf.squeeze(z)))
        g_h = torch.sigmoid(grf.excite_h(f[:, :, : x.shape[2]]))
        g_w = torch.sigmoid(grf.excite_w(f[:, :, x.shape[2] :])).transpose(2, 3)
        low = grf.context_norm(grf.context(functional.avg_pool2d(x, grf.rate)))
        y_b = x + functional.interpolate(low, size=x.shape[2:], mode="bilinear", align_corners=False)
        x = x + x * g_h * g_w + y_b
    return x


@pytest.mark.parametrize("training", [True, False])
def test_without_the_setting_the_bits_are_those_of_torch_without_masks(
    training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLAIN, "1")
    model = network({"mask_padding": False}).train(training)
    given, other = inputs(model, 3.0), copy.deepcopy(model)
    assert torch.equal(model.mf(given["spec"]), plain_map(other.mf, given["spec"]))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), other.buffers(), strict=True))
    assert torch.equal(model.with_context(given["ssl"], None), model.bilstm(given["ssl"])[0])


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_without_the_setting_no_bit_depends_on_the_numbers_of_real_frames(
    settings: dict[str, Any], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLAIN, "1" if plain else "0")
    model = network(settings | {"mask_padding": False}).train()
    given = inputs(model, 3.0)
    without = {name: x for name, x in given.items() if not name.endswith("valid")}
    for a, b in zip(outputs(model, given), outputs(model, without), strict=True):
        assert torch.equal(a, b)


def test_masked_operations_equal_torchs_on_each_sample_cut_to_its_real_rows() -> None:
    x, rows = torch.randn(3, 2, 12, 5), torch.tensor([12, 7, 1])
    mask = row_mask(rows, 12)
    x = masked(x, mask)
    for b, count in enumerate(rows.tolist()):
        real = x[b : b + 1, :, :count]
        torch.testing.assert_close(mean_over_rows(x, rows)[b : b + 1], real.mean(dim=2, keepdim=True))
        padded = functional.pad(real, (0, 0, 0, -count % 4), mode="replicate") if count >= 4 else real
        cells = functional.avg_pool2d(padded, 4) if count % 4 == 0 else None
        if cells is not None:
            torch.testing.assert_close(average_pool(x, 4, rows)[b : b + 1, :, : count // 4], cells)
        assert torch.equal(extend(x, rows)[b, :, count:], real[0, :, -1:].expand(-1, 12 - count, -1))
    last = average_pool(x, 4, rows)[1, :, 1]  # rows 4 to 6 of the second sample
    torch.testing.assert_close(last, functional.avg_pool2d(x[1:2, :, 4:7, :4], (3, 4))[0, :, 0])


def test_masked_batch_norm_has_the_statistics_of_the_real_cells() -> None:
    x, rows = torch.randn(3, 2, 12, 5) * 3 + 1, torch.tensor([12, 7, 1])
    ours, theirs = nn.BatchNorm2d(2), nn.BatchNorm1d(2)
    found = batch_norm(ours, x, row_mask(rows, 12))
    cells = torch.cat([x[b, :, :count].flatten(1) for b, count in enumerate(rows.tolist())], dim=1).T
    expected = theirs(cells).T  # (2, all real cells)
    offset = 0
    for b, count in itertools.islice(enumerate(rows.tolist()), 3):
        part = expected[:, offset : offset + 5 * count].view(2, count, 5)
        torch.testing.assert_close(found[b, :, :count], part, rtol=1e-4, atol=1e-5)
        offset += 5 * count
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(dict(ours.named_buffers())[name], buffer)
