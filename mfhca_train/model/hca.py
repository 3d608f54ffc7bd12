"""II.D Hierarchical Cooperative Attention, eq. 9 and 10. Shape letters as in `model`; eq. 11 is there."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.pooling import softmax_over_time


class HierarchicalCooperativeAttention(nn.Module):
    """HCA, eq. 9 and 10, in four readings (`config.hca`); eq. 11 is the concatenation in `MFHCA`.

    temporal: a query from f_spec attends over time, the weights pool f_hubert.
    channel:  f_spec weighs the frames of f', softmax over the D channels, f_hubert times those.
    frames:   as temporal, with a query for every frame of MF's map.
    released: no softmax; a 32 x 32 product of the two, as the released code has it.
    """

    def __init__(self, config: ModelConfig, frames: int, width: int, spec_width: int) -> None:
        super().__init__()
        self.reading = config.hca
        self.scale = width**-0.5 if config.hca_scale == "sqrt" else 1.0  # keeps the softmax from saturating
        self.dropout = nn.Dropout(config.dropout)
        n = config.width
        if self.reading in ("temporal", "frames"):
            self.query = nn.Linear(n, width)
            self.out = nn.Linear(width, n)
        elif self.reading == "channel":
            self.query = nn.Linear(n, frames)
            self.out = nn.Linear(frames, n)
        else:
            if width % 32:
                raise MfhcaError(
                    f"model.hca=released needs an encoder width divisible by 32, found {width}; choose another reading"
                )
            self.query = nn.Linear(spec_width, frames)
            self.mix = nn.Linear(32 * 32, width)
            self.out = nn.Linear(width, n)

    def forward(
        self, f_spec: Tensor, hidden: Tensor, context: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Eq. 9 and 10, then a fully connected layer.

        Args:
            f_spec: (B, N); (B, H, N) for `frames`; the pooled map (B, 6C) for `released`.
            hidden: f_hubert, (B, L, D).
            context: f'_hubert, (B, L, D).
            mask: (B, L), true at real frames, or None to treat padding like any frame.

        Returns:
            f'_att after its layer, (B, N) or (B, H, N), and f_att.
        """
        query = self.query(self.dropout(f_spec))
        if self.reading == "temporal":
            scores = self.scale * torch.einsum("bd,bld->bl", query, context)  # (B, L)
            f_att = softmax_over_time(scores, mask)  # eq. 9
            pooled = torch.einsum("bl,bld->bd", f_att, hidden)  # (B, D), eq. 10
        elif self.reading == "frames":
            scores = self.scale * torch.einsum("bhd,bld->bhl", query, context)  # (B, H, L)
            f_att = softmax_over_time(scores, None if mask is None else mask[:, None])
            pooled = torch.einsum("bhl,bld->bhd", f_att, hidden)  # (B, H, D)
        elif self.reading == "channel":
            weights = query if mask is None else query * mask
            f_att = torch.softmax(torch.einsum("bl,bld->bd", weights, context), dim=-1)  # (B, D)
            pooled = torch.einsum("bld,bd->bl", hidden, f_att)  # (B, L)
            pooled = pooled if mask is None else pooled * mask
        else:
            f_att = functional.relu(query if mask is None else query * mask)  # (B, L), no softmax
            summed = torch.einsum("bl,bld->bd", f_att, context)  # (B, D)
            low = functional.adaptive_avg_pool2d(hidden, (32, hidden.shape[2] // 32))  # (B, 32, D/32)
            product = low @ summed.reshape(len(summed), -1, 32)  # (B, 32, 32)
            pooled = self.mix(product.flatten(1))  # (B, D)
        return functional.relu(self.out(self.dropout(pooled))), f_att
