"""II.B Multi-Spatial Fusion, eq. 1-8. Shape letters as in `network`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model import cpu

CELLS = (2, 3)  # time x frequency cells that MF's map is averaged to (released code)


class GlobalReceptiveField(nn.Module):
    """GRF block (II.B, Fig. 2): Y = X + Y_a + Y_b.

    Args:
        channels: C of input and output.
        rate: r of eq. 7.
        released: the released code's block: 3x3 convolutions inside Y_a, a dilated F,
            nearest interpolation, a final ReLU and hard-swish, instead of eq. 3-8 as written.
    """

    def __init__(self, channels: int, rate: int, released: bool = False) -> None:
        super().__init__()
        middle = max(8, channels // 32)
        self.rate = rate
        self.released = released
        self.squeeze = nn.Conv2d(channels, middle, 1)  # F of eq. 3
        self.squeeze_norm = nn.BatchNorm2d(middle)
        self.excite_h = nn.Conv2d(middle, channels, 1)  # F_h of eq. 4
        self.excite_w = nn.Conv2d(middle, channels, 1)  # F_w of eq. 5
        dilation = 2 if released else 1
        self.context = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)  # F of eq. 7
        self.context_norm = nn.BatchNorm2d(channels)
        self.refine: nn.Module = nn.Identity()
        if released:
            self.refine = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; padded frames are treated like any other."""
        z_h = x.mean(dim=3, keepdim=True)  # (B, C, H, 1), eq. 1
        z_w = x.mean(dim=2, keepdim=True)  # (B, C, 1, W), eq. 2
        g_h, g_w = self.gates(z_h, z_w)  # eq. 3-5
        low = self.context_norm(
            self.context(functional.avg_pool2d(x, self.rate))
        )  # (B, C, H/r, W/r), in eq. 7
        y_a = x * g_h * g_w  # eq. 6
        if self.released:
            y_b = x + functional.interpolate(low, size=x.shape[2:], mode="nearest")
            return functional.relu(x + self.refine(y_a) + y_b)
        y_b = x + functional.interpolate(low, size=x.shape[2:], mode="bilinear", align_corners=False)  # eq. 7
        return x + y_a + y_b  # eq. 8

    def gates(self, z_h: Tensor, z_w: Tensor) -> tuple[Tensor, Tensor]:
        """g_h and g_w, eq. 3-5.

        Args:
            z_h: (B, C, H, 1), the means over frequency of eq. 1.
            z_w: (B, C, 1, W), the means over time of eq. 2.

        Returns:
            (B, C, H, 1) and (B, C, 1, W), each in (0, 1).
        """
        z = torch.cat([z_h, z_w.transpose(2, 3)], dim=2)  # (B, C, H + W, 1)
        swish = functional.hardswish if self.released else functional.silu
        f = swish(self.squeeze_norm(self.squeeze(z)))  # eq. 3
        f_h, f_w = f.split([z_h.shape[2], z_w.shape[3]], dim=2)
        g_h = torch.sigmoid(self.excite_h(f_h))  # eq. 4
        g_w = torch.sigmoid(self.excite_w(f_w)).transpose(2, 3)  # (B, C, 1, W), eq. 5
        return g_h, g_w


class MultiSpatialFusion(nn.Module):
    """MF (II.B, Fig. 1): two parallel convolutions, pooling, GRF blocks with 3x3 convolutions between.

    Args:
        config: `grf`, `grf_channels` and `grf_rate` are used.
        in_channels: 1; the released code has three equal channels.
    """

    cells = CELLS

    def __init__(self, config: ModelConfig, in_channels: int = 1) -> None:
        super().__init__()
        channels = config.grf_channels
        if channels[0] % 2:
            raise MfhcaError(f"model.grf_channels: the first width must be even, found {channels[0]}")
        half = channels[0] // 2
        self.time_conv = nn.Conv2d(in_channels, half, (10, 2), padding=(4, 0))
        self.time_norm = nn.BatchNorm2d(half)
        self.frequency_conv = nn.Conv2d(in_channels, half, (2, 8), padding=(0, 3))
        self.frequency_norm = nn.BatchNorm2d(half)
        self.grfs, self.convs, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for index, width in enumerate(channels):
            if index:
                self.convs.append(nn.Conv2d(channels[index - 1], width, 3, padding=1))
                self.norms.append(nn.BatchNorm2d(width))
            self.grfs.append(GlobalReceptiveField(width, config.grf_rate, released=config.grf == "released"))
        self.out_channels = channels[-1]
        self.released = config.grf == "released"

    def forward(self, spec: Tensor) -> Tensor:
        """(B, 1, T, F) to a map (B, C, H, W), H and W about half of T and F."""
        if cpu.is_faster(spec) and not self.released:
            return cpu.multi_spatial_fusion(self, spec)
        along_time = functional.relu(self.time_norm(self.time_conv(spec)))
        along_frequency = functional.relu(self.frequency_norm(self.frequency_conv(spec)))
        x = torch.cat([along_time, along_frequency], dim=1)  # (B, C, T-1, F-1)
        x = cast(Tensor, self.grfs[0](functional.max_pool2d(x, 3, stride=2)))
        for conv, norm, grf in zip(self.convs, self.norms, self.grfs[1:], strict=True):
            x = grf(functional.relu(norm(conv(x))))
        return x
