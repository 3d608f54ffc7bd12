"""Rows that are not networks: the yardsticks that a network has to beat. No torch.

`majority` says the class that is the most frequent among the training speakers.
`svm` is a linear support vector machine on the mean of an utterance's hidden states
over its valid frames, standardised over the training speakers. They use the same
folds as the networks and leave the same files.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.console import progress
from mfhca_cache.common.files import lock, write_atomically
from mfhca_train.data.corpus import Array, Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.results.checksums import write_result
from mfhca_train.results.files import csv_text
from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.runs.plan import Plan, RowUnit
from mfhca_train.training.unit import begin_folder, publish_folder

LOCK_PATIENCE_SECONDS = 5.0  # an orphan of a killed run lets go within about a second
KINDS = ("majority", "svm")
# Strengths that are tried; the validation speakers choose. The strongest regularisation comes first and wins ties.
CANDIDATES = (0.0001, 0.001, 0.01, 0.1)
SMALLEST_DEVIATION = 1e-6  # of a dimension, below which it counts as constant
ABSENT = -1e3  # margin of a class that no training speaker has
LEARNED = ("weights", "bias", "log_prior")  # the rest only scales the input
CHOSEN = "the best of all candidates"


def train(plan: Plan, corpus: Corpus) -> None:
    """Computes what is left of a row's units, in this process: a unit takes seconds.

    Args:
        plan: of a row whose kind is one of KINDS.
        corpus: its open features.

    Raises:
        MfhcaError: a folder cannot be written, or another process computes the unit.
    """
    units = plan.unfinished
    if not units:
        return
    means = utterance_means(corpus) if plan.row.kind == "svm" else None
    with progress(len(units), "fold", plan.row.name) as bar:
        for unit in units:
            _compute(unit, plan.row.kind, corpus, means)
            bar.update()


def utterance_means(corpus: Corpus) -> Array:
    """(U, D) float64: mean hidden state of each utterance over its valid frames, from the shards' sums."""
    features = corpus.features["ssl"]
    rows: dict[str, Array] = {}
    for index, shard in enumerate(features.shards):
        means = features.moments(index, "sum") / np.maximum(shard.count, 1)[:, None]
        rows |= dict(zip(shard.utterance_ids, means, strict=True))
    return np.stack([rows[u.utterance] for u in corpus.utterances])


def _compute(unit: RowUnit, kind: str, corpus: Corpus, means: Array | None) -> None:
    """One unit, which appears whole or not at all."""
    folder = unit.folder
    work = folder.with_name(f".{folder.name}.partial")
    with lock(folder.with_name(f".{folder.name}.lock"), f"{folder}: this fold", LOCK_PATIENCE_SECONDS):
        if unit.finished:
            return
        shutil.rmtree(work, ignore_errors=True)
        begin_folder(work)
        if kind == "majority":
            candidates = _majority(corpus, unit.fold)
        else:
            assert means is not None
            candidates = _support_vectors(corpus, unit.fold, means)
        write_result(work, _files(work, unit, corpus, candidates))
        publish_folder(work, folder)


Candidates = Sequence[tuple[Mapping[str, Array], Array]]  # of each: its weights, (U, K) log-probabilities


def _majority(corpus: Corpus, fold: Fold) -> Candidates:
    counts = np.bincount(corpus.labels[corpus.of_speakers(fold.train)], minlength=len(corpus.classes))
    prior = np.log((counts + 1) / (counts + 1).sum())  # the rule of succession: no class is impossible
    return [({"log_prior": prior}, np.tile(prior, (len(corpus.utterances), 1)))]


def _support_vectors(corpus: Corpus, fold: Fold, means: Array) -> Candidates:
    """One-against-the-rest machines; margins go through a softmax, whose maximum is the largest margin."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    train = corpus.of_speakers(fold.train)
    centre, width = means[train].mean(axis=0), means[train].std(axis=0)
    scale = np.where(width >= SMALLEST_DEVIATION, 1 / np.maximum(width, SMALLEST_DEVIATION), 0.0)
    x, labels = (means - centre) * scale, corpus.labels[train]
    present = np.unique(labels)
    found: list[tuple[Mapping[str, Array], Array]] = []
    for strength in CANDIDATES:
        weights = np.zeros((len(corpus.classes), means.shape[1]))
        bias = np.full(len(corpus.classes), ABSENT)
        if len(present) == 1:
            bias[present] = 0.0
        else:
            machine = LinearSVC(C=strength, dual=False)
            with warnings.catch_warnings():  # what has not quite converged is judged like the rest
                warnings.simplefilter("ignore", ConvergenceWarning)
                machine.fit(x[train], labels)
            both = len(present) == 2  # then there is one machine, for the second class
            weights[present] = np.concatenate([-machine.coef_, machine.coef_]) if both else machine.coef_
            bias[present] = (
                np.concatenate([-machine.intercept_, machine.intercept_]) if both else machine.intercept_
            )
        margins = x @ weights.T + bias
        top = margins.max(axis=1, keepdims=True)
        log_probabilities = margins - top - np.log(np.exp(margins - top).sum(axis=1, keepdims=True))
        tensors = {
            "weights": weights,
            "bias": bias,
            "centre": centre,
            "scale": scale,
            "c": np.array([strength]),
        }
        found.append((tensors, log_probabilities))
    return found


def _files(work: Path, unit: RowUnit, corpus: Corpus, candidates: Candidates) -> dict[str, Any]:
    """Every file of a unit but result.json, whose content is returned: candidates take the place of epochs."""
    from safetensors.numpy import save

    fold, classes = unit.fold, corpus.classes
    validation, test = corpus.of_speakers(fold.validation), corpus.of_speakers(fold.test)
    train = corpus.of_speakers(fold.train)
    history = []
    for number, (_, outputs) in enumerate(candidates, start=1):
        judged = scores(_confusion(corpus, validation, outputs))
        losses = [_loss(corpus, chosen, outputs) for chosen in (train, validation)]
        history.append([number, *losses, judged.wa, judged.ua])
    best = max(history, key=lambda row: (row[3] + row[4], -row[0]))
    weights, outputs = candidates[history.index(best)]
    write_atomically(
        work / "best.safetensors",
        save({name: np.ascontiguousarray(array) for name, array in weights.items()}),
    )
    columns = "epoch,train_loss,validation_loss,validation_wa,validation_ua"
    write_atomically(work / "history.csv", csv_text(columns.split(","), history))
    names = [f"logp_{name}" for name in classes]
    rows = [
        [u.utterance, u.speaker, classes[corpus.labels[i]], classes[int(p.argmax())], *p.tolist()]
        for i, u, p in ((i, corpus.utterances[i], outputs[i]) for i in test)
    ]
    write_atomically(
        work / "predictions.csv", csv_text(["utterance", "speaker", "label", "prediction", *names], rows)
    )
    segments = corpus.segments(test)
    frames = np.bincount(segments.utterance, next(iter(segments.valid.values())), minlength=len(test))
    # The whole utterance is judged at once, so it counts as one segment here.
    whole = [
        [corpus.utterances[i].utterance, int(n), *outputs[i].tolist()]
        for i, n in zip(test, frames, strict=True)
    ]
    write_atomically(work / "segments.csv", csv_text(["utterance", "valid_frames", *names], whole))
    confusion = _confusion(corpus, test, outputs)
    judged = scores(confusion)
    return {
        "id": fold.id,
        "seed": unit.seed,
        "identity": unit.identity,
        "test_speakers": list(fold.test),
        "validation_speakers": list(fold.validation),
        "train_speakers": list(fold.train),
        "selected_on": "test" if set(fold.validation) & set(fold.test) else "validation",
        "n_utterances": len(test),
        "n_segments": len(segments),
        "wa": judged.wa,
        "ua": judged.ua,
        "f1": judged.f1,
        "recalls": list(judged.recalls),
        "classes_absent": [n for n, r in zip(classes, judged.recalls, strict=True) if r is None],
        "confusion": confusion.tolist(),
        "best_epoch": best[0],
        "epochs": len(history),
        "stopped_by": CHOSEN,
        "validation_wa": best[3],
        "validation_ua": best[4],
        "parameters": {"total": sum(int(weights[name].size) for name in weights if name in LEARNED)},
    }


def _confusion(corpus: Corpus, chosen: Array, outputs: Array) -> Array:
    return confusion_matrix(corpus.labels[chosen], outputs[chosen].argmax(axis=1), len(corpus.classes))


def _loss(corpus: Corpus, chosen: Array, outputs: Array) -> float:
    return float(-outputs[chosen, corpus.labels[chosen]].mean())
