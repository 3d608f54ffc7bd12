"""MF (`mfhca_train.model.mf`) on a CPU: the same equations with fewer passes over memory.

On a CPU the head is bound by memory, not arithmetic: the feature maps of a batch are hundreds of megabytes, and
separate operations read and write each of them a dozen times. Here each map is read once per step; see `maps`.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_train.model.cpu.grf import GatedSum, PositionalPools
from mfhca_train.model.cpu.maps import NormedMap, channels_last
from mfhca_train.model.cpu.norm import norm_relu
from mfhca_train.model.masking import row_mask


class GrfBlock(Protocol):
    """What is used of `GlobalReceptiveField`."""

    rate: int

    def gates(self, z_h: Tensor, z_w: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Eq. 3-5."""

    def low_resolution(self, pooled: Tensor, rows: Tensor | None) -> Tensor:
        """F(AvgPool_r(X)) of eq. 7."""


class Mf(Protocol):
    """What is used of `MultiSpatialFusion`."""

    time_conv: nn.Conv2d
    time_norm: nn.BatchNorm2d
    frequency_conv: nn.Conv2d
    frequency_norm: nn.BatchNorm2d
    grfs: nn.ModuleList
    convs: nn.ModuleList
    norms: nn.ModuleList


def multi_spatial_fusion(mf: Mf, spec: Tensor, rows: Tensor | None) -> Tensor:
    """`MultiSpatialFusion.forward` with the GRF block of eq. 3-8.

    Args:
        mf: the module.
        spec: (B, 1, T, F), zero in padding.
        rows: (B,) real rows after the first convolutions; None treats padding like speech.
    """
    norms = mf.time_norm, mf.frequency_norm
    x = norm_relu(parallel_convolutions(mf, spec), norms, rows, pool=True)
    y = grf_block(cast(GrfBlock, mf.grfs[0]), x, rows is not None)
    for conv, norm, grf in zip(mf.convs, mf.norms, mf.grfs[1:], strict=True):
        normed = norm_relu(conv(y), (cast(nn.BatchNorm2d, norm),), x.rows)
        y = grf_block(cast(GrfBlock, grf), normed, rows is not None)
    return y


def parallel_convolutions(mf: Mf, spec: Tensor) -> Tensor:
    """The two parallel convolutions of MF, (B, 1, T, F) to (B, C, T-1, F-1)."""
    # One convolution of (10, 8), most of whose weights are zero, takes a quarter of the time of the (10, 2)
    # and the (2, 8) one: the library's kernels are slow for few channels and narrow windows.
    weight = torch.cat(
        [
            functional.pad(mf.time_conv.weight, (3, 3, 0, 0)),
            functional.pad(mf.frequency_conv.weight, (0, 0, 4, 4)),
        ]
    )
    bias = torch.cat([mf.time_conv.bias, mf.frequency_conv.bias])  # type: ignore[list-item]
    return functional.conv2d(channels_last(spec), weight, bias, padding=(4, 3))


def grf_block(grf: GrfBlock, x: NormedMap, masked: bool) -> Tensor:
    """`GlobalReceptiveField.forward` of a map (B, C, H, W) that is not stored."""
    z_h, z_w, pooled = PositionalPools.apply(*x, grf.rate)  # eq. 1, 2, AvgPool_r of eq. 7
    mask = row_mask(x.rows, x.source.shape[2]) if masked else None
    g_h, g_w = grf.gates(z_h, z_w, mask)  # eq. 3-5
    low = grf.low_resolution(pooled, x.rows if masked else None)
    y: Tensor = GatedSum.apply(*x, g_h, g_w, low)  # eq. 6-8
    return y
