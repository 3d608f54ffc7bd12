"""Bidirectional LSTMs of the network, as torch computes them. Shape letters as in `network`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def run_lstm(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """The outputs of a batch-first, bidirectional LSTM: (B, L, D) to (B, L, 2 units).

    On a CPU under autocast it runs in float32, since many CPUs have no bfloat16 LSTM.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            exact: Tensor = lstm(x.float())[0]
        return exact
    output: Tensor = lstm(x)[0]
    return output
