"""Batches as a network takes them: the stored features of some segments, scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]


class Layers(NamedTuple):
    """All encoder layers of some segments, unscaled: the network computes values * scale + shift. M layers.

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
        """All but the label, in the order of the network's arguments."""
        return self.spec, self.ssl, self.spec_valid, self.ssl_valid, self.mfcc, self.mfcc_valid


@dataclass(frozen=True)
class Normaliser:
    """y = x * scale + shift, per bin; estimated on training speakers.

    Attributes:
        scale: (F,) float32, or (M, F) of M layers; empty where each speaker has its own, see PER_SPEAKER; where each
            of C corpora has its own, with an axis of these in front.
        shift: the same shape.
        corpora: C names of these corpora.
    """

    scale: Array
    shift: Array
    corpora: tuple[str, ...] = ()

    @property
    def per_speaker(self) -> bool:
        """Whether each speaker is scaled by the statistics of its own recordings."""
        return not self.scale.size

    @property
    def per_shard(self) -> bool:
        """Whether speakers are scaled differently: each by its own statistics, or by those of its corpus."""
        return self.per_speaker or bool(self.corpora)


# Stands for the statistics of each speaker, which `Corpus.batches` takes from the shards and `Predictor` computes.
PER_SPEAKER = Normaliser(np.empty(0, np.float32), np.empty(0, np.float32))


Affine = Mapping[str, "tuple[Tensor, Tensor] | None"]  # input -> scale and shift on the device


def on_device(normalisers: Mapping[str, Normaliser | None], device: str) -> Affine:
    """Scale and shift of each input as tensors on a device; None where nothing is scaled."""
    import torch  # not at the top: commands that only read finished runs do not load torch

    return {
        side: None
        if n is None
        else (torch.from_numpy(n.scale).to(device), torch.from_numpy(n.shift).to(device))
        for side, n in normalisers.items()
    }


def scaled(stored: Tensor, pair: tuple[Tensor, Tensor] | None) -> Tensor:
    """A float32 copy of features, times pair[0] plus pair[1].

    Args:
        stored: (..., T, F), not changed.
        pair: scale and shift, which broadcast to it; None keeps the values (and float32 input as it is).
    """
    import torch

    values = stored.float()
    if pair is None:
        return values
    # float32 input was not copied by float(): do not write to it.
    return torch.addcmul(pair[1], values, pair[0], out=None if values is stored else values)


def as_batch(
    stored: Mapping[str, Tensor], affine: Affine, valid: Mapping[str, Tensor], label: Tensor
) -> Batch:
    """Scales features and gives them the network's layout.

    Args:
        stored: per input (B, T, F), or (B, M, T, F) of M layers, as the cache holds them; not changed.
        affine: per input (F,) or (M, F), or with a batch axis (B, 1, F) or (B, M, 1, F); None keeps the stored values.
        valid: per input (B,), frames that are not padding.
        label: (B,).
    """
    import torch

    values: dict[str, Tensor] = {}
    layers: Layers | None = None
    for side, x in stored.items():
        pair = affine[side]
        if x.ndim == 4:
            # The learned sum over layers scales them on the way, which saves a copy of all layers; a scaling per
            # speaker has a batch axis and is done here.
            if pair is None:
                layers = Layers(x)
            elif pair[0].ndim == 4:
                layers = Layers(torch.addcmul(pair[1], x.float(), pair[0]))
            else:
                layers = Layers(x, *(part.unsqueeze(1) for part in pair))
            continue
        values[side] = scaled(x, pair)
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
