"""What a network is given: the stored features of some segments, scaled. Where they come from is in `data`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


class Layers(NamedTuple):
    """All encoder layers of some segments, unscaled: the network reads values * scale + shift. M layers.

    Attributes:
        values: (B, M, L, D), as stored.
        scale, shift: (M, 1, D), or None for the stored values.
    """

    values: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Normalised tensors on the device; None where the model has no such input."""

    spec: Tensor | None  # (B, 1, T, F)
    ssl: Tensor | Layers | None  # (B, L, D), or all layers
    spec_valid: Tensor | None  # (B,)
    ssl_valid: Tensor | None  # (B,)
    label: Tensor  # (B,)
    mfcc: Tensor | None = None  # (B, T, 40)
    mfcc_valid: Tensor | None = None  # (B,)

    @property
    def inputs(self) -> tuple[Tensor | Layers | None, ...]:
        """All but the label, in the order in which the network takes them."""
        return self.spec, self.ssl, self.spec_valid, self.ssl_valid, self.mfcc, self.mfcc_valid


@dataclass(frozen=True)
class Normaliser:
    """y = x * scale + shift, per bin; from training speakers only."""

    scale: Array  # (F,) float32, or (M, F) of M layers
    shift: Array  # likewise


Affine = Mapping[str, "tuple[Tensor, Tensor] | None"]  # side -> scale and shift on the device


def on_device(normalisers: Mapping[str, Normaliser | None], device: str) -> Affine:
    """Scale and shift of each side where `as_batch` wants them."""
    import torch  # here, so that looking at a finished run does not wait for it

    return {
        side: None
        if n is None
        else (torch.from_numpy(n.scale).to(device), torch.from_numpy(n.shift).to(device))
        for side, n in normalisers.items()
    }


def as_batch(
    stored: Mapping[str, Tensor], affine: Affine, valid: Mapping[str, Tensor], label: Tensor
) -> Batch:
    """Scales features and lays them out as the network takes them.

    Args:
        stored: by side (B, T, F), or (B, M, T, F) of M layers, as a cache holds them; left as they are.
        affine: by side; None leaves the stored values as they are.
        valid: by side (B,), real frames.
        label: (B,).
    """
    import torch

    values: dict[str, Tensor] = {}
    layers: Layers | None = None
    for side, x in stored.items():
        if x.ndim == 4:  # all layers stay as stored: whoever sums them scales them on the way
            both = affine[side]
            layers = Layers(x) if both is None else Layers(x, *(part.unsqueeze(1) for part in both))
            continue
        values[side] = x.float()
        if (pair := affine[side]) is not None:
            own = None if values[side] is x else values[side]  # float32 is not copied above
            values[side] = torch.addcmul(pair[1], values[side], pair[0], out=own)
    spec = values.get("spec")
    return Batch(
        None if spec is None else spec.unsqueeze(1),
        layers or values.get("ssl"),
        valid.get("spec"),
        valid.get("ssl"),
        label,
        values.get("mfcc"),
        valid.get("mfcc"),
    )
