"""Runs a trained network and records its final features, its attention and its gates. Shape letters as in `network`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.batch import Array, Layers, Normaliser
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.segments import Segments
from mfhca_train.model.fusion import attention_of
from mfhca_train.model.mf import GlobalReceptiveField
from mfhca_train.model.network import MFHCA, map_rows, mean_over_map
from mfhca_train.training.evaluate import EVALUATION_BATCH, autocast


@dataclass(frozen=True)
class Network:
    """A trained network in evaluation mode, and how it is run: scaling of its inputs, device and precision."""

    model: MFHCA
    normalisers: Mapping[str, Normaliser | None]
    device: str
    precision: str


@dataclass(frozen=True)
class BatchOutput:
    """What is recorded of one batch.

    Attributes:
        segments: the indices of its segments.
        log_probabilities: (B, K).
        features: f''_att of eq. 11, (B, 2N) or (B, 3N).
        weights: of the attention, (B, L) over time or (B, D) over dimensions; None without attention.
        gates: g_h (B, C, H) and g_w (B, C, W) of every GRF block (eq. 4, 5), each in (0, 1).
        spec: (B, T, F), the network's input; None without a spectrogram.
    """

    segments: slice
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
    gates: list[tuple[Tensor, Tensor]] = []
    pending: list[Tensor] = []

    def record_h(_: object, __: object, out: Tensor) -> None:
        pending.append(torch.sigmoid(out.detach().float()).squeeze(3))  # (B, C, H), eq. 4

    def record_w(_: object, __: object, out: Tensor) -> None:
        gates.append((pending.pop(), torch.sigmoid(out.detach().float()).squeeze(3)))  # (B, C, W), eq. 5

    blocks = [block for block in model.modules() if isinstance(block, GlobalReceptiveField)]
    handles = [block.excite_h.register_forward_hook(record_h) for block in blocks]
    handles += [block.excite_w.register_forward_hook(record_w) for block in blocks]
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


def over_time(config: ModelConfig, attention: Tensor | None, valid: Tensor | None) -> Tensor | None:
    """The attention weights of a batch as one value per frame (or dimension).

    With `hca=frames` there are weights for every frame of MF's map; features are the mean over these frames, and
    so are the weights.

    Args:
        config: the network's settings.
        attention: as in `Output`.
        valid: (B,) real frames of the spectrogram; used with `mask_padding`.
    """
    if attention is None or attention.ndim == 2:
        return attention
    return mean_over_map(attention, map_rows(config, valid) if config.mask_padding else None)


def run_segments(network: Network, corpus: Corpus, segments: Segments) -> Iterator[BatchOutput]:
    """Runs a network on segments, in their order."""
    model, device = network.model, network.device
    order = np.arange(len(segments))
    batches = corpus.batches(segments, order, EVALUATION_BATCH, network.normalisers, device)
    for start, batch in zip(range(0, len(order), EVALUATION_BATCH), batches, strict=True):
        with torch.inference_mode(), autocast(device, network.precision), record_gates(model) as gates:
            out = model(*batch.inputs)
            attention = out.attention if attended(model.config) else None
            weights = over_time(model.config, attention, batch.spec_valid)
            logp = torch.log_softmax(out.logits.float(), dim=-1)
        yield BatchOutput(
            slice(start, start + len(logp)),
            logp.cpu().double().numpy(),
            out.features.float().cpu().numpy(),
            None if weights is None else weights.float().cpu().numpy(),
            tuple((h.cpu().numpy(), w.cpu().numpy()) for h, w in gates),
            None if batch.spec is None else batch.spec[:, 0].cpu().numpy(),
        )


def saliency(model: MFHCA, inputs: tuple[Tensor | Layers | None, ...], target: int, precision: str) -> Array:
    """The sensitivity of a class's log-probability to each value of the spectrogram: |d log p / d x|.

    It is independent of the gates and therefore a check of them. It holds for this input only.

    Args:
        model: in evaluation mode, on the CPU.
        inputs: of a batch, in the order of the network's arguments.
        target: the class.
        precision: as in training.

    Returns:
        (B, T, F).
    """
    spec = inputs[0]
    if not isinstance(spec, Tensor):
        raise ValueError("this model has no spectrogram input")
    spec = spec.detach().clone().requires_grad_()
    with torch.enable_grad(), autocast("cpu", precision):
        logits = model(spec, *inputs[1:]).logits
        torch.log_softmax(logits.float(), dim=-1)[:, target].sum().backward()
    if spec.grad is None:
        raise ValueError("the output does not depend on the spectrogram")
    return spec.grad[:, 0].abs().numpy()
