"""Stored features become a network's inputs: scaled, in its layout, and unchanged where they are stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfhca_train.data.batch import PER_SPEAKER, Layers, Normaliser, as_batch, on_device

LABEL = torch.tensor([0, 1])


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("per_speaker", [False, True])
def test_inputs_are_scaled_and_the_stored_values_are_not_written_to(
    dtype: torch.dtype, per_speaker: bool
) -> None:
    stored = {"spec": random(2, 5, 3).to(dtype), "ssl": random(2, 4, 6).to(dtype)}
    before = {side: x.clone() for side, x in stored.items()}
    axes = (2, 1) if per_speaker else ()
    affine = {
        side: (random(*axes, x.shape[-1]), random(*axes, x.shape[-1]) + 1) for side, x in stored.items()
    }
    batch = as_batch(stored, affine, {"spec": torch.tensor([5, 2])}, LABEL)
    for side, found in (("spec", batch.spec[:, 0]), ("ssl", batch.ssl)):
        scale, shift = (part.numpy() for part in affine[side])
        np.testing.assert_allclose(
            found.numpy(), stored[side].float().numpy() * scale + shift, rtol=1e-5, atol=1e-6
        )
        assert torch.equal(stored[side], before[side])
    assert batch.spec.shape == (2, 1, 5, 3)
    assert batch.inputs == (batch.spec, batch.ssl, batch.spec_valid, None, None, None)


@pytest.mark.parametrize("axes", [(), (2,)])
def test_layers_are_scaled_by_the_network_or_here_with_the_same_result(axes: tuple[int, ...]) -> None:
    stored = random(2, 3, 4, 6).half()
    shape = (*axes, 3, 1, 6) if axes else (3, 6)
    scale, shift = random(*shape), random(*shape) + 1
    layers = as_batch({"ssl": stored}, {"ssl": (scale, shift)}, {}, LABEL).ssl
    assert isinstance(layers, Layers)
    values = layers.values.float()
    if layers.scale is not None:
        assert layers.values is stored  # no copy of all layers
        values = values * layers.scale + layers.shift
    expected = stored.float() * scale.reshape(-1, 3, 1, 6) + shift.reshape(-1, 3, 1, 6)
    torch.testing.assert_close(values, expected)
    assert as_batch({"ssl": stored}, {"ssl": None}, {}, LABEL).ssl == Layers(stored)


def test_statistics_per_speaker_have_no_values_of_their_own() -> None:
    one = Normaliser(np.ones(3, np.float32), np.zeros(3, np.float32))
    assert not one.per_speaker
    assert on_device({"spec": one, "ssl": None}, "cpu")["ssl"] is None
    assert PER_SPEAKER.per_speaker
