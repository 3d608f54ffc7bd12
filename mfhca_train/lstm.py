"""A bidirectional LSTM layer for inputs that need no gradient: the same equations as `torch.nn.LSTM`, less work.

The input of MFHCA's BiLSTM is the frozen encoder's output, so a fifth of a
general layer's arithmetic, the gradient towards the input, would be thrown
away. Left out it goes, and so does a workspace of several times the
activations. `tests/test_lstm.py` holds values and gradients against
`torch.nn.LSTM`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class BidirectionalLSTM(Function):
    """One layer, both directions side by side: of S = 2 directions the second reads time backwards.

    Shape letters: B batch, L time, D input width, H units of a direction. Gates
    stand in torch's order: input, forget, cell, output.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> Tensor:
        """(B, L, D), (S, 4H, D), (S, 4H, H), (S, 4H) to (L, S, B, H), each direction in its own order of time."""
        batch, length, _ = x.shape
        directions, _, units = w_hh.shape
        both = both_ways(x)
        gates = x.new_empty(length, directions, batch, 4 * units)
        for s in range(directions):
            projected = torch.addmm(bias[s], both[s].flatten(0, 1), w_ih[s].T)
            gates[:, s] = projected.view(length, batch, 4 * units)
        cells, hidden = (x.new_empty(length, directions, batch, units) for _ in range(2))
        w_hh_t = w_hh.transpose(1, 2).contiguous()
        for t in range(length):
            now = gates[t]
            if t:
                torch.baddbmm(now, hidden[t - 1], w_hh_t, out=now)
            i, f, g, o = now.split(units, dim=-1)
            now[..., : 2 * units].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=cells[t])
            if t:
                cells[t].addcmul_(f, cells[t - 1])
            torch.tanh(cells[t], out=hidden[t]).mul_(o)
        ctx.save_for_backward(x, w_hh, gates, cells, hidden)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        x, w_hh, gates, cells, hidden = ctx.saved_tensors
        length, directions, batch, units = hidden.shape
        d_h, d_c, bent, part = (torch.zeros_like(hidden[0]) for _ in range(4))
        d_now = torch.empty_like(gates[0])
        d_i, d_f, d_g, d_o = d_now.split(units, dim=-1)
        for t in reversed(range(length)):
            i, f, g, o = gates[t].split(units, dim=-1)
            if t + 1 < length:
                torch.baddbmm(d_hidden[t], d_now, w_hh, out=d_h)
            else:
                d_h.copy_(d_hidden[t])
            torch.tanh(cells[t], out=bent)
            torch.mul(d_h, bent, out=d_o)
            d_c.add_(torch.mul(d_h, o, out=part)).addcmul_(
                part.mul_(bent), bent, value=-1
            )  # o d_h (1 - tanh^2)
            torch.mul(d_c, g, out=d_i)
            torch.mul(d_c, i, out=d_g)
            if t:
                torch.mul(d_c, cells[t - 1], out=d_f)
            else:
                d_f.zero_()
            d_c.mul_(f)
            for d, gate in ((d_i, i), (d_f, f), (d_o, o)):  # through the sigmoids: d s (1 - s)
                d.mul_(gate).addcmul_(d, gate, value=-1)
            d_g.addcmul_(part.copy_(g).mul_(g), d_g, value=-1)
            gates[t] = (
                d_now  # in place of the gates, which nobody needs any more; torch refuses a second backward
            )
        d_gates = gates
        both = both_ways(x)
        d_w_ih, d_w_hh, d_bias = [], [], []
        for s in range(directions):
            flat = d_gates[:, s].flatten(0, 1)  # (L B, 4H)
            d_w_ih.append(flat.T @ both[s].flatten(0, 1))
            d_w_hh.append(flat[batch:].T @ hidden[:-1, s].flatten(0, 1))
            d_bias.append(flat.sum(dim=0))
        return None, torch.stack(d_w_ih), torch.stack(d_w_hh), torch.stack(d_bias)


def both_ways(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L, D) to (L, B, D) in both orders of time."""
    forwards = x.transpose(0, 1).contiguous()
    return forwards, forwards.flip(0)


def bilstm(x: Tensor, layer: nn.LSTM) -> Tensor:
    """`layer(x)[0]` for a one-layer, batch-first, bidirectional LSTM with biases; no gradient flows to x.

    Args:
        x: (B, L, D) without `requires_grad`.
        layer: holds the weights.

    Returns:
        (B, L, 2H).
    """
    if x.requires_grad:
        raise ValueError("the gradient towards x is left out; call the layer itself")
    w_ih, w_hh, b_ih, b_hh = (
        torch.stack([getattr(layer, f"{name}_l0"), getattr(layer, f"{name}_l0_reverse")])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = BidirectionalLSTM.apply(x, w_ih, w_hh, b_ih + b_hh)  # (L, 2, B, H)
    return torch.cat([hidden[:, 0], hidden[:, 1].flip(0)], dim=-1).transpose(0, 1)
