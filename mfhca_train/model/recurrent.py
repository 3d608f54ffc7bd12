"""Bidirectional LSTMs of the network, as torch computes them. Shape letters as in `network`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn


def run_lstm(lstm: nn.LSTM, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The outputs of a batch-first, bidirectional LSTM: (B, L, D) to (B, L, 2 units).

    On a CPU under autocast it runs in float32, since many CPUs have no bfloat16 LSTM.

    Args:
        lstm: the layers.
        x: (B, L, D).
        lengths: (B,) real frames; both directions run over these only, and outputs at padding are zero.
    """
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return run_lstm(lstm, x.float(), lengths)
    if lengths is None:
        output: Tensor = lstm(x)[0]
        return output
    packed = rnn.pack_padded_sequence(x, lengths.cpu().clamp(min=1), batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]
