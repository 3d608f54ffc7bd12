"""Autograd functions for eq. 1, 2 and 6-8, batch norm and pooling, each computed in one loop (`kernels`).

Maps are stored with their channels last, which is also the fastest layout for the convolutions.

A map x = ReLU(norm(source)) is never stored. `NormedMap` carries its source, and every function that uses x
applies the affine part of the norm and the ReLU while it reads the source. In autograd's graph the edge of
a `NormedMap` carries the gradient with respect to norm(source); `Norm`, which created it, converts that to the
gradient with respect to the source.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mfhca_train.model.cpu import kernels
from mfhca_train.model.cpu.numba_tools import over_samples, tiled


class NormedMap(NamedTuple):
    """A map x = ReLU(source * scale + shift) that is not stored; see the module's docstring."""

    source: Tensor  # (B, C, H, W), channels last
    scale: Tensor  # (C,)
    shift: Tensor  # (C,)


class Statistics(NamedTuple):
    """Statistics of a batch norm, of the batch in training, else the running ones. (C,) each, no gradient."""

    mean: Tensor
    inverse: Tensor  # 1 / sqrt(variance + eps)
    of_batch: bool


def empty_map(shape: Sequence[int], like: Tensor) -> Tensor:
    """An uninitialised (B, C, H, W), channels last."""
    return torch.empty(tuple(shape), dtype=like.dtype, memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """The same map with its channels last in memory."""
    if x.shape[1] == 1:
        # With one channel both layouts are the same memory, and torch keeps the strides of the other one.
        x = x.contiguous()
        return x.as_strided(x.shape, (x.stride(0), 1, x.stride(2), 1))
    return x.contiguous(memory_format=torch.channels_last)


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type of the arithmetic on a map: float32 for bfloat16, else its own."""
    return torch.float32 if x.dtype == torch.bfloat16 else x.dtype


@functools.lru_cache(maxsize=32)
def interpolation(low: int, high: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """(high, 3): for each output position its two neighbours in the input and the weight of the second.

    Bilinear with half-pixel centres, as `interpolate(mode="bilinear", align_corners=False)` along one axis.
    """
    position = np.clip((np.arange(high) + 0.5) * low / high - 0.5, 0, None)
    first = np.minimum(position.astype(np.int64), low - 1)
    return np.stack([first, np.minimum(first + 1, low - 1), position - first], axis=1).astype(dtype)


class PositionalPools(Function):
    """z_h, z_w (eq. 1, 2) and AvgPool_r (eq. 7) of a map in one pass, and so their gradients."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, scale: Tensor, shift: Tensor, rate: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A `NormedMap` (B, C, H, W) to (B, C, H, 1), (B, C, 1, W) and (B, C, H // r, W // r)."""
        ctx.save_for_backward(source, scale, shift)
        ctx.rate = rate
        batch, channels, height, width = source.shape
        z_h, z_w = scale.new_empty(batch, height, channels), scale.new_empty(batch, width, channels)
        low = empty_map((batch, channels, height // rate, width // rate), scale)
        affine = tiled(scale, width), tiled(shift, width)
        over_samples(kernels.pools_forward, batch, source, *affine, rate, z_h, z_w, low)
        return z_h.transpose(1, 2)[..., None], z_w.transpose(1, 2)[:, :, None], low

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_h: Tensor, d_w: Tensor, d_low: Tensor) -> tuple[Tensor, None, None, None]:
        source, scale, shift = ctx.saved_tensors
        d_n = empty_map(source.shape, source)
        affine = tiled(scale, source.shape[3]), tiled(shift, source.shape[3])
        rest = by_position(d_h, 3), by_position(d_w, 2), channels_last(d_low), d_n
        over_samples(kernels.pools_backward, len(source), source, *affine, ctx.rate, *rest)
        return d_n, None, None, None


class GatedSum(Function):
    """Eq. 6-8 in one pass: Y = X + X g_h g_w + (X + Up(low)) = X (2 + g_h g_w) + Up(low)."""

    @staticmethod
    def forward(
        ctx: Any, source: Tensor, scale: Tensor, shift: Tensor, g_h: Tensor, g_w: Tensor, low: Tensor
    ) -> Tensor:
        """A `NormedMap` (B, C, H, W), with (B, C, H, 1), (B, C, 1, W) and (B, C, h, w), to (B, C, H, W)."""
        dtype = compute_dtype(source)
        rows, columns = by_position(g_h.to(dtype), 3), by_position(g_w.to(dtype), 2)
        ctx.save_for_backward(source, scale, shift, rows, columns)
        ctx.low, ctx.dtypes = low.shape, (g_h.dtype, g_w.dtype, low.dtype)
        weights = GatedSum.interpolations(low.shape, source)
        y = empty_map(source.shape, source)
        low = channels_last(low.to(dtype))
        over_samples(kernels.sum_forward, len(y), source, scale, shift, rows, columns, low, *weights, y)
        return y

    @staticmethod
    def interpolations(
        low: Sequence[int], source: Tensor
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """`interpolation` for both axes."""
        dtype = np.dtype(str(compute_dtype(source)).removeprefix("torch."))
        return interpolation(low[2], source.shape[2], dtype), interpolation(low[3], source.shape[3], dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        source, scale, shift, rows, columns = ctx.saved_tensors
        d_n, d_low = empty_map(source.shape, source), empty_map(ctx.low, scale)
        d_h, d_w = torch.empty_like(rows), torch.empty_like(columns)
        affine = tiled(scale, source.shape[3]), tiled(shift, source.shape[3])
        weights, d_y = GatedSum.interpolations(ctx.low, source), channels_last(d_y)
        gradients = d_n, d_h, d_w, d_low
        over_samples(
            kernels.sum_backward, len(d_y), source, *affine, rows, columns, *weights, d_y, *gradients
        )
        others = d_h.transpose(1, 2)[..., None], d_w.transpose(1, 2)[:, :, None], d_low
        return d_n, None, None, *(d.to(dtype) for d, dtype in zip(others, ctx.dtypes, strict=True))


def by_position(x: Tensor, axis: int) -> Tensor:
    """(B, C, H, 1) or (B, C, 1, W), with `axis` of length 1, to (B, H, C) or (B, W, C)."""
    return x.squeeze(axis).transpose(1, 2).contiguous()


class Norm(Function):
    """Batch norm of a map. Only its gradient is computed here: the forward pass is left to the map's readers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, _bias: Tensor, statistics: Statistics) -> Tensor:
        """(B, C, H, W) and per-channel (C,) to the source of a `NormedMap`."""
        ctx.save_for_backward(x, weight, statistics.mean, statistics.inverse)
        ctx.of_batch = statistics.of_batch
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_n: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        d_n = channels_last(d_n)
        d_weight, d_bias, *affine = norm_gradients(x, d_n, weight, mean, inverse, x.numel(), ctx.of_batch)
        d_x = empty_map(x.shape, x)
        rows = (tiled(part, x.shape[3]) for part in affine)
        over_samples(kernels.norm_backward, len(x), x, d_n, *rows, d_x)
        return d_x, d_weight, d_bias, None


class NormPool(Function):
    """Batch norm, ReLU and a 3 x 3 max-pool of stride 2, computed in the order pool, norm, ReLU.

    ReLU and the affine part of batch norm are monotone, so pooling may come first and norm and ReLU need only
    a quarter of the map. Where the scale is negative the minimum is taken instead of the maximum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, _bias: Tensor, statistics: Statistics) -> Tensor:
        """(B, C, H, W) and per-channel (C,) to the source of a `NormedMap`, (B, C, (H - 1) // 2, (W - 1) // 2)."""
        batch, channels, height, width = x.shape
        shape = batch, channels, (height - 1) // 2, (width - 1) // 2
        pooled, index = empty_map(shape, x), empty_map(shape, x.new_empty(0, dtype=torch.uint8))
        sign = torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)
        over_samples(kernels.pool_forward, batch, x, sign, pooled, index)
        ctx.save_for_backward(x, pooled, index, weight, statistics.mean, statistics.inverse)
        ctx.of_batch = statistics.of_batch
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_n: Tensor) -> tuple[Tensor | None, ...]:
        x, pooled, index, weight, mean, inverse = ctx.saved_tensors
        d_n = channels_last(d_n)
        d_weight, d_bias, *affine = norm_gradients(
            pooled, d_n, weight, mean, inverse, x.numel(), ctx.of_batch
        )
        d_x = empty_map(x.shape, x)
        rows = (tiled(part, x.shape[3]) for part in affine)
        over_samples(kernels.pool_backward, len(x), x, d_n, index, *rows, d_x)
        return d_x, d_weight, d_bias, None


def norm_gradients(
    x: Tensor, d_n: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, size: int, of_batch: bool
) -> tuple[Tensor, ...]:
    """The gradients of weight and bias, and scale, slope and offset with d_x = d_n scale + x slope + offset.

    Args:
        x, d_n: the norm's input and the gradient of its output; values with zero gradient may be omitted.
        weight, mean, inverse: of the norm.
        size: number of values behind its statistics, all channels together.
        of_batch: whether the statistics depend on x.
    """
    d_times_x, d_sum = (mean.new_empty(x.shape[:2]) for _ in range(2))
    over_samples(kernels.norm_sums, len(x), x, d_n, tiled(mean, x.shape[3]), d_times_x, d_sum)
    d_weight, d_bias = d_times_x.sum(dim=0) * inverse, d_sum.sum(dim=0)
    scale = weight * inverse
    if not of_batch:
        return d_weight, d_bias, scale, torch.zeros_like(scale), torch.zeros_like(scale)
    n = size // len(mean)
    slope = -scale * inverse * d_weight / n
    return d_weight, d_bias, scale, slope, -scale * d_bias / n - slope * mean


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance, (C,), of (B, C, H, W) over all but the channels."""
    dtype = compute_dtype(x)
    means, squares = (torch.empty(x.shape[:2], dtype=dtype) for _ in range(2))
    over_samples(kernels.moments, len(x), x, means, squares)
    mean = means.mean(dim=0)
    cells = x.shape[2] * x.shape[3]
    # Sums of squares about each sample's own mean: exact also for values far from zero.
    return mean, squares.mean(dim=0) / cells + (means - mean).square().mean(dim=0)


def norm_relu(x: Tensor, norms: Sequence[nn.BatchNorm2d], pool: bool = False) -> NormedMap:
    """Batch norm and ReLU of a map; in training mode the running statistics are updated.

    Args:
        x: (B, C, H, W).
        norms: batch norms with affine parameters, for consecutive groups of channels.
        pool: whether a 3 x 3 max-pool of stride 2 follows.
    """
    x = channels_last(x)
    weight, bias = (torch.cat([getattr(norm, name) for norm in norms]) for name in ("weight", "bias"))
    with torch.no_grad():
        statistics = update_running(norms, x) if norms[0].training else running_statistics(norms)
        scale = weight * statistics.inverse
        shift = bias - statistics.mean * scale
    kind: type[Function] = NormPool if pool else Norm
    return NormedMap(kind.apply(x, weight, bias, statistics), scale, shift)


def running_statistics(norms: Sequence[nn.BatchNorm2d]) -> Statistics:
    """The running statistics of norms for consecutive groups of channels."""
    mean = torch.cat([_tracked(norm)[0] for norm in norms])
    inverse = torch.cat([torch.rsqrt(_tracked(norm)[1] + norm.eps) for norm in norms])
    return Statistics(mean, inverse, False)


def update_running(norms: Sequence[nn.BatchNorm2d], x: Tensor) -> Statistics:
    """The statistics of the batch; updates the running ones as `BatchNorm2d` does in training."""
    mean, variance = batch_statistics(x)
    n = x.numel() // x.shape[1]
    sizes = [norm.num_features for norm in norms]
    for norm, m, v in zip(norms, mean.split(sizes), variance.split(sizes), strict=True):
        if norm.momentum is None or norm.num_batches_tracked is None:
            raise ValueError("norm must have a momentum and track its running statistics")
        norm.num_batches_tracked.add_(1)
        running_mean, running_var = _tracked(norm)
        running_mean.lerp_(m, norm.momentum)
        running_var.lerp_(v * (n / (n - 1)), norm.momentum)
    eps = torch.cat([variance.new_full((norm.num_features,), norm.eps) for norm in norms])
    return Statistics(mean, torch.rsqrt(variance + eps), True)


def _tracked(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("norm must track its running statistics")
    return norm.running_mean, norm.running_var
