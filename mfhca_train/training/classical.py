"""Baselines without a network: the majority class, and a linear support vector machine. No torch.

`majority` predicts the most frequent class of the training speakers. `svm` is a linear support vector
machine on the mean of an utterance's hidden states over its valid frames, standardised over the training
speakers. Both use the same folds as the networks and write the same files.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mfhca_cache.common.console import progress
from mfhca_cache.common.files import write_atomically
from mfhca_train.data.batch import Array
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.schema import BEST, MAJORITY, SVM
from mfhca_train.training.outputs import HISTORY_COLUMNS, TestOutputs, write_outputs
from mfhca_train.training.unit import Unit, working_folder

KINDS = (MAJORITY, SVM)
# Values of C; the validation speakers select one. The strongest regularisation comes first and wins ties.
CANDIDATES = (0.0001, 0.001, 0.01, 0.1)
SMALLEST_DEVIATION = 1e-6  # of a dimension, below which it counts as constant
ABSENT = -1e3  # margin of a class that no training speaker has
LEARNED = ("weights", "bias", "log_prior")  # parameters; the other arrays only scale the input
STOPPED_BY = "the best of all candidates"

# For each candidate its arrays, and the log-probabilities (U, K) of all utterances.
Candidates = Sequence[tuple[Mapping[str, Array], Array]]


def train(kind: str, units: Sequence[Unit], corpus: Corpus) -> None:
    """Trains units of one row in this process; each takes seconds.

    Args:
        kind: one of KINDS.
        units: those without a result, of one row.
        corpus: the row's open features.

    Raises:
        MfhcaError: a folder cannot be written, or another process trains the unit.
    """
    means = utterance_means(corpus) if kind == SVM else None
    with progress(len(units), "fold", units[0].row) as bar:
        for unit in units:
            with working_folder(unit.folder) as folder:
                if folder is not None:
                    candidates = (
                        _majority(corpus, unit.fold) if means is None else _svm(corpus, unit.fold, means)
                    )
                    _select_and_write(folder, unit, corpus, candidates)
            bar.update()


def utterance_means(corpus: Corpus) -> Array:
    """(U, D) float64: mean hidden state of each utterance over its valid frames, from the shards' sums."""
    features = corpus.features["ssl"]
    means: dict[str, Array] = {}
    for index, shard in enumerate(features.shards):
        rows = features.moments(index, "sum") / np.maximum(shard.count, 1)[:, None]
        means |= dict(zip(shard.utterance_ids, rows, strict=True))
    return np.stack([means[u.utterance] for u in corpus.utterances])


def _majority(corpus: Corpus, fold: Fold) -> Candidates:
    counts = np.bincount(corpus.labels[corpus.of_speakers(fold.train)], minlength=len(corpus.classes))
    prior = np.log((counts + 1) / (counts + 1).sum())  # the rule of succession: no class is impossible
    return [({"log_prior": prior}, np.tile(prior, (len(corpus.utterances), 1)))]


def _svm(corpus: Corpus, fold: Fold, features: Array) -> Candidates:
    """One-against-the-rest machines for each C; a softmax over their margins keeps the order of the classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    train = corpus.of_speakers(fold.train)
    centre, deviation = features[train].mean(axis=0), features[train].std(axis=0)
    scale = np.where(deviation >= SMALLEST_DEVIATION, 1 / np.maximum(deviation, SMALLEST_DEVIATION), 0.0)
    x, labels = (features - centre) * scale, corpus.labels[train]
    present = np.unique(labels)
    candidates: list[tuple[Mapping[str, Array], Array]] = []
    for strength in CANDIDATES:
        weights = np.zeros((len(corpus.classes), features.shape[1]))
        bias = np.full(len(corpus.classes), ABSENT)
        if len(present) == 1:
            bias[present] = 0
        else:
            machine = LinearSVC(C=strength, dual=False)
            with (
                warnings.catch_warnings()
            ):  # a machine that has not quite converged is scored like the others
                warnings.simplefilter("ignore", ConvergenceWarning)
                machine.fit(x[train], labels)
            # With two classes scikit-learn fits one machine, for the second class.
            both = len(present) == 2
            weights[present] = np.concatenate([-machine.coef_, machine.coef_]) if both else machine.coef_
            bias[present] = (
                np.concatenate([-machine.intercept_, machine.intercept_]) if both else machine.intercept_
            )
        margins = x @ weights.T + bias
        top = margins.max(axis=1, keepdims=True)
        log_probabilities = margins - top - np.log(np.exp(margins - top).sum(axis=1, keepdims=True))
        arrays = {
            "weights": weights,
            "bias": bias,
            "centre": centre,
            "scale": scale,
            "c": np.array([strength]),
        }
        candidates.append((arrays, log_probabilities))
    return candidates


def _select_and_write(folder: Path, unit: Unit, corpus: Corpus, candidates: Candidates) -> None:
    """Selects the candidate with the best validation score and writes the unit; candidates stand for epochs."""
    from safetensors.numpy import save

    train, validation, test = (
        corpus.of_speakers(speakers) for speakers in (unit.fold.train, unit.fold.validation, unit.fold.test)
    )

    def loss(utterances: Array, outputs: Array) -> float:
        return float(-outputs[utterances, corpus.labels[utterances]].mean())

    history: list[dict[str, float]] = []
    for number, (_, outputs) in enumerate(candidates, start=1):
        predicted = outputs[validation].argmax(axis=1)
        score = scores(confusion_matrix(corpus.labels[validation], predicted, len(corpus.classes)))
        row = (number, loss(train, outputs), loss(validation, outputs), score.wa, score.ua)
        history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
    best = max(history, key=lambda row: (row["validation_wa"] + row["validation_ua"], -row["epoch"]))
    arrays, outputs = candidates[history.index(best)]
    weights = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(folder / BEST, save(weights))
    segments = corpus.segments(test)
    frames = np.bincount(segments.utterance, segments.frames(), minlength=len(test))
    whole = TestOutputs(test, outputs[test], np.arange(len(test)), frames, outputs[test], len(segments))
    parameters = {"total": sum(int(arrays[name].size) for name in arrays if name in LEARNED)}
    write_outputs(
        folder,
        corpus,
        unit.fold,
        unit.seed,
        unit.identity,
        history,
        best,
        STOPPED_BY,
        whole,
        {"parameters": parameters},
    )
