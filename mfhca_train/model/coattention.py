"""The baseline's fusion, co-attention (CA-MSER, Zou et al. 2022). Shape letters as in `network`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.fusion import TIME, Attention, Fusion, FusionInputs, Sizes, register


@register("coattention")
class CoAttention(Fusion):
    """A guide gives each encoder frame a weight, without softmax.

    Args:
        config: `width` and `dropout` are used.
        sizes: frames, width and guide are used.
    """

    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.weights = nn.Linear(sizes.guide, sizes.frames)
        self.out = nn.Linear(sizes.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    @classmethod
    def attention(cls, config: ModelConfig) -> Attention:  # noqa: ARG003
        """One weight per encoder frame."""
        return Attention(
            TIME, "the output of a ReLU for each frame, without softmax; here its share of the sum"
        )

    def forward(self, x: FusionInputs) -> tuple[Tensor, Tensor]:
        """(B, N) and the weights (B, L); masked frames have weight zero."""
        weights = functional.relu(self.weights(self.dropout(x.guide)))  # (B, L)
        weights = weights if x.mask is None else weights * x.mask
        pooled = torch.einsum("bl,bld->bd", weights, x.context)  # (B, D)
        return functional.relu(self.out(self.dropout(pooled))), weights
