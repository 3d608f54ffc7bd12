"""What is recorded of a network is what its parts give when they are called by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mfhca_train.analysis.probe import attended, over_time, record_gates, saliency
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.fusion import CHANNELS, TIME
from mfhca_train.model.network import MFHCA


def network(**settings: Any) -> MFHCA:
    """A small one with weights and statistics that are not those it was born with."""
    torch.manual_seed(3)
    model = MFHCA(ModelConfig(grf_channels=(8, 4), width=16, **settings), 4, 12, 32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model.eval()


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """A spectrogram and hidden states."""
    torch.manual_seed(4)
    return torch.randn(batch, 1, 24, 16), torch.randn(batch, 12, 32)


@pytest.mark.parametrize("grf", ["equations", "released"])
def test_recorded_gates_are_those_of_equations_3_to_5(grf: str) -> None:
    model, (spec, ssl) = network(grf=grf), inputs()
    with torch.no_grad(), record_gates(model) as found:
        model(spec, ssl)
    assert len(found) == 2
    with torch.no_grad():
        branches = (
            (model.mf.time_conv, model.mf.time_norm),
            (model.mf.frequency_conv, model.mf.frequency_norm),
        )
        x = torch.cat([torch.relu(norm(conv(spec))) for conv, norm in branches], dim=1)
        x = torch.nn.functional.max_pool2d(x, 3, stride=2)
        first, second = model.mf.grfs
        between = torch.relu(model.mf.norms[0](model.mf.convs[0](first(x))))
        for block, given, (g_h, g_w) in zip((first, second), (x, between), found, strict=True):
            by_hand = block.gates(given.mean(dim=3, keepdim=True), given.mean(dim=2, keepdim=True))
            torch.testing.assert_close(g_h, by_hand[0][..., 0])
            torch.testing.assert_close(g_w, by_hand[1][:, :, 0])
    without = network(inputs="ssl")
    with torch.no_grad(), record_gates(without) as none:
        without(None, ssl)
    assert none == []
    with torch.no_grad():
        model(spec, ssl)
    assert len(found) == 2  # the hooks are gone


def test_saliency_is_the_slope_of_the_log_probability() -> None:
    model, (spec, ssl) = network().double(), (x.double() for x in inputs(1))
    found = saliency(model, (spec, ssl), 2, "float32")
    assert found.shape == (1, 24, 16)

    def logp(x: torch.Tensor) -> float:
        with torch.no_grad():
            return float(torch.log_softmax(model(x, ssl).logits, dim=-1)[0, 2])

    for t, f in ((0, 0), (7, 3), (20, 15)):
        step = torch.zeros_like(spec)
        step[0, 0, t, f] = 1e-5
        slope = (logp(spec + step) - logp(spec - step)) / 2e-5
        np.testing.assert_allclose(found[0, t, f], abs(slope), rtol=2e-2, atol=1e-6)
    with pytest.raises(ValueError, match="no spectrogram input"):
        saliency(network(inputs="ssl"), (None, ssl), 0, "float32")


def test_weights_of_the_frames_variant_are_the_mean_over_real_map_frames() -> None:
    attention = torch.softmax(torch.randn(2, 11, 12), dim=-1)
    valid = torch.tensor([24, 13])
    plain, masked = network(hca="frames").config, network(hca="frames", mask_padding=True).config
    torch.testing.assert_close(over_time(plain, attention, valid), attention.mean(dim=1))
    found = over_time(masked, attention, valid)
    torch.testing.assert_close(found, torch.stack([attention[0].mean(dim=0), attention[1, :5].mean(dim=0)]))


def test_every_fusion_says_over_what_its_weights_are_spread() -> None:
    expected = {"temporal": TIME, "frames": TIME, "released": TIME, "channel": CHANNELS}
    assert {hca: attended(network(hca=hca).config) for hca in expected} == expected
    assert attended(network(fusion="coattention").config) == TIME
    for other in ({"fusion": "concat"}, {"inputs": "ssl"}, {"inputs": "spec"}):
        assert attended(network(**other).config) is None
