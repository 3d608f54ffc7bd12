"""Features in an accelerator's memory, so that a training step transfers nothing but indices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mfhca_cache.store.reader import Features
from mfhca_train.data.batch import Array

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256  # segments copied at a time


class DeviceFeatures:
    """Some segments of one kind of feature, as stored, on a device.

    Args:
        features: the open shards.
        rows: (N, 2), shard and row of each segment that will be asked for, without repetitions.
        device: where to keep them.
    """

    def __init__(self, features: Features, rows: Array, device: str) -> None:
        import torch

        self._device = device
        self._index = [np.full(shard.shape[0], -1, np.int64) for shard in features.shards]
        for index, (shard, row) in enumerate(rows):
            self._index[shard][row] = index
        dtype = torch.from_numpy(np.empty(0, features.dtype)).dtype
        self._segments = torch.empty((len(rows), *features.frame_shape), dtype=dtype, device=device)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            self._segments[start : start + CHUNK] = torch.from_numpy(
                features.gather(chunk[:, 0], chunk[:, 1])
            )

    def indices(self, rows: Array) -> Tensor:
        """Shards and rows (M, 2) as indices (M,) for `gather`, on the device.

        Raises:
            IndexError: a segment was not copied.
        """
        import torch

        indices = np.array([self._index[shard][row] for shard, row in rows], np.int64)
        if len(indices) and indices.min() < 0:
            raise IndexError("a segment is not on the device")
        return torch.from_numpy(indices).to(self._device)

    def gather(self, indices: Tensor) -> Tensor:
        """(B, T, F) as stored, of indices (B,)."""
        return self._segments.index_select(0, indices)
