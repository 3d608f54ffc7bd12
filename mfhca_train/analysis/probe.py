"""What a trained network does with some utterances: its final features, its attention, its gates. Nothing is kept
of a batch but what the caller keeps.

Shape letters as in `model`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.batch import Layers
from mfhca_train.data.corpus import Array, Corpus, Normaliser, Segments
from mfhca_train.model.fusion import attention_of
from mfhca_train.model.mf import GlobalReceptiveField
from mfhca_train.model.network import MFHCA, map_rows, mean_over_map
from mfhca_train.training.evaluate import EVALUATION_BATCH, autocast


@dataclass(frozen=True)
class Sight:
    """One batch.

    Attributes:
        at: which segments.
        log_probabilities: (B, K).
        features: (B, N, 2N or 3N), f''_att of eq. 11.
        weights: (B, L) for `attended` = TIME, (B, D) for CHANNELS, None where there is no attention.
        gates: g_h (B, C, H) and g_w (B, C, W) of every GRF block (eq. 4, 5), each in (0, 1).
        spec: (B, T, F) as the network sees it, None without a spectrogram.
    """

    at: slice
    log_probabilities: Array
    features: Array
    weights: Array | None
    gates: tuple[tuple[Array, Array], ...]
    spec: Array | None


def attended(config: ModelConfig) -> str | None:
    """Whether the fusion weights the encoder's frames (TIME), its dimensions (CHANNELS), or nothing (None)."""
    attention = attention_of(config)
    return attention.over if attention else None


@contextmanager
def record_gates(model: MFHCA) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collects g_h (B, C, H) and g_w (B, C, W) of each GRF block while the network runs; empty without MF."""
    found: list[tuple[Tensor, Tensor]] = []
    rows: list[Tensor] = []

    def keep_h(_: object, __: object, out: Tensor) -> None:
        rows.append(torch.sigmoid(out.detach().float()).squeeze(3))  # (B, C, H), eq. 4

    def keep_w(_: object, __: object, out: Tensor) -> None:
        found.append((rows.pop(), torch.sigmoid(out.detach().float()).squeeze(3)))  # (B, C, W), eq. 5

    blocks = [block for block in model.modules() if isinstance(block, GlobalReceptiveField)]
    handles = [block.excite_h.register_forward_hook(keep_h) for block in blocks]
    handles += [block.excite_w.register_forward_hook(keep_w) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def over_time(config: ModelConfig, attention: Tensor | None, valid: Tensor | None) -> Tensor | None:
    """The weights of a batch as one value a frame (or a channel).

    The reading `frames` has weights for every frame of MF's map; the features are the mean over these, and so
    are the weights.

    Args:
        config: the readings.
        attention: as in `Output`.
        valid: (B,) real frames of the spectrogram; used with `mask_padding`.
    """
    if attention is None or attention.ndim == 2:
        return attention
    return mean_over_map(attention, map_rows(config, valid) if config.mask_padding else None)


def behold(
    model: MFHCA,
    corpus: Corpus,
    segments: Segments,
    scale: Mapping[str, Normaliser | None],
    device: str,
    precision: str,
) -> Iterator[Sight]:
    """Runs the network over segments, in their order.

    Args:
        model: in evaluation mode.
        corpus, segments: what it reads.
        scale: normalisers of the inputs.
        device, precision: where and how, as in training.
    """
    order = np.arange(len(segments))
    batches = corpus.batches(segments, order, EVALUATION_BATCH, scale, device)
    for start, batch in zip(range(0, len(order), EVALUATION_BATCH), batches, strict=True):
        with torch.inference_mode(), autocast(device, precision), record_gates(model) as gates:
            out = model(*batch.inputs)
            shown = out.attention if attended(model.config) else None
            weights = over_time(model.config, shown, batch.spec_valid)
            logp = torch.log_softmax(out.logits.float(), dim=-1)
        yield Sight(
            slice(start, start + len(logp)),
            logp.cpu().double().numpy(),
            out.features.float().cpu().numpy(),
            None if weights is None else weights.float().cpu().numpy(),
            tuple((h.cpu().numpy(), w.cpu().numpy()) for h, w in gates),
            None if batch.spec is None else batch.spec[:, 0].cpu().numpy(),
        )


def mean_of_segments(values: Array, segments: Segments, count: int) -> Array:
    """(N, d) of segments to (count, d) of their utterances."""
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, segments.utterance, values)
    return sums / np.bincount(segments.utterance, minlength=count)[:, None]


def saliency(model: MFHCA, inputs: tuple[Tensor | Layers | None, ...], target: int, precision: str) -> Array:
    """How much each value of the spectrogram moves the log-probability of a class: |d log p / d x|.

    A check that does not depend on the gates. It says to what the network is sensitive at this very input.

    Args:
        model: in evaluation mode, on the CPU.
        inputs: of a batch, in the order in which the network takes them.
        target: the class.
        precision: as in training.

    Returns:
        (B, T, F).
    """
    spec = inputs[0]
    if not isinstance(spec, Tensor):
        raise ValueError("this model reads no spectrogram")
    spec = spec.detach().clone().requires_grad_()
    with torch.enable_grad(), autocast("cpu", precision):
        logits = model(spec, *inputs[1:]).logits
        torch.log_softmax(logits.float(), dim=-1)[:, target].sum().backward()
    if spec.grad is None:
        raise ValueError("the spectrogram does not reach the output")
    return spec.grad[:, 0].abs().numpy()
