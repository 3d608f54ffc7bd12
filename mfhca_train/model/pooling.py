"""Means and softmax over time that can exclude padded frames. Shape letters as in `network`."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional


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
        averaging_matrix(n, k, x.dtype, x.device) for n, k in zip(x.shape[2:], cells, strict=True)
    )
    if x.is_contiguous(memory_format=torch.channels_last):
        flat: Tensor = height @ x.permute(0, 2, 3, 1).flatten(2)
        rows: Tensor = flat.unflatten(2, (x.shape[3], -1))  # (B, h, W, C)
        return (width @ rows).permute(0, 3, 1, 2)
    return height @ (x @ width.T)


@functools.lru_cache(maxsize=32)
def averaging_matrix(size: int, cells: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(cells, size): row i averages from floor(i size / cells) to ceil((i + 1) size / cells)."""
    # The matrix is cached: made in an evaluation, it may be used in training, where an inference tensor is refused.
    with torch.inference_mode(False):
        identity = torch.eye(size, dtype=torch.float64)[None]
        matrix = functional.adaptive_avg_pool1d(identity, cells)[0].T
        return matrix.contiguous().to(dtype=dtype, device=device)
