"""Eq. 1, 2 and 6-8 of the GRF block on a map that is not stored, each group computed in one loop (`kernels`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mfhca_train.model.cpu.kernels import pools_backward, pools_forward, sum_backward, sum_forward
from mfhca_train.model.cpu.maps import channels_last, compute_dtype, empty_map
from mfhca_train.model.cpu.numba_tools import over_samples, tiled


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
        ctx: Any, source: Tensor, rows: Tensor, scale: Tensor, shift: Tensor, rate: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A `NormedMap` (B, C, H, W) to (B, C, H, 1), (B, C, 1, W) and (B, C, H // r, W // r)."""
        ctx.save_for_backward(source, rows, scale, shift)
        ctx.rate = rate
        batch, channels, height, width = source.shape
        z_h, z_w = scale.new_empty(batch, height, channels), scale.new_empty(batch, width, channels)
        low = empty_map((batch, channels, height // rate, width // rate), scale)
        affine = tiled(scale, width), tiled(shift, width)
        over_samples(pools_forward, batch, source, rows, *affine, rate, z_h, z_w, low)
        return z_h.transpose(1, 2)[..., None], z_w.transpose(1, 2)[:, :, None], low

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_h: Tensor, d_w: Tensor, d_low: Tensor) -> tuple[Tensor | None, ...]:
        source, rows, scale, shift = ctx.saved_tensors
        d_n = empty_map(source.shape, source)
        affine = tiled(scale, source.shape[3]), tiled(shift, source.shape[3])
        rest = by_position(d_h, 3), by_position(d_w, 2), channels_last(d_low), d_n
        over_samples(pools_backward, len(source), source, rows, *affine, ctx.rate, *rest)
        return d_n, None, None, None, None


class GatedSum(Function):
    """Eq. 6-8 in one pass: Y = X + X g_h g_w + (X + Up(low)) = X (2 + g_h g_w) + Up(low)."""

    @staticmethod
    def forward(
        ctx: Any,
        source: Tensor,
        rows: Tensor,
        scale: Tensor,
        shift: Tensor,
        g_h: Tensor,
        g_w: Tensor,
        low: Tensor,
    ) -> Tensor:
        """A `NormedMap` (B, C, H, W), with (B, C, H, 1), (B, C, 1, W) and (B, C, h, w), to (B, C, H, W)."""
        dtype = compute_dtype(source)
        by_row, by_column = by_position(g_h.to(dtype), 3), by_position(g_w.to(dtype), 2)
        ctx.save_for_backward(source, rows, scale, shift, by_row, by_column)
        ctx.low, ctx.dtypes = low.shape, (g_h.dtype, g_w.dtype, low.dtype)
        weights = GatedSum.interpolations(low.shape, source)
        y = empty_map(source.shape, source)
        low = channels_last(low.to(dtype))
        over_samples(sum_forward, len(y), source, rows, scale, shift, by_row, by_column, low, *weights, y)
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
        source, rows, scale, shift, by_row, by_column = ctx.saved_tensors
        d_n, d_low = empty_map(source.shape, source), empty_map(ctx.low, scale)
        d_h, d_w = torch.empty_like(by_row), torch.empty_like(by_column)
        affine = tiled(scale, source.shape[3]), tiled(shift, source.shape[3])
        weights, d_y = GatedSum.interpolations(ctx.low, source), channels_last(d_y)
        gates, gradients = (by_row, by_column), (d_n, d_h, d_w, d_low)
        over_samples(sum_backward, len(d_y), source, rows, *affine, *gates, *weights, d_y, *gradients)
        others = d_h.transpose(1, 2)[..., None], d_w.transpose(1, 2)[:, :, None], d_low
        return d_n, None, None, None, *(d.to(dtype) for d, dtype in zip(others, ctx.dtypes, strict=True))


def by_position(x: Tensor, axis: int) -> Tensor:
    """(B, C, H, 1) or (B, C, 1, W), with `axis` of length 1, to (B, H, C) or (B, W, C)."""
    return x.squeeze(axis).transpose(1, 2).contiguous()
