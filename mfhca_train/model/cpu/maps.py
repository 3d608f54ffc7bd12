"""Feature maps (B, C, H, W) as the fast functions of this folder store them.

Maps are stored with their channels last, which is also the fastest layout for the convolutions.

A map x = ReLU(norm(source)) is never stored. `NormedMap` carries its source, and every function that uses x
applies the affine part of the norm and the ReLU while it reads the source. In autograd's graph the edge of
a `NormedMap` carries the gradient with respect to norm(source); the function of `norm` that created it converts
that to the gradient with respect to the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class NormedMap(NamedTuple):
    """A map x = ReLU(source * scale + shift) that is not stored; see the module's docstring."""

    source: Tensor  # (B, C, H, W), channels last
    rows: Tensor  # (B,) int64, the real rows of each sample; the others are padding and count as zero
    scale: Tensor  # (C,)
    shift: Tensor  # (C,)


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
