"""II.D Hierarchical Cooperative Attention, eq. 9 and 10. Eq. 11 is in `network`, as are the shape letters."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.fusion import CHANNELS, TIME, Attention, Fusion, FusionInputs, Sizes, register
from mfhca_train.model.pooling import (
    PoolNorm,
    adaptive_cells,
    pooled_width,
    softmax_over_time,
    weighted_statistics,
)

ATTENTION = {  # by `config.hca`
    "temporal": Attention(TIME, "a softmax over the encoder's frames (eq. 9)"),
    "frames": Attention(
        TIME, "a softmax over the encoder's frames for each frame of MF's map; here the mean of these"
    ),
    "channel": Attention(
        CHANNELS,
        "a softmax over the encoder's dimensions, not over time: it cannot point at a moment; "
        "“effective frames” are dimensions here",
    ),
    "released": Attention(
        TIME, "the output of a ReLU for each frame, without softmax; here its share of the sum"
    ),
}


@register("hca")
class HierarchicalCooperativeAttention(Fusion):
    """HCA, eq. 9 and 10, in four variants (`config.hca`), since the paper gives no shapes.

    temporal: f_spec is projected to a query that attends over time; its weights pool f_hubert.
    frames:   as temporal, with one query per frame of MF's map.
    channel:  f_spec weights the frames of f'_hubert; softmax over the D dimensions weights those of f_hubert.
    released: no softmax; a 32 x 32 product of the two, as in the released code.
    """

    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:
        super().__init__(config, sizes)
        self.config, self.variant = config, config.hca
        self.scale = (
            sizes.width**-0.5 if config.hca_scale == "sqrt" else 1.0
        )  # keeps the softmax from saturating
        self.dropout = nn.Dropout(config.dropout)
        n = config.width
        if self.variant in ("temporal", "frames"):
            self.query = nn.Linear(n, sizes.width)
            pooled = pooled_width(config, sizes.width)
            if config.pool_norm:
                self.pool_norm = PoolNorm(pooled)
            self.out = nn.Linear(pooled, n)
        elif self.variant == "channel":
            self.query = nn.Linear(n, sizes.frames)
            self.out = nn.Linear(sizes.frames, n)
        else:
            if sizes.width % 32:
                raise MfhcaError(
                    f"model.hca=released needs an encoder width divisible by 32, found {sizes.width}; "
                    "choose another variant"
                )
            self.query = nn.Linear(sizes.spec_map, sizes.frames)
            self.mix = nn.Linear(32 * 32, sizes.width)
            self.out = nn.Linear(sizes.width, n)

    @classmethod
    def attention(cls, config: ModelConfig) -> Attention:
        """By variant: over time, or over the encoder's dimensions."""
        return ATTENTION[config.hca]

    def forward(self, x: FusionInputs) -> tuple[Tensor, Tensor]:
        """Eq. 9 and 10, then a fully connected layer.

        Returns:
            f'_att after its layer, (B, N), (B, H, N) for `frames`; and f_att. Masked frames get no weight.
        """
        f_spec, hidden, context, mask = x.guide, x.hidden, x.context, x.mask
        if self.variant == "temporal":
            query = self.query(self.dropout(f_spec))  # (B, D)
            scores = self.scale * torch.einsum("bd,bld->bl", query, context)  # (B, L)
            f_att = softmax_over_time(scores, mask)  # eq. 9
            pooled = self.pool("bl,bld->bd", f_att, hidden)  # (B, D) or (B, 2D), eq. 10
        elif self.variant == "frames":
            query = self.query(self.dropout(f_spec))  # (B, H, D)
            scores = self.scale * torch.einsum("bhd,bld->bhl", query, context)  # (B, H, L)
            f_att = softmax_over_time(scores, None if mask is None else mask[:, None])  # eq. 9
            pooled = self.pool("bhl,bld->bhd", f_att, hidden, x.map_mask)  # (B, H, D) or (B, H, 2D), eq. 10
        elif self.variant == "channel":
            weights = self.query(self.dropout(f_spec))  # (B, L)
            weights = weights if mask is None else weights * mask
            f_att = torch.softmax(torch.einsum("bl,bld->bd", weights, context), dim=-1)  # (B, D), eq. 9
            pooled = torch.einsum("bld,bd->bl", hidden, f_att)  # (B, L), eq. 10
            pooled = pooled if mask is None else pooled * mask
        else:
            weights = self.query(self.dropout(x.spec_map))  # (B, L)
            f_att = functional.relu(weights if mask is None else weights * mask)  # (B, L), no softmax
            summed = torch.einsum("bl,bld->bd", f_att, context)  # (B, D)
            low = adaptive_cells(hidden, (32, hidden.shape[2] // 32))  # (B, 32, D/32)
            if mask is not None:  # the mean over the real frames of each cell
                real = adaptive_cells(mask[..., None].to(low.dtype), (32, 1))
                low = low / real.clamp(min=1 / mask.shape[1])
            product = low @ summed.unflatten(1, (-1, 32))  # (B, 32, 32)
            pooled = self.mix(product.flatten(1))  # (B, D)
        return functional.relu(self.out(self.dropout(pooled))), f_att

    def pool(self, product: str, f_att: Tensor, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Eq. 10, the sum of f_hubert weighted by f_att; its weighted deviation too for `pooling=statistics`.

        The mask (B, H) is true at real rows of the map, and is used by `pool_norm` alone.
        """
        statistics = self.config.pooling == "statistics"
        pooled = weighted_statistics(hidden, f_att) if statistics else torch.einsum(product, f_att, hidden)
        return cast(Tensor, self.pool_norm(pooled, mask)) if self.config.pool_norm else pooled
