"""The weighted sum over layers (`mfhca_train.model.layer_sum`) on a CPU, without a float32 copy of all layers.

A batch of all layers is the largest tensor of a training step, so it stays as the cache stores it. Sums are
computed sample by sample: the float32 values of a sample are still in the processor's cache when they are
summed, and are never kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mfhca_train.data.batch import Layers


def weighted_sum(weights: Tensor, layers: Layers, norm: bool) -> Tensor:
    """Softmaxed weights (M,) and layers (B, M, L, D) to (B, L, D); `norm` as in `WeightedSum`."""
    summed: Tensor = _WeightedSum.apply(weights, *layers, norm)
    return summed


class _WeightedSum(Function):
    """The sum and its gradient with respect to the weights."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, values: Tensor, scale: Tensor | None, shift: Tensor | None, norm: bool
    ) -> Tensor:
        """(M,) and (B, M, L, D) to (B, L, D)."""
        ctx.save_for_backward(values, scale, shift)
        ctx.norm = norm
        dtype = torch.promote_types(values.dtype, torch.float32)
        summed = values.new_empty((len(values), *values.shape[2:]), dtype=dtype)
        with torch.autocast(values.device.type, enabled=False):
            for sample, out in zip(values, summed, strict=True):
                torch.mm(weights[None].to(dtype), _prepare(sample, scale, shift, norm), out=out.view(1, -1))
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_summed: Tensor) -> tuple[Tensor, None, None, None, None]:
        values, scale, shift = ctx.saved_tensors
        d_weights = d_summed.new_zeros(values.shape[1])
        # The float32 values are computed a second time: that is cheaper than writing and reading them.
        for sample, d_out in zip(values, d_summed, strict=True):
            d_weights += torch.mv(_prepare(sample, scale, shift, ctx.norm), d_out.reshape(-1))
        return d_weights, None, None, None, None


def _prepare(sample: Tensor, scale: Tensor | None, shift: Tensor | None, norm: bool) -> Tensor:
    """(M, L, D) as stored to the scaled and normalised values that are summed, (M, L D)."""
    x = sample.to(torch.promote_types(sample.dtype, torch.float32))
    if scale is not None and shift is not None:
        x = torch.addcmul(shift, x, scale)
    if norm:
        x = functional.layer_norm(x, x.shape[-1:])
    return x.flatten(1)
