"""Judging utterances with a network: from segments' log-probabilities to scores and to the CSV files of a unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import write_atomically
from mfhca_train.data.batch import Array, Batch, Normaliser
from mfhca_train.data.corpus import Corpus, Segments
from mfhca_train.model.network import MFHCA
from mfhca_train.results.files import csv_text
from mfhca_train.results.metrics import Scores, confusion_matrix, scores

EVALUATION_BATCH = 32  # segments; at 64 it needs more memory than a training step of 32


@dataclass(frozen=True)
class Evaluation:
    """The network's judgement of some utterances (U) and their segments (N), K classes."""

    loss: float  # mean cross-entropy of the utterances
    log_probabilities: Array  # (U, K), mean over an utterance's segments
    segment_log_probabilities: Array  # (N, K)
    confusion: Array  # (K, K)
    scores: Scores


def autocast(device: str, precision: str) -> torch.autocast:
    """bfloat16 autocast, or nothing for float32."""
    return torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=precision == "bfloat16")


def evaluate(
    model: MFHCA,
    corpus: Corpus,
    chosen: Array,
    segments: Segments,
    scale: Mapping[str, Normaliser | None],
    device: str,
    precision: str,
) -> Evaluation:
    """Judges utterances by the mean of their segments' log-probabilities.

    Args:
        model: in any mode; evaluated with its running statistics and without dropout.
        corpus, chosen, segments: utterance indices and their segments.
        scale: normalisers of the inputs.
        device, precision: where and how.
    """
    model.eval()
    batches = corpus.batches(segments, np.arange(len(segments)), EVALUATION_BATCH, scale, device)
    per_segment = np.concatenate([judge(model, batch, device, precision)[0] for batch in batches])
    pooled = over_segments(per_segment, segments.utterance, len(chosen))
    labels = corpus.labels[chosen]
    confusion = confusion_matrix(labels, pooled.argmax(axis=1), len(corpus.classes))
    loss = float(-pooled[np.arange(len(chosen)), labels].mean())
    return Evaluation(loss, pooled, per_segment, confusion, scores(confusion))


def judge(model: MFHCA, batch: Batch, device: str, precision: str) -> tuple[Array, Tensor | None]:
    """One batch through a network in evaluation mode.

    Returns:
        Log-probabilities of the segments (B, K) in float64, and the weights of the fusion; see `model.Output`.

    Raises:
        MfhcaError: an output is not finite.
    """
    with torch.inference_mode():
        with autocast(device, precision):
            output = model(*batch.inputs)
        found: Array = torch.log_softmax(output.logits.float(), dim=-1).cpu().double().numpy()
    if not np.isfinite(found).all():
        raise MfhcaError("the network's outputs are not finite: training diverged; lower train.lr")
    return found, output.attention


def over_segments(per_segment: Array, utterance: Array, count: int) -> Array:
    """The mean of the segments' log-probabilities: what an utterance is judged by.

    Args:
        per_segment: (N, K).
        utterance: (N,) index of each segment's utterance.
        count: U; each has a segment.

    Returns:
        (U, K); the exponentials of a row need not sum to one.
    """
    sums = np.zeros((count, per_segment.shape[1]))
    np.add.at(sums, utterance, per_segment)
    return sums / np.bincount(utterance, minlength=count)[:, None]


def write_predictions(
    folder: Path, corpus: Corpus, chosen: Array, segments: Segments, judged: Evaluation
) -> None:
    """predictions.csv (a row an utterance) and segments.csv (a row a segment)."""
    classes = corpus.classes
    columns = [f"logp_{name}" for name in classes]
    utterances = [corpus.utterances[i] for i in chosen]
    rows = [
        [u.utterance, u.speaker, classes[label], classes[int(p.argmax())], *(float(v) for v in p)]
        for u, label, p in zip(utterances, corpus.labels[chosen], judged.log_probabilities, strict=True)
    ]
    write_atomically(
        folder / "predictions.csv", csv_text(["utterance", "speaker", "label", "prediction", *columns], rows)
    )
    valid = next(segments.valid[side] for side in ("spec", "ssl") if side in segments.valid)
    rows = [
        [utterances[at].utterance, int(frames), *(float(v) for v in p)]
        for at, frames, p in zip(segments.utterance, valid, judged.segment_log_probabilities, strict=True)
    ]
    write_atomically(folder / "segments.csv", csv_text(["utterance", "valid_frames", *columns], rows))
