"""Features kept on an accelerator, so that a training step moves nothing over the bus but indices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfhca_cache.store.reader import Features

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
CHUNK = 256  # segments copied at a time


class Resident:
    """Some segments of one kind of feature, as stored, on a device.

    Args:
        features: the open shards.
        rows: (N, 2), shard and row of each segment that will be asked for, without repetitions.
        device: where to keep them.
    """

    def __init__(self, features: Features, rows: Array, device: str) -> None:
        import torch

        self._device = device
        self._place = [np.full(shard.shape[0], -1, np.int64) for shard in features.shards]
        for at, (shard, row) in enumerate(rows):
            self._place[shard][row] = at
        dtype = torch.from_numpy(np.empty(0, features.dtype)).dtype
        self._segments = torch.empty((len(rows), *features.frame_shape), dtype=dtype, device=device)
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            self._segments[start : start + CHUNK] = torch.from_numpy(features.gather(part[:, 0], part[:, 1]))

    def places(self, rows: Array) -> Tensor:
        """(M, 2), shard and row, to the places (M,) for `gather`, on the device.

        Raises:
            IndexError: a segment that was not named at the beginning.
        """
        import torch

        places = np.array([self._place[shard][row] for shard, row in rows], np.int64)
        if len(places) and places.min() < 0:
            raise IndexError("a segment is not on the device")
        return torch.from_numpy(places).to(self._device)

    def gather(self, places: Tensor) -> Tensor:
        """(B,) places to (B, T, F) as stored."""
        return self._segments.index_select(0, places)
