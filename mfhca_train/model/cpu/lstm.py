"""A bidirectional LSTM layer for the CPU: the equations of `torch.nn.LSTM` with less work.

The input of MFHCA's BiLSTM is usually the frozen encoder's output, which needs no
gradient: a fifth of a general layer's arithmetic. It is computed only if the input
requires it, as with a learned sum over layers. A workspace of several times the
activations is saved too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class BidirectionalLSTM(Function):
    """One layer with S = 2 directions; the second one processes time backwards.

    Shape letters: B batch, L time, D input width, H units per direction. Gates are
    in torch's order: input, forget, cell, output.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        bias: Tensor,
        low: torch.dtype,
        lengths: Tensor | None,
    ) -> Tensor:
        """(B, L, D), (S, 4H, D), (S, 4H, H), (S, 4H) to (L, S, B, H), each direction in its own order of time.

        Matrix products, saved tensors and the result have the type `low`; gates and cells are computed in the
        type of the weights.
        """
        batch, length, _ = x.shape
        directions, _, units = w_hh.shape
        ctx.dtype, ctx.x_dtype = w_hh.dtype, x.dtype
        x, w_ih, w_hh, bias = (part.to(low) for part in (x, w_ih, w_hh, bias))
        ctx.lengths = lengths
        both = both_directions(x, lengths)
        gates = x.new_empty(length, directions, batch, 4 * units)
        # The input's projection does not depend on the state: one matrix product for all frames.
        for s in range(directions):
            projected = torch.addmm(bias[s], both[s].flatten(0, 1), w_ih[s].T)
            gates[:, s] = projected.view(length, batch, 4 * units)
        hidden = x.new_empty(length, directions, batch, units)
        cells = torch.empty_like(hidden, dtype=ctx.dtype)
        exact_gates, exact_hidden = _Exact(gates[0], ctx.dtype), _Exact(hidden[0], ctx.dtype)
        w_hh_t = w_hh.transpose(1, 2).contiguous()
        # Both directions take each step together, and everything is written in place: a step's tensors are so
        # small that allocating them and starting operations would take most of the time.
        for t in range(length):
            if t:
                torch.baddbmm(gates[t], hidden[t - 1], w_hh_t, out=gates[t])
            step, h = exact_gates.load(gates[t]), exact_hidden.empty(hidden[t])
            i, f, g, o = step.split(units, dim=-1)
            step[..., : 2 * units].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=cells[t])
            if t:
                cells[t].addcmul_(f, cells[t - 1])
            torch.tanh(cells[t], out=h).mul_(o)
            exact_gates.store(gates[t])
            exact_hidden.store(hidden[t])
        ctx.save_for_backward(x, w_hh, gates, cells, hidden, w_ih if ctx.needs_input_grad[0] else None)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        x, w_hh, gates, cells, hidden, w_ih = ctx.saved_tensors
        length, directions, batch, units = hidden.shape
        d_h, d_c, tanh_c, part = (torch.zeros_like(cells[0]) for _ in range(4))
        d_step = torch.empty_like(gates[0], dtype=ctx.dtype)
        d_i, d_f, d_g, d_o = d_step.split(units, dim=-1)
        exact = _Exact(gates[0], ctx.dtype)
        for t in reversed(range(length)):
            i, f, g, o = exact.load(gates[t]).split(units, dim=-1)
            d_h.copy_(torch.baddbmm(d_hidden[t], gates[t + 1], w_hh) if t + 1 < length else d_hidden[t])
            torch.tanh(cells[t], out=tanh_c)
            torch.mul(d_h, tanh_c, out=d_o)
            # d_c += o d_h (1 - tanh^2)
            d_c.add_(torch.mul(d_h, o, out=part)).addcmul_(part.mul_(tanh_c), tanh_c, value=-1)
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
            # The gates are no longer needed and give their memory; torch refuses a second backward pass, as
            # a saved tensor was modified.
            gates[t] = d_step
        d_gates = gates
        both = both_directions(x, ctx.lengths)
        d_w_ih, d_w_hh, d_bias = [], [], []
        for s in range(directions):
            flat = d_gates[:, s].flatten(0, 1)  # (L B, 4H)
            d_w_ih.append(flat.T @ both[s].flatten(0, 1))
            d_w_hh.append(flat[batch:].T @ hidden[:-1, s].flatten(0, 1))
            d_bias.append(flat.sum(dim=0, dtype=ctx.dtype))
        d_x = None
        if w_ih is not None:
            by_direction = [(d_gates[:, s].flatten(0, 1) @ w_ih[s]).view(length, batch, -1) for s in range(2)]
            d_x = (by_direction[0] + reverse(by_direction[1], ctx.lengths)).transpose(0, 1).to(ctx.x_dtype)
        d_w = (torch.stack(parts).to(ctx.dtype) for parts in (d_w_ih, d_w_hh))
        return d_x, *d_w, torch.stack(d_bias), None, None


class _Exact:
    """Slices of an array in the type of the arithmetic: the slices themselves, or a buffer if their type differs."""

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self._buffer = None if like.dtype == dtype else torch.empty_like(like, dtype=dtype)

    def load(self, stored: Tensor) -> Tensor:
        """The values of a slice."""
        return stored if self._buffer is None else self._buffer.copy_(stored)

    def empty(self, stored: Tensor) -> Tensor:
        """Space for the values of a slice."""
        return stored if self._buffer is None else self._buffer

    def store(self, stored: Tensor) -> None:
        """Writes the values back to the slice."""
        if self._buffer is not None:
            stored.copy_(self._buffer)


def both_directions(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """(B, L, D) to (L, B, D) in both orders of time."""
    forwards = x.transpose(0, 1).contiguous()
    return forwards, reverse(forwards, lengths)


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """(L, B, D) with the first `lengths` (B,) frames of each sample in reverse order; None for all frames.

    Padding stays at the end, so that in both directions it comes after the real frames and cannot influence them.
    """
    if lengths is None:
        return x.flip(0)
    frames = torch.arange(len(x))[:, None]
    order = torch.where(frames < lengths, lengths - 1 - frames, frames)  # (L, B)
    return x[order, torch.arange(x.shape[1])]


def bilstm(layer: nn.LSTM, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """`layer(x)[0]` for a one-layer, batch-first, bidirectional LSTM with biases.

    Under autocast, matrix products and the result have autocast's type, but not gates and cells.

    Args:
        layer: the weights.
        x: (B, L, D).
        lengths: (B,) real frames, over which both directions run; outputs at padding are undefined. None: all.

    Returns:
        (B, L, 2H).
    """
    w_ih, w_hh, b_ih, b_hh = (
        torch.stack([getattr(layer, f"{name}_l0"), getattr(layer, f"{name}_l0_reverse")])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else w_hh.dtype
    with torch.autocast("cpu", enabled=False):  # the function chooses its types itself
        hidden = BidirectionalLSTM.apply(x, w_ih, w_hh, b_ih + b_hh, low, lengths)  # (L, 2, B, H)
    return torch.cat([hidden[:, 0], reverse(hidden[:, 1], lengths)], dim=-1).transpose(0, 1)
