"""A learned weighted sum over the layers of the frozen encoder, as in SUPERB (Yang et al., Interspeech 2021).

h = sum over m of softmax(w)[m] * x[m], one weight per layer, all equal at the start. With
the norm, each frame of each layer is first normalised to zero mean and unit variance
(both as in the benchmark's code, s3prl, where the norm is off by default, too).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_train.data.batch import Layers
from mfhca_train.model import cpu


class WeightedSum(nn.Module):
    """Sums all layers to one.

    Args:
        layers: M.
        norm: whether each frame of each layer is normalised over its D values first.
    """

    def __init__(self, layers: int, norm: bool = False) -> None:
        super().__init__()
        self.norm = norm
        self.weights = nn.Parameter(torch.zeros(layers))  # w, before the softmax

    @property
    def softmax_weights(self) -> Tensor:
        """softmax(w), (M,)."""
        return torch.softmax(self.weights, dim=0)

    def forward(self, x: Tensor | Layers) -> Tensor:
        """(B, M, L, D) to (B, L, D), float32 or better; padded frames are summed like any other.

        No gradient flows to x, which comes from a frozen encoder.
        """
        layers = x if isinstance(x, Layers) else Layers(x)
        shape = layers.values.shape
        if len(shape) != 4 or shape[1] != len(self.weights):
            raise ValueError(f"expected (B, {len(self.weights)}, L, D), all layers; found {tuple(shape)}")
        if cpu.is_faster(layers.values):
            return cpu.weighted_sum(self.softmax_weights, layers, self.norm)
        with torch.autocast(layers.values.device.type, enabled=False):
            values = layers.values.to(torch.promote_types(layers.values.dtype, torch.float32))
            if layers.scale is not None and layers.shift is not None:
                values = torch.addcmul(layers.shift, values, layers.scale)
            if self.norm:
                values = functional.layer_norm(values, values.shape[-1:])
            return torch.einsum("m,bmld->bld", self.softmax_weights.to(values.dtype), values)
