"""Scoring utterances with a network: log-probabilities of segments, their mean per utterance, and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.data.batch import Array, Batch, Normaliser
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.segments import Segments
from mfhca_train.model.network import MFHCA
from mfhca_train.results.metrics import Scores, confusion_matrix, mean_over_segments, scores

EVALUATION_BATCH = 32  # segments; 64 would need more memory than a training step of 32


@dataclass(frozen=True)
class Evaluation:
    """A network's outputs for some utterances (U) and their segments (N), K classes."""

    loss: float  # mean cross-entropy of the utterances
    log_probabilities: Array  # (U, K), mean over an utterance's segments
    segment_log_probabilities: Array  # (N, K)
    scores: Scores


def autocast(device: str, precision: str) -> torch.autocast:
    """bfloat16 autocast, or nothing for float32; "auto" has been replaced when a run was planned."""
    enabled = {"bfloat16": True, "float32": False}[precision]
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=enabled)


def evaluate(
    model: MFHCA,
    corpus: Corpus,
    utterances: Array,
    segments: Segments,
    normalisers: Mapping[str, Normaliser | None],
    device: str,
    precision: str,
) -> Evaluation:
    """Scores utterances by the mean of their segments' log-probabilities.

    Args:
        model: in any mode; evaluated with its running statistics and without dropout.
        corpus, utterances, segments: indices of the utterances, and their segments.
        normalisers: of each input.
        device, precision: where and how the network runs.
    """
    model.eval()
    batches = corpus.batches(segments, np.arange(len(segments)), EVALUATION_BATCH, normalisers, device)
    per_segment = np.concatenate([predict_batch(model, batch, device, precision)[0] for batch in batches])
    per_utterance = mean_over_segments(per_segment, segments.utterance, len(utterances))
    labels = corpus.labels[utterances]
    confusion = confusion_matrix(labels, per_utterance.argmax(axis=1), len(corpus.classes))
    loss = float(-per_utterance[np.arange(len(utterances)), labels].mean())
    return Evaluation(loss, per_utterance, per_segment, scores(confusion))


def predict_batch(model: MFHCA, batch: Batch, device: str, precision: str) -> tuple[Array, Tensor | None]:
    """Runs one batch through a network in evaluation mode.

    Returns:
        Log-probabilities of the segments (B, K) in float64, and the attention weights of the fusion; see
        `model.network.Output`.

    Raises:
        MfhcaError: an output is not finite.
    """
    with torch.inference_mode():
        with autocast(device, precision):
            output = model(*batch.inputs)
        result: Array = torch.log_softmax(output.logits.float(), dim=-1).cpu().double().numpy()
    if not np.isfinite(result).all():
        raise MfhcaError("the network's outputs are not finite: training diverged; lower train.lr")
    return result, output.attention
