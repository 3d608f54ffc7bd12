"""The weights of a fusion as shares of time. Shape letters as in `model`."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mfhca_train.batch import Array, Batch
from mfhca_train.config import ModelConfig
from mfhca_train.pooling import mean_over_time, valid_mask


def weighs_time(config: ModelConfig) -> bool:
    """Whether the fusion has a weight for each of the encoder's frames."""
    if config.inputs != "both" or config.fusion == "concat":
        return False
    return config.fusion == "coattention" or config.hca != "channel"


def shares(config: ModelConfig, attention: Tensor, batch: Batch) -> Array:
    """Each frame's share of its segment's attention.

    The reading `frames` has weights for every frame of MF's map: the network takes the mean over these (over those
    that hold audio, with `mask_padding`), and so does this. Readings without a softmax have weights of any sum; a
    segment without any stays zero.

    Args:
        config: the readings; `weighs_time` holds for them.
        attention: (B, L) or (B, H, L), from `model.Output`.
        batch: what the network was given.

    Returns:
        (B, L) in float64; rows sum to one.
    """
    if attention.ndim == 3:
        mask = None
        if config.mask_padding and batch.spec is not None and batch.spec_valid is not None:
            height = attention.shape[1]
            mask = valid_mask(batch.spec_valid * height // batch.spec.shape[2], height)
        attention = mean_over_time(attention, mask)
    weights = attention.float().cpu().double().numpy()
    sums = weights.sum(axis=1, keepdims=True)
    found: Array = np.divide(weights, sums, out=np.zeros(weights.shape), where=sums > 0)
    return found
