"""Padding kept out of feature maps (B, C, H, W): its cells are zero, and no mean or statistic includes them.

Padding is at the end of time, so a map has a number of real rows per sample, and the rows after them are padding.
Shape letters as in `network`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_train.model.pooling import valid_mask


def row_mask(rows: Tensor, height: int) -> Tensor:
    """(B,) real rows to (B, 1, H, 1), true at real rows; at least the first row is real."""
    return valid_mask(rows, height)[:, None, :, None]


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x with zeros outside the mask, (B, 1, H, 1) or None."""
    return x if mask is None else x.masked_fill(~mask, 0)


def mean_over_rows(x: Tensor, rows: Tensor | None) -> Tensor:
    """(B, C, H, W), zero in padding, to the mean over real rows, (B, C, 1, W)."""
    if rows is None:
        return x.mean(dim=2, keepdim=True)
    return x.sum(dim=2, keepdim=True) / rows.clamp(min=1)[:, None, None, None]


def average_pool(x: Tensor, rate: int, rows: Tensor | None) -> Tensor:
    """Average pooling by `rate`, (B, C, H, W) to (B, C, H/r, W/r), over the real rows of each cell.

    x is zero in padding.
    """
    low = functional.avg_pool2d(x, rate)
    if rows is None:
        return low
    first = rate * torch.arange(low.shape[2], device=x.device)
    real = (rows[:, None] - first).clamp(1, rate)[:, None, :, None]  # (B, 1, H/r, 1)
    return low * (rate / real)


def low_rows(rows: Tensor, rate: int, height: int) -> Tensor:
    """Real rows of an average-pooled map of this height: those with at least one real row of the original."""
    return ((rows + rate - 1) // rate).clamp(1, height)


def extend(x: Tensor, rows: Tensor | None) -> Tensor:
    """x with its last real row repeated in padding, as interpolation repeats the border of a map."""
    if rows is None:
        return x
    last = (rows.clamp(min=1) - 1)[:, None]
    index = torch.arange(x.shape[2], device=x.device)[None].minimum(last)  # (B, H)
    return x.gather(2, index[:, None, :, None].expand(x.shape))


def batch_norm(norm: nn.BatchNorm2d, x: Tensor, mask: Tensor | None) -> Tensor:
    """`norm(x)`, in training with the statistics of the cells inside the mask, (B, 1, H, 1) or None for all."""
    if mask is None or not norm.training:
        y: Tensor = norm(x)
        return y
    running_mean, running_var = norm.running_mean, norm.running_var
    if (
        running_mean is None
        or running_var is None
        or norm.momentum is None
        or norm.num_batches_tracked is None
    ):
        raise ValueError("norm must have a momentum and track its running statistics")
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    weight = mask.to(exact.dtype)
    count = weight.sum() * x.shape[3]
    mean = (exact * weight).sum(dim=(0, 2, 3)) / count
    centred = exact - mean[:, None, None]
    variance = (centred.square() * weight).sum(dim=(0, 2, 3)) / count
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        running_mean.lerp_(mean.to(running_mean.dtype), norm.momentum)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        running_var.lerp_(unbiased.to(running_var.dtype), norm.momentum)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return (centred * scale[:, None, None] + norm.bias[:, None, None]).to(x.dtype)
