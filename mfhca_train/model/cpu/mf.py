"""MF (`mfhca_train.model.mf`) on a CPU: the same equations with fewer passes over memory.

On a CPU the head is bound by memory, not arithmetic: the feature maps of a batch are hundreds of megabytes, and
separate operations read and write each of them a dozen times. Here each map is read once per step; see `fused`.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_train.model.cpu import fused


class GrfBlock(Protocol):
    """What is used of `GlobalReceptiveField`."""

    rate: int
    context: nn.Conv2d
    context_norm: nn.BatchNorm2d

    def gates(self, z_h: Tensor, z_w: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 3-5."""


class Mf(Protocol):
    """What is used of `MultiSpatialFusion`."""

    time_conv: nn.Conv2d
    time_norm: nn.BatchNorm2d
    frequency_conv: nn.Conv2d
    frequency_norm: nn.BatchNorm2d
    grfs: nn.ModuleList
    convs: nn.ModuleList
    norms: nn.ModuleList


def multi_spatial_fusion(mf: Mf, spec: Tensor) -> Tensor:
    """`MultiSpatialFusion.forward` with the GRF block of eq. 3-8."""
    x = fused.norm_relu(parallel_convolutions(mf, spec), (mf.time_norm, mf.frequency_norm), pool=True)
    y = grf_block(cast(GrfBlock, mf.grfs[0]), x)
    for conv, norm, grf in zip(mf.convs, mf.norms, mf.grfs[1:], strict=True):
        y = grf_block(cast(GrfBlock, grf), fused.norm_relu(conv(y), (cast(nn.BatchNorm2d, norm),)))
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
    return functional.conv2d(fused.channels_last(spec), weight, bias, padding=(4, 3))


def grf_block(grf: GrfBlock, x: fused.NormedMap) -> Tensor:
    """`GlobalReceptiveField.forward` of a map (B, C, H, W) that is not stored."""
    z_h, z_w, low = fused.PositionalPools.apply(*x, grf.rate)  # eq. 1, 2, AvgPool_r of eq. 7
    g_h, g_w = grf.gates(z_h, z_w)  # eq. 3-5
    y: Tensor = fused.GatedSum.apply(*x, g_h, g_w, grf.context_norm(grf.context(low)))  # eq. 6-8
    return y
