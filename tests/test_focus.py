"""Weights of the fusion as shares of a segment."""

from __future__ import annotations

import numpy as np
import torch

from mfhca_train.batch import Batch
from mfhca_train.config import Config, with_settings
from mfhca_train.focus import shares, weighs_time
from mfhca_train.model import MFHCA


def test_the_readings_that_weigh_time() -> None:
    def of(**settings: str) -> bool:
        named = {f"model.{name}": value for name, value in settings.items()}
        return weighs_time(with_settings(Config(), named).model)

    assert of()
    assert of(hca="frames")
    assert of(hca="released")
    assert of(fusion="coattention")
    assert not of(hca="channel")
    assert not of(fusion="concat")
    assert not of(inputs="ssl")
    assert not of(inputs="spec")


def test_rows_sum_to_one_or_stay_zero() -> None:
    config = Config().model
    batch = Batch(None, None, None, None, torch.zeros(2))
    found = shares(config, torch.tensor([[1.0, 3.0], [0.0, 0.0]]), batch)
    np.testing.assert_allclose(found, [[0.25, 0.75], [0, 0]])


def test_frames_are_averaged_over_the_map_as_the_network_averages_them() -> None:
    """Only the frames of the map that hold audio count where padding is masked."""
    config = with_settings(Config(), {"model.hca": "frames", "model.mask_padding": "true"}).model
    rng = np.random.default_rng(0)
    weights = rng.random((2, 8, 5))
    spec = torch.zeros(2, 1, 16, 4)
    batch = Batch(spec, None, torch.tensor([16, 6]), None, torch.zeros(2))
    found = shares(config, torch.from_numpy(weights), batch)
    expected = np.stack([weights[0].mean(axis=0), weights[1, :3].mean(axis=0)])
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), rtol=1e-6)


def test_every_reading_that_weighs_time_has_a_weight_a_frame() -> None:
    torch.manual_seed(0)
    for settings in ({"hca": "temporal"}, {"hca": "frames"}, {"hca": "released"}, {"fusion": "coattention"}):
        named = {f"model.{name}": value for name, value in settings.items()}
        config = with_settings(Config(), {**named, "model.grf_channels": "4,4", "model.width": "8"}).model
        network = MFHCA(config, 4, 20, 64).eval()
        batch = Batch(torch.randn(3, 1, 24, 16), torch.randn(3, 20, 64), None, None, torch.zeros(3))
        with torch.inference_mode():
            attention = network(*batch.inputs).attention
        assert attention is not None
        found = shares(config, attention, batch)
        assert found.shape == (3, 20)
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
