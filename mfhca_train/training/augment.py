"""SpecAugment: masks of random length along time and frequency (Park et al., 2019), on features of a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.batch import Batch


def augment(batch: Batch, config: TrainConfig, random: np.random.Generator) -> Batch:
    """A batch with one mask per segment, input and axis; masked values become 0, the mean of standardised features.

    Args:
        batch: left as it is.
        config: the largest masked part of each axis.
        random: of the epoch; drawn on the CPU, so that every device masks the same.
    """
    spec, ssl = batch.spec, batch.ssl
    if spec is not None:
        spec = _masked(spec, 2, config.spec_time_mask, random)
        spec = _masked(spec, 3, config.spec_frequency_mask, random)
    if isinstance(ssl, Tensor):
        ssl = _masked(ssl, 1, config.ssl_time_mask, random)
        ssl = _masked(ssl, 2, config.ssl_feature_mask, random)
    return replace(batch, spec=spec, ssl=ssl)


def _masked(x: Tensor, axis: int, largest: float, random: np.random.Generator) -> Tensor:
    """Masks 0 to `largest` of an axis, at a place of its own in each sample."""
    if not largest:
        return x
    size = x.shape[axis]
    width = random.integers(0, int(largest * size) + 1, len(x))
    start = random.integers(0, size - width + 1)
    position = np.arange(size)
    inside = (position >= start[:, None]) & (position < (start + width)[:, None])  # (B, size)
    shape = [len(x), *(size if a == axis else 1 for a in range(1, x.ndim))]
    return x.masked_fill(torch.from_numpy(inside).to(x.device).reshape(shape), 0)
