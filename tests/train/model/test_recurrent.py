"""LSTMs run over the real frames of each sample, in both directions."""

from __future__ import annotations

import torch
from torch import nn

from mfhca_train.model.recurrent import run_lstm

LENGTHS = torch.tensor([7, 3, 1])


def layers() -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True)


def test_outputs_are_those_of_each_sample_cut_to_its_length_and_zero_after_it() -> None:
    lstm, x = layers(), torch.randn(3, 7, 4)
    outputs = run_lstm(lstm, x, LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(outputs[b, :length], lstm(x[b : b + 1, :length])[0][0])
        assert not outputs[b, length:].any()


def test_under_autocast_it_runs_in_float32() -> None:
    lstm, x = layers(), torch.randn(3, 7, 4)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = run_lstm(lstm, x.bfloat16())
    torch.testing.assert_close(outputs, lstm(x.bfloat16().float())[0])
