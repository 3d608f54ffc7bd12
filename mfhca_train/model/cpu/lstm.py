"""A bidirectional LSTM layer: the same equations as `torch.nn.LSTM`, less work.

The input of MFHCA's BiLSTM is mostly the frozen encoder's output, so a fifth of
a general layer's arithmetic, the gradient towards the input, would be thrown
away. It is left out unless the input wants it, as a learned sum over layers
does; and so is a workspace of several times the activations.
`tests/test_lstm.py` holds values and gradients against `torch.nn.LSTM`.
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
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, low: torch.dtype) -> Tensor:
        """(B, L, D), (S, 4H, D), (S, 4H, H), (S, 4H) to (L, S, B, H), each direction in its own order of time.

        Matrix products and what is kept are of type `low`, also the result; gates and cells are computed
        in the type of the weights.
        """
        batch, length, _ = x.shape
        directions, _, units = w_hh.shape
        ctx.dtype, ctx.x_dtype = w_hh.dtype, x.dtype
        x, w_ih, w_hh, bias = (part.to(low) for part in (x, w_ih, w_hh, bias))
        both = both_ways(x)
        gates = x.new_empty(length, directions, batch, 4 * units)
        for s in range(directions):
            projected = torch.addmm(bias[s], both[s].flatten(0, 1), w_ih[s].T)
            gates[:, s] = projected.view(length, batch, 4 * units)
        hidden = x.new_empty(length, directions, batch, units)
        cells = torch.empty_like(hidden, dtype=ctx.dtype)
        exact = _Exact(gates[0], ctx.dtype), _Exact(hidden[0], ctx.dtype)
        w_hh_t = w_hh.transpose(1, 2).contiguous()
        for t in range(length):
            if t:
                torch.baddbmm(gates[t], hidden[t - 1], w_hh_t, out=gates[t])
            now, h = exact[0].of(gates[t]), exact[1].blank(hidden[t])
            i, f, g, o = now.split(units, dim=-1)
            now[..., : 2 * units].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=cells[t])
            if t:
                cells[t].addcmul_(f, cells[t - 1])
            torch.tanh(cells[t], out=h).mul_(o)
            exact[0].keep(gates[t])
            exact[1].keep(hidden[t])
        ctx.save_for_backward(x, w_hh, gates, cells, hidden, w_ih if ctx.needs_input_grad[0] else None)
        return hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_hidden: Tensor) -> tuple[Tensor | None, ...]:
        x, w_hh, gates, cells, hidden, w_ih = ctx.saved_tensors
        length, directions, batch, units = hidden.shape
        d_h, d_c, bent, part = (torch.zeros_like(cells[0]) for _ in range(4))
        d_now = torch.empty_like(gates[0], dtype=ctx.dtype)
        d_i, d_f, d_g, d_o = d_now.split(units, dim=-1)
        exact = _Exact(gates[0], ctx.dtype)
        for t in reversed(range(length)):
            i, f, g, o = exact.of(gates[t]).split(units, dim=-1)
            d_h.copy_(torch.baddbmm(d_hidden[t], gates[t + 1], w_hh) if t + 1 < length else d_hidden[t])
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
            # In place of the gates, which nobody needs any more; torch refuses a second backward.
            gates[t] = d_now
        d_gates = gates
        both = both_ways(x)
        d_w_ih, d_w_hh, d_bias = [], [], []
        for s in range(directions):
            flat = d_gates[:, s].flatten(0, 1)  # (L B, 4H)
            d_w_ih.append(flat.T @ both[s].flatten(0, 1))
            d_w_hh.append(flat[batch:].T @ hidden[:-1, s].flatten(0, 1))
            d_bias.append(flat.sum(dim=0, dtype=ctx.dtype))
        d_x = None
        if w_ih is not None:
            ways = [(d_gates[:, s].flatten(0, 1) @ w_ih[s]).view(length, batch, -1) for s in range(2)]
            d_x = (ways[0] + ways[1].flip(0)).transpose(0, 1).to(ctx.x_dtype)
        d_w = (torch.stack(parts).to(ctx.dtype) for parts in (d_w_ih, d_w_hh))
        return d_x, *d_w, torch.stack(d_bias), None


class _Exact:
    """Slices of an array in the type to compute in: themselves where they have it, else a copy to be written back."""

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self._copy = None if like.dtype == dtype else torch.empty_like(like, dtype=dtype)

    def of(self, stored: Tensor) -> Tensor:
        """Its values."""
        return stored if self._copy is None else self._copy.copy_(stored)

    def blank(self, stored: Tensor) -> Tensor:
        """Room for its values."""
        return stored if self._copy is None else self._copy

    def keep(self, stored: Tensor) -> None:
        """Writes what has become of them back."""
        if self._copy is not None:
            stored.copy_(self._copy)


def both_ways(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L, D) to (L, B, D) in both orders of time."""
    forwards = x.transpose(0, 1).contiguous()
    return forwards, forwards.flip(0)


def bilstm(x: Tensor, layer: nn.LSTM, products: torch.dtype | None = None) -> Tensor:
    """`layer(x)[0]` for a one-layer, batch-first, bidirectional LSTM with biases.

    Args:
        x: (B, L, D).
        layer: holds the weights.
        products: type of the matrix products and of the result, bfloat16 say; the weights' own by default.

    Returns:
        (B, L, 2H).
    """
    w_ih, w_hh, b_ih, b_hh = (
        torch.stack([getattr(layer, f"{name}_l0"), getattr(layer, f"{name}_l0_reverse")])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    with torch.autocast("cpu", enabled=False):  # the types are chosen here
        hidden = BidirectionalLSTM.apply(x, w_ih, w_hh, b_ih + b_hh, products or w_hh.dtype)  # (L, 2, B, H)
    return torch.cat([hidden[:, 0], hidden[:, 1].flip(0)], dim=-1).transpose(0, 1)
