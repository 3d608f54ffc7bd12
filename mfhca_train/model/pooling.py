"""Means and softmax over time that can exclude padded frames. Shape letters as in `network`."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_train.config.settings import ModelConfig

VARIANCE_FLOOR = 1e-4  # of a dimension over time; the gradient of the root grows without bound towards zero


def softmax_over_time(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax over the last axis; frames outside the mask get weight zero. Rows sum to one."""
    return torch.softmax(scores if mask is None else scores.masked_fill(~mask, -torch.inf), dim=-1)


def valid_mask(valid: Tensor, frames: int) -> Tensor:
    """(B,) counts to (B, frames) booleans; at least the first frame is true."""
    return torch.arange(frames, device=valid.device)[None] < valid.clamp(min=1)[:, None]


def mean_over_time(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, L, D) to (B, D), over the real frames only if a mask (B, L) is given."""
    if mask is None:
        return x.mean(dim=1)
    return (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def pooled_width(config: ModelConfig, width: int) -> int:
    """Width of hidden states of this width after pooling over time."""
    return 2 * width if config.pooling == "statistics" else width


def weighted_statistics(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and standard deviation over time, in float32 or better.

    Args:
        x: (B, L, D).
        weights: (B, L) or (B, H, L), not negative; rows sum to one, and are zero where x is not to count.

    Returns:
        (B, 2D) or (B, H, 2D), means first. Variances below `VARIANCE_FLOOR` are raised to it.
    """
    with torch.autocast(x.device.type, enabled=False):
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        weights = weights.to(exact.dtype)
        # The variance is computed as a difference of two means. Values near zero keep it exact, so the mean of
        # all frames is subtracted first, which changes no variance.
        centre = exact.mean(dim=1, keepdim=True)  # (B, 1, D)
        centred = exact - centre
        rows = weights if weights.ndim == 3 else weights[:, None]  # (B, H, L)
        mean = rows @ centred  # (B, H, D)
        variance = rows @ centred.square() - mean.square()
        pooled = torch.cat([mean + centre, variance.clamp_min(VARIANCE_FLOOR).sqrt()], dim=-1)
    return pooled if weights.ndim == 3 else pooled[:, 0]


class PoolNorm(nn.BatchNorm1d):
    """Batch norm of pooled vectors without affine part, in float32 or better.

    A training batch with a single vector, which has no variance, is normalised by the running statistics.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, D) or (B, H, D) to the same shape.

        With a mask, (B, H), the statistics are those of the vectors inside it.
        """
        with torch.autocast(x.device.type, enabled=False):
            vectors = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(0, -2)
            counted = vectors if mask is None else vectors[mask.flatten()]
            # ONNX's batch norm needs the width as a constant, which it is not after a BiLSTM on packed frames.
            if torch.onnx.is_in_onnx_export() or (self.training and len(counted) < 2):
                mean, variance = cast(Tensor, self.running_mean), cast(Tensor, self.running_var)
                normed = (vectors - mean) * torch.rsqrt(variance + self.eps)
            elif not self.training or mask is None:
                normed = super().forward(vectors)
            else:
                super().forward(counted)  # updates the running statistics
                variance, mean = torch.var_mean(counted, dim=0, correction=0)
                normed = (vectors - mean) * torch.rsqrt(variance + self.eps)
        return normed.view(x.shape)


def pool_cells(x: Tensor, cells: tuple[int, int], rows: Tensor | None) -> Tensor:
    """Adaptive average pooling of (B, C, H, W) to `cells`; with `rows` (B,), over the first rows of each map only.

    A cell of padding only becomes zero.
    """
    if rows is None:
        return adaptive_average(x, cells)
    height = x.shape[2]
    mask = valid_mask(rows, height)[:, None, :, None].to(x.dtype)  # (B, 1, H, 1)
    real = adaptive_average(mask, (cells[0], 1))  # the real fraction of each cell
    return adaptive_average(x * mask, cells) / real.clamp(min=1 / height)


def adaptive_average(x: Tensor, cells: tuple[int, int]) -> Tensor:
    """`adaptive_avg_pool2d(x, cells)` as two matrix products.

    Autograd then need not keep the map, and on a GPU the gradient is deterministic, unlike torch's own.
    """
    height, width = (
        averaging_matrix(int(n), k, x.dtype, x.device) for n, k in zip(x.shape[2:], cells, strict=True)
    )
    if x.is_contiguous(memory_format=torch.channels_last):
        flat: Tensor = height @ x.permute(0, 2, 3, 1).flatten(2)
        rows: Tensor = flat.unflatten(2, (x.shape[3], -1))  # (B, h, W, C)
        return (width @ rows).permute(0, 3, 1, 2)
    return height @ (x @ width.T)


def adaptive_cells(x: Tensor, cells: tuple[int, int]) -> Tensor:
    """`adaptive_avg_pool2d` of (B, L, D); as matrix products in ONNX, which has no such operation for all sizes."""
    if torch.onnx.is_in_onnx_export():
        return adaptive_average(x[:, None], cells)[:, 0]
    return functional.adaptive_avg_pool2d(x, cells)


@functools.lru_cache(maxsize=32)
def averaging_matrix(size: int, cells: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(cells, size): row i averages from floor(i size / cells) to ceil((i + 1) size / cells)."""
    # The matrix is cached: made in an evaluation, it may be used in training, where an inference tensor is refused.
    with torch.inference_mode(False):
        identity = torch.eye(size, dtype=torch.float64)[None]
        matrix = functional.adaptive_avg_pool1d(identity, cells)[0].T
        return matrix.contiguous().to(dtype=dtype, device=device)
