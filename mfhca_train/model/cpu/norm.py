"""Batch norm, ReLU and pooling of a map without storing the result; see `maps`. Loops are in `kernels`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mfhca_train.model.cpu.kernels import moments, norm_backward, norm_sums, pool_backward, pool_forward
from mfhca_train.model.cpu.maps import NormedMap, channels_last, compute_dtype, empty_map
from mfhca_train.model.cpu.numba_tools import over_samples, tiled


def norm_relu(
    x: Tensor, norms: Sequence[nn.BatchNorm2d], rows: Tensor | None = None, pool: bool = False
) -> NormedMap:
    """Batch norm and ReLU of a map; in training mode the running statistics are updated.

    Args:
        x: (B, C, H, W).
        norms: batch norms with affine parameters, for consecutive groups of channels.
        rows: (B,) real rows of each sample; the others are excluded from the statistics, and zero. None: all.
        pool: whether a 3 x 3 max-pool of stride 2 follows.
    """
    x = channels_last(x)
    rows = all_rows(x) if rows is None else rows.to(torch.int64)
    weight, bias = (torch.cat([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    with torch.no_grad():
        statistics = update_running(norms, x, rows) if norms[0].training else running_statistics(norms)
        scale = weight * statistics.inverse
        shift = bias - statistics.mean * scale
    kind: type[Function] = NormPool if pool else Norm
    return NormedMap(
        kind.apply(x, rows, weight, bias, statistics), pooled_rows(rows) if pool else rows, scale, shift
    )


class Statistics(NamedTuple):
    """Statistics of a batch norm, of the batch in training, else the running ones. (C,) each, no gradient."""

    mean: Tensor
    inverse: Tensor  # 1 / sqrt(variance + eps)
    size: int  # number of values per channel that they are of; 0 for running statistics


class Norm(Function):
    """Batch norm of a map. Only its gradient is computed here: the forward pass is left to the map's readers."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor, weight: Tensor, _bias: Tensor, statistics: Statistics
    ) -> Tensor:
        """(B, C, H, W) and per-channel (C,) to the source of a `NormedMap`."""
        ctx.save_for_backward(x, rows, weight, statistics.mean, statistics.inverse)
        ctx.count = statistics.size
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_n: Tensor) -> tuple[Tensor | None, ...]:
        x, rows, weight, mean, inverse = ctx.saved_tensors
        d_n = channels_last(d_n)
        d_weight, d_bias, *affine = norm_gradients(x, rows, d_n, weight, mean, inverse, ctx.count)
        d_x = empty_map(x.shape, x)
        lines = (tiled(part, x.shape[3]) for part in affine)
        over_samples(norm_backward, len(x), x, rows, d_n, *lines, d_x)
        return d_x, None, d_weight, d_bias, None


class NormPool(Function):
    """Batch norm, ReLU and a 3 x 3 max-pool of stride 2, computed in the order pool, norm, ReLU.

    ReLU and the affine part of batch norm are monotone, so pooling may come first and norm and ReLU need only
    a quarter of the map. Where the scale is negative the minimum is taken instead of the maximum.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rows: Tensor, weight: Tensor, _bias: Tensor, statistics: Statistics
    ) -> Tensor:
        """(B, C, H, W) and per-channel (C,) to the source of a `NormedMap`, (B, C, (H - 1) // 2, (W - 1) // 2)."""
        batch, channels, height, width = x.shape
        shape = batch, channels, (height - 1) // 2, (width - 1) // 2
        pooled, index = empty_map(shape, x), empty_map(shape, x.new_empty(0, dtype=torch.uint8))
        sign = torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)
        over_samples(pool_forward, batch, x, rows, sign, pooled, index)
        ctx.save_for_backward(x, rows, pooled, index, weight, statistics.mean, statistics.inverse)
        ctx.count = statistics.size
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_n: Tensor) -> tuple[Tensor | None, ...]:
        x, rows, pooled, index, weight, mean, inverse = ctx.saved_tensors
        d_n = channels_last(d_n)
        d_weight, d_bias, *affine = norm_gradients(
            pooled, pooled_rows(rows), d_n, weight, mean, inverse, ctx.count
        )
        d_x = empty_map(x.shape, x)
        lines = (tiled(part, x.shape[3]) for part in affine)
        over_samples(pool_backward, len(x), x, rows, d_n, index, *lines, d_x)
        return d_x, None, d_weight, d_bias, None


def norm_gradients(
    x: Tensor, rows: Tensor, d_n: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, count: int
) -> tuple[Tensor, ...]:
    """The gradients of weight and bias, and scale, slope and offset with d_x = d_n scale + x slope + offset.

    Args:
        x, rows, d_n: the norm's input, its real rows and the gradient of its output; values with zero gradient may
            be omitted.
        weight, mean, inverse: of the norm.
        count: number of values per channel behind its statistics; 0 if these do not depend on x.
    """
    d_times_x, d_sum = (mean.new_empty(x.shape[:2]) for _ in range(2))
    over_samples(norm_sums, len(x), x, rows, d_n, tiled(mean, x.shape[3]), d_times_x, d_sum)
    d_weight, d_bias = d_times_x.sum(dim=0) * inverse, d_sum.sum(dim=0)
    scale = weight * inverse
    if not count:
        return d_weight, d_bias, scale, torch.zeros_like(scale), torch.zeros_like(scale)
    slope = -scale * inverse * d_weight / count
    return d_weight, d_bias, scale, slope, -scale * d_bias / count - slope * mean


def batch_statistics(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance, (C,), of the real rows of (B, C, H, W), and the number of values per channel."""
    dtype = compute_dtype(x)
    means, squares = (torch.empty(x.shape[:2], dtype=dtype) for _ in range(2))
    over_samples(moments, len(x), x, rows, means, squares)
    if int(rows.min()) < x.shape[2]:
        counts = (rows * x.shape[3])[:, None].to(dtype)  # (B, 1)
        count = counts.sum()
        mean = (means * counts).sum(dim=0) / count
        between = ((means - mean).square() * counts).sum(dim=0)
        return mean, (squares.sum(dim=0) + between) / count, int(count)
    mean = means.mean(dim=0)
    cells = x.shape[2] * x.shape[3]
    # Sums of squares about each sample's own mean: exact also for values far from zero.
    return mean, squares.mean(dim=0) / cells + (means - mean).square().mean(dim=0), len(x) * cells


def all_rows(x: Tensor) -> Tensor:
    """(B,) the height of a map (B, C, H, W): every row is real."""
    return torch.full((len(x),), x.shape[2], dtype=torch.int64)


def pooled_rows(rows: Tensor) -> Tensor:
    """Rows of a 3 x 3 max-pool of stride 2 whose windows are within these many rows."""
    return (rows - 1) // 2


def running_statistics(norms: Sequence[nn.BatchNorm2d]) -> Statistics:
    """The running statistics of norms for consecutive groups of channels."""
    mean = torch.cat([_tracked(norm)[0] for norm in norms])
    inverse = torch.cat([torch.rsqrt(_tracked(norm)[1] + norm.eps) for norm in norms])
    return Statistics(mean, inverse, 0)


def update_running(norms: Sequence[nn.BatchNorm2d], x: Tensor, rows: Tensor) -> Statistics:
    """The statistics of the batch; updates the running ones as `BatchNorm2d` does in training."""
    mean, variance, n = batch_statistics(x, rows)
    sizes = [norm.num_features for norm in norms]
    for norm, m, v in zip(norms, mean.split(sizes), variance.split(sizes), strict=True):
        if norm.momentum is None or norm.num_batches_tracked is None:
            raise ValueError("norm must have a momentum and track its running statistics")
        norm.num_batches_tracked.add_(1)
        running_mean, running_var = _tracked(norm)
        running_mean.lerp_(m, norm.momentum)
        running_var.lerp_(v * (n / (n - 1)), norm.momentum)
    eps = torch.cat([variance.new_full((norm.num_features,), norm.eps) for norm in norms])
    return Statistics(mean, torch.rsqrt(variance + eps), n)


def _tracked(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm must track its running statistics")
    return norm.running_mean, norm.running_var
