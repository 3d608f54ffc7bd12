"""A learned weighted sum over the layers of the frozen encoder, as in SUPERB (Yang et al., Interspeech 2021).

h = sum over m of softmax(w)[m] * x[m], one weight a layer, all equal at first; with
the norm, each frame of each layer is first brought to zero mean and unit variance
(both as the benchmark's own code, s3prl, has them; there, too, the norm is off by default).

A batch of all layers is the largest thing in a training step, so it stays as the
cache stores it. Sums are made sample by sample: what is made of a sample, in float32,
is still in the processor's cache when it is summed, and is never kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mfhca_train.data.batch import Layers


class WeightedSum(nn.Module):
    """From all layers to one.

    Args:
        layers: M.
        norm: whether each frame of each layer is normalised over its D values first.
    """

    def __init__(self, layers: int, norm: bool = False) -> None:
        super().__init__()
        self.norm = norm
        self.weights = nn.Parameter(torch.zeros(layers))  # w, before the softmax

    @property
    def shares(self) -> Tensor:
        """softmax(w), (M,)."""
        return torch.softmax(self.weights, dim=0)

    def forward(self, x: Tensor | Layers) -> Tensor:
        """(B, M, L, D) to (B, L, D), float32 or better; padded frames are summed like any other.

        No gradient flows to x, which comes from a frozen encoder.
        """
        values, scale, shift = x if isinstance(x, Layers) else (x, None, None)
        if values.ndim != 4 or values.shape[1] != len(self.weights):
            raise ValueError(
                f"expected (B, {len(self.weights)}, L, D), all layers; found {tuple(values.shape)}"
            )
        summed: Tensor = _Sum.apply(self.shares, values, scale, shift, self.norm)
        return summed


class _Sum(Function):
    """The sum and its gradient towards the shares; each makes the float32 values of a sample anew."""

    @staticmethod
    def forward(
        ctx: Any, shares: Tensor, values: Tensor, scale: Tensor | None, shift: Tensor | None, norm: bool
    ) -> Tensor:
        """(M,) and (B, M, L, D) to (B, L, D)."""
        ctx.save_for_backward(values, scale, shift)
        ctx.norm = norm
        dtype = torch.promote_types(values.dtype, torch.float32)
        summed = values.new_empty((len(values), *values.shape[2:]), dtype=dtype)
        with torch.autocast(values.device.type, enabled=False):
            for sample, out in zip(values, summed, strict=True):
                torch.mm(shares[None].to(dtype), _prepared(sample, scale, shift, norm), out=out.view(1, -1))
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_summed: Tensor) -> tuple[Tensor, None, None, None, None]:
        values, scale, shift = ctx.saved_tensors
        d_shares = d_summed.new_zeros(values.shape[1])
        for sample, d_out in zip(values, d_summed, strict=True):
            d_shares += torch.mv(_prepared(sample, scale, shift, ctx.norm), d_out.reshape(-1))
        return d_shares, None, None, None, None


def _prepared(sample: Tensor, scale: Tensor | None, shift: Tensor | None, norm: bool) -> Tensor:
    """(M, L, D) as stored to what is summed, (M, L D)."""
    x = sample.to(torch.promote_types(sample.dtype, torch.float32))
    if scale is not None and shift is not None:
        x = torch.addcmul(shift, x, scale)
    if norm:
        x = functional.layer_norm(x, x.shape[-1:])
    return x.flatten(1)
