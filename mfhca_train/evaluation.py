"""Judging utterances with a network: from segments' log-probabilities to scores and to the CSV files of a unit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfhca_cache.errors import MfhcaError
from mfhca_cache.files import write_atomically
from mfhca_train.data import Array, Corpus, Normaliser, Segments
from mfhca_train.metrics import Scores, confusion_matrix, scores
from mfhca_train.model import MFHCA

EVALUATION_BATCH = 64  # segments; no gradients are kept


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
    parts = []
    with torch.inference_mode():
        for batch in corpus.batches(segments, np.arange(len(segments)), EVALUATION_BATCH, scale, device):
            with autocast(device, precision):
                logits = model(*batch.inputs).logits
            parts.append(torch.log_softmax(logits.float(), dim=-1).cpu())
    per_segment = torch.cat(parts).double().numpy()
    if not np.isfinite(per_segment).all():
        raise MfhcaError("the network's outputs are not finite: training diverged; lower train.lr")
    counts = np.bincount(segments.utterance, minlength=len(chosen))
    sums = np.zeros((len(chosen), per_segment.shape[1]))
    np.add.at(sums, segments.utterance, per_segment)
    pooled = sums / counts[:, None]
    labels = corpus.labels[chosen]
    confusion = confusion_matrix(labels, pooled.argmax(axis=1), len(corpus.classes))
    loss = float(-pooled[np.arange(len(chosen)), labels].mean())
    return Evaluation(loss, pooled, per_segment, confusion, scores(confusion))


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
        folder / "predictions.csv", table(["utterance", "speaker", "label", "prediction", *columns], rows)
    )
    valid = next(segments.valid[side] for side in ("spec", "ssl") if side in segments.valid)
    rows = [
        [utterances[at].utterance, int(frames), *(float(v) for v in p)]
        for at, frames, p in zip(segments.utterance, valid, judged.segment_log_probabilities, strict=True)
    ]
    write_atomically(folder / "segments.csv", table(["utterance", "valid_frames", *columns], rows))


def table(header: tuple[str, ...] | list[str], rows: list[list[Any]]) -> str:
    """CSV text; floats with all the digits that tell them apart."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
