"""The project's BiLSTM equals torch's, in value and in gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mfhca_train.model.cpu.lstm import bilstm
from mfhca_train.model.recurrent import run_lstm


def layer(width: int, units: int) -> nn.LSTM:
    torch.manual_seed(1)
    return nn.LSTM(width, units, batch_first=True, bidirectional=True).double()


@pytest.mark.parametrize(("batch", "length", "width", "units"), [(1, 1, 4, 2), (3, 7, 6, 5), (5, 40, 8, 4)])
def test_values_and_gradients_equal_torchs_layer(batch: int, length: int, width: int, units: int) -> None:
    ours = layer(width, units)
    theirs = copy.deepcopy(ours)
    x = torch.randn(batch, length, width, dtype=torch.float64)
    found, expected = bilstm(ours, x), theirs(x)[0]
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda m, n=name: f"{n}: {m}")


def test_a_second_backward_pass_is_refused_not_wrong() -> None:
    loss = bilstm(layer(3, 2), torch.randn(2, 4, 3).double()).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


@pytest.mark.parametrize(("batch", "length", "width", "units"), [(1, 1, 4, 2), (3, 7, 6, 5)])
def test_gradient_flows_to_an_input_that_wants_one(batch: int, length: int, width: int, units: int) -> None:
    ours = layer(width, units)
    theirs = copy.deepcopy(ours)
    x = torch.randn(batch, length, width, dtype=torch.float64, requires_grad=True)
    again = x.detach().clone().requires_grad_()
    weights = torch.randn(batch, length, 2 * units, dtype=torch.float64)
    (bilstm(ours, x) * weights).sum().backward()
    (theirs(again)[0] * weights).sum().backward()
    torch.testing.assert_close(x.grad, again.grad)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda m, n=name: f"{n}: {m}")


def test_gradient_in_bfloat16_is_close_and_of_the_inputs_type() -> None:
    found = []
    for low in (False, True):
        torch.manual_seed(1)
        weights = nn.LSTM(8, 5, batch_first=True, bidirectional=True)
        x = torch.randn(3, 12, 8, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            output = bilstm(weights, x)
        assert output.dtype == (torch.bfloat16 if low else torch.float32)
        output.float().square().sum().backward()
        assert x.grad is not None
        assert x.grad.dtype == torch.float32
        found.append(x.grad.flatten())
    assert torch.cosine_similarity(found[0], found[1], dim=0) > 0.999
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("wants_gradient", [True, False])
def test_runs_over_the_real_frames_as_torchs_packed_layer(wants_gradient: bool) -> None:
    lengths = torch.tensor([9, 4, 1])
    ours = layer(6, 5)
    theirs = copy.deepcopy(ours)
    x = torch.randn(3, 9, 6, dtype=torch.float64, requires_grad=wants_gradient)
    again = x.detach().clone().requires_grad_(wants_gradient)
    real = (torch.arange(9) < lengths[:, None])[..., None]
    found, expected = bilstm(ours, x, lengths) * real, run_lstm(theirs, again, lengths)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    if wants_gradient:
        torch.testing.assert_close(x.grad, again.grad)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=lambda m, n=name: f"{n}: {m}")
