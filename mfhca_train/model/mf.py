"""II.B Multi-Spatial Fusion, eq. 1-8. Shape letters as in `network`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model import cpu
from mfhca_train.model.masking import (
    average_pool,
    batch_norm,
    extend,
    low_rows,
    masked,
    mean_over_rows,
    row_mask,
)

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

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to the same shape.

        With `rows` (B,), the rows after them are padding: zero in x and in the output, and without influence on
        the other rows. Without, padding is treated like speech, as in the paper.
        """
        mask = None if rows is None else row_mask(rows, x.shape[2])
        z_h = x.mean(dim=3, keepdim=True)  # (B, C, H, 1), eq. 1
        z_w = mean_over_rows(x, rows)  # (B, C, 1, W), eq. 2
        g_h, g_w = self.gates(z_h, z_w, mask)  # eq. 3-5
        low = self.low_resolution(average_pool(x, self.rate, rows), rows)  # (B, C, H/r, W/r), in eq. 7
        y_a = x * g_h * g_w  # eq. 6
        if self.released:
            y_b = x + functional.interpolate(low, size=x.shape[2:], mode="nearest")
            return masked(functional.relu(x + self.refined(y_a, mask) + y_b), mask)
        y_b = x + functional.interpolate(low, size=x.shape[2:], mode="bilinear", align_corners=False)  # eq. 7
        return masked(x + y_a + y_b, mask)  # eq. 8

    def gates(self, z_h: Tensor, z_w: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """g_h and g_w, eq. 3-5.

        Args:
            z_h: (B, C, H, 1), the means over frequency of eq. 1.
            z_w: (B, C, 1, W), the means over time of eq. 2.
            mask: (B, 1, H, 1), true at real rows; None: all are.

        Returns:
            (B, C, H, 1) and (B, C, 1, W), each in (0, 1).
        """
        z = torch.cat([z_h, z_w.transpose(2, 3)], dim=2)  # (B, C, H + W, 1)
        swish = functional.hardswish if self.released else functional.silu
        if mask is not None:
            mask = functional.pad(mask, (0, 0, 0, z_w.shape[3]), value=True)  # (B, 1, H + W, 1)
        f = swish(batch_norm(self.squeeze_norm, self.squeeze(z), mask))  # eq. 3
        f_h, f_w = f.split([z_h.shape[2], z_w.shape[3]], dim=2)
        g_h = torch.sigmoid(self.excite_h(f_h))  # eq. 4
        g_w = torch.sigmoid(self.excite_w(f_w)).transpose(2, 3)  # (B, C, 1, W), eq. 5
        return g_h, g_w

    def low_resolution(self, pooled: Tensor, rows: Tensor | None) -> Tensor:
        """F(AvgPool_r(X)) of eq. 7: (B, C, H/r, W/r) to the same shape; `rows` are those of X."""
        if rows is None:
            return batch_norm(self.context_norm, self.context(pooled), None)
        height = pooled.shape[2]
        rows = low_rows(rows, self.rate, height)
        return extend(batch_norm(self.context_norm, self.context(pooled), row_mask(rows, height)), rows)

    def refined(self, y_a: Tensor, mask: Tensor | None) -> Tensor:
        """The released code's convolutions inside Y_a."""
        for layer in cast(nn.Sequential, self.refine):
            y_a = batch_norm(layer, y_a, mask) if isinstance(layer, nn.BatchNorm2d) else layer(y_a)
            y_a = masked(y_a, mask)
        return y_a


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

    @staticmethod
    def map_rows(frames: Tensor) -> Tensor:
        """Rows of the map of a spectrogram with these many frames."""
        return (convolved_rows(frames) - 1) // 2

    def forward(self, spec: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, 1, T, F) to a map (B, C, H, W), H and W about half of T and F.

        With `valid` (B,), real frames, padding has no influence, and the map's rows after `map_rows(valid)` are zero.
        """
        rows = None if valid is None else convolved_rows(valid)
        if valid is not None:
            spec = masked(spec, row_mask(valid, spec.shape[2]))
        if cpu.is_faster(spec) and not self.released:
            return cpu.multi_spatial_fusion(self, spec, rows)
        mask = None if rows is None else row_mask(rows, spec.shape[2] - 1)
        along_time = functional.relu(batch_norm(self.time_norm, self.time_conv(spec), mask))
        along_frequency = functional.relu(batch_norm(self.frequency_norm, self.frequency_conv(spec), mask))
        x = torch.cat([along_time, along_frequency], dim=1)  # (B, C, T-1, F-1)
        x = functional.max_pool2d(x, 3, stride=2)
        if valid is not None:
            rows = self.map_rows(valid)
            mask = row_mask(rows, x.shape[2])
        x = cast(Tensor, self.grfs[0](masked(x, mask), rows))
        for conv, norm, grf in zip(self.convs, self.norms, self.grfs[1:], strict=True):
            x = functional.relu(batch_norm(cast(nn.BatchNorm2d, norm), conv(x), mask))
            x = grf(masked(x, mask), rows)
        return x


def convolved_rows(frames: Tensor) -> Tensor:
    """Rows after MF's first convolutions, at least the three of a pooling window."""
    return (frames - 1).clamp(min=3)
