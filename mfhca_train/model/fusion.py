"""What a fusion is: its inputs, its output, what it attends to, and how `model.fusion` finds it.

The fusion NAME is the class in `mfhca_train/model/NAME.py` that `register` decorates; it is imported when
a network is built with `model.fusion=NAME`. Shape letters as in `network`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from mfhca_train.config.settings import ModelConfig

CONCAT = "concat"  # the setting's value for no fusion: the mean hidden state is concatenated to f_spec
TIME, CHANNELS = "time", "channels"  # what attention weights are spread over: encoder frames or dimensions


class Attention(NamedTuple):
    """What the weights of a fusion are.

    Attributes:
        over: TIME for weights (B, L) or (B, H, L), CHANNELS for (B, D).
        description: completes the sentence "the weights are ..." in reports.
    """

    over: str
    description: str


class Sizes(NamedTuple):
    """What a fusion is built for.

    Attributes:
        frames, width: L and D of the hidden states.
        guide: values of the guide, N, or 2 N with MFCCs.
        spec_map: values of the pooled spectrogram map, 6C.
    """

    frames: int
    width: int
    guide: int
    spec_map: int


class FusionInputs(NamedTuple):
    """What a fusion is given for a batch.

    Attributes:
        guide: f_spec (B, N), (B, H, N) with `hca=frames`; with MFCCs f_spec and their vector, (B, 2N).
        spec_map: the pooled spectrogram map from which f_spec was made, (B, 6C) or (B, H, 3C).
        hidden: f_hubert, the encoder's hidden states, (B, L, D).
        context: f'_hubert, the hidden states after the BiLSTM, or the same as `hidden` without one, (B, L, D).
        mask: (B, L), true at real frames; `hidden` and `context` are zero elsewhere. None treats padding like
            speech, as the paper does.
        map_mask: (B, H), true at real rows of the spectrogram's map, with `mask` and `hca=frames`; else None.
    """

    guide: Tensor
    spec_map: Tensor
    hidden: Tensor
    context: Tensor
    mask: Tensor | None
    map_mask: Tensor | None = None


class Fusion(nn.Module):
    """Base class. `forward` maps `FusionInputs` to a vector of N values per segment and the attention weights."""

    def __init__(self, config: ModelConfig, sizes: Sizes) -> None:  # noqa: ARG002, the signature of all fusions
        super().__init__()

    @classmethod
    def attention(cls, config: ModelConfig) -> Attention | None:  # noqa: ARG003, some depend on it
        """What the weights are; None for a fusion whose weights are not shown in reports."""
        return None

    def forward(self, x: FusionInputs) -> tuple[Tensor, Tensor]:
        """(B, N), or (B, H, N) with `hca=frames`, and the weights."""
        raise NotImplementedError


_REGISTERED: dict[str, type[Fusion]] = {}


def register(name: str) -> Callable[[type[Fusion]], type[Fusion]]:
    """Class decorator: makes a fusion available as `model.fusion=NAME`, the name of its module."""

    def keep(fusion: type[Fusion]) -> type[Fusion]:
        _REGISTERED[name] = fusion
        return fusion

    return keep


def fusion_class(config: ModelConfig) -> type[Fusion] | None:
    """The class that the settings ask for; None where nothing is fused: one input, or `fusion=concat`."""
    if config.inputs != "both" or config.fusion == CONCAT:
        return None
    importlib.import_module(f"mfhca_train.model.{config.fusion}")
    return _REGISTERED[config.fusion]


def attention_of(config: ModelConfig) -> Attention | None:
    """What the attention weights of a network with these settings are; None where there are none to show."""
    fusion = fusion_class(config)
    return fusion.attention(config) if fusion else None
