"""Baselines without a network: the majority class, and linear classifiers. No torch.

`majority` predicts the most frequent class of the training speakers. `svm` (linear support vector machines, one for
each pair of classes, which weigh the classes equally) and `logistic` (multinomial regression) read the mean of an
utterance's hidden states over its valid frames, with model.pooling=statistics their standard deviation too,
standardised over the training speakers. With train.ssl_norm=speaker (transductive) or corpus the hidden states are
first normalised so; with train.refit the classifier is trained again on the validation speakers too, after C was
selected on them. All use the same folds as the networks and write the same files.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mfhca_cache.common.files import write_atomically
from mfhca_cache.common.progress import progress
from mfhca_train.data.batch import Array
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import SIDES
from mfhca_train.data.pooled import pooled
from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.schema import BEST, LOGISTIC, MAJORITY, SVM
from mfhca_train.training import process
from mfhca_train.training.outputs import HISTORY_COLUMNS, TestOutputs, write_outputs
from mfhca_train.training.unit import Unit, working_folder

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

CPU = "cpu"  # the device of all of them
KINDS = (MAJORITY, SVM, LOGISTIC)
# Values of C; the validation speakers select one. The strongest regularisation comes first and wins ties.
CANDIDATES = {SVM: (0.0001, 0.001, 0.01, 0.1), LOGISTIC: (0.001, 0.01, 0.1, 1.0)}
SMALLEST_DEVIATION = 1e-6  # of a dimension, below which it counts as constant
ABSENT = -1e3  # log-probability of a class that no training speaker has
PER_SHARD = (
    "speaker",
    "corpus",
)  # values of train.ssl_norm that a standardisation over all frames cannot replace
LEARNED = ("weights", "bias", "log_prior")  # parameters; the other arrays only scale the input
STOPPED_BY = "the best of all candidates"

# Arrays of a classifier, and its log-probabilities (U, K) of all utterances.
Candidate = tuple[Mapping[str, Array], Array]


def train(kind: str, units: Sequence[Unit], corpus: Corpus) -> None:
    """Trains units of one row in this process; each takes seconds.

    Args:
        kind: one of KINDS.
        units: those without a result, of one row.
        corpus: the row's open features.

    Raises:
        MfhcaError: a folder cannot be written, or another process trains the unit.
    """
    config = units[0].config
    norm = config.train.ssl_norm
    with progress(len(units), " folds", units[0].row) as bar:
        features = None
        for unit in units:
            if kind != MAJORITY and (features is None or norm == "corpus"):  # else the same for all folds
                scaling = (
                    corpus.normaliser("ssl", norm, corpus.of_fold(unit.fold, "train"))
                    if norm in PER_SHARD
                    else None
                )
                features = pooled(corpus, "ssl", config.model.pooling, scaling)
            with working_folder(unit.folder) as folder:
                if folder is not None:
                    _train_unit(folder, kind, unit, corpus, features)
            bar.update()


def _majority(corpus: Corpus, train: Array) -> Candidate:
    counts = np.bincount(corpus.labels[train], minlength=len(corpus.classes))
    prior = np.log((counts + 1) / (counts + 1).sum())  # the rule of succession: no class is impossible
    return {"log_prior": prior}, np.tile(prior, (len(corpus.utterances), 1))


def _linear(kind: str, strength: float, corpus: Corpus, train: Array, features: Array) -> Candidate:
    """A linear classifier of scikit-learn; a softmax over an SVM's votes keeps the order of the classes."""
    centre, deviation = features[train].mean(axis=0), features[train].std(axis=0)
    scale = np.where(deviation >= SMALLEST_DEVIATION, 1 / np.maximum(deviation, SMALLEST_DEVIATION), 0.0)
    x, labels = (features - centre) * scale, corpus.labels[train]
    present = np.unique(labels)
    arrays: dict[str, Array] = {"centre": centre, "scale": scale, "c": np.array([strength])}
    log_probabilities = np.full((len(x), len(corpus.classes)), ABSENT)
    if len(present) == 1:
        log_probabilities[:, present] = 0.0
    else:
        machine = _fit(kind, strength, x[train], labels)
        arrays |= {"weights": machine.coef_, "bias": machine.intercept_, "present": present}
        margins = machine.decision_function(x)
        if len(present) == 2:  # one margin, for the second class
            margins = np.stack([np.zeros(len(x)), margins], axis=1)
        top = margins.max(axis=1, keepdims=True)
        log_probabilities[:, present] = (
            margins - top - np.log(np.exp(margins - top).sum(axis=1, keepdims=True))
        )
    return arrays, log_probabilities


def _fit(kind: str, strength: float, x: Array, labels: Array) -> SVC | LogisticRegression:
    """scikit-learn's classifier, fitted to (n, F) values and (n,) labels of two classes or more."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    machine = (
        SVC(C=strength, kernel="linear", class_weight="balanced")
        if kind == SVM
        else LogisticRegression(C=strength, max_iter=2000)
    )
    with warnings.catch_warnings():  # a machine that has not quite converged is scored like the others
        warnings.simplefilter("ignore", ConvergenceWarning)
        return machine.fit(x, labels)


def _train_unit(folder: Path, kind: str, unit: Unit, corpus: Corpus, features: Array | None) -> None:
    """Trains the candidates, which stand for epochs, and writes the one with the best validation score."""
    from safetensors.numpy import save

    fold = unit.fold
    train, validation, test = (corpus.of_fold(fold, side) for side in SIDES)

    def loss(utterances: Array, outputs: Array) -> float:
        return float(-outputs[utterances, corpus.labels[utterances]].mean())

    def candidate(strength: float, utterances: Array) -> Candidate:
        if features is None:
            return _majority(corpus, utterances)
        return _linear(kind, strength, corpus, utterances, features)

    strengths = CANDIDATES.get(kind, (0.0,))
    candidates = [candidate(strength, train) for strength in strengths]
    history: list[dict[str, float]] = []
    for number, (_, outputs) in enumerate(candidates, start=1):
        predicted = outputs[validation].argmax(axis=1)
        score = scores(confusion_matrix(corpus.labels[validation], predicted, len(corpus.classes)))
        row = (number, loss(train, outputs), loss(validation, outputs), score.wa, score.ua)
        history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
    best = max(history, key=lambda row: (row["validation_wa"] + row["validation_ua"], -row["epoch"]))
    arrays, outputs = candidates[history.index(best)]
    refit = unit.config.train.refit
    if refit:
        arrays, outputs = candidate(
            strengths[history.index(best)], np.sort(np.concatenate([train, validation]))
        )
    weights = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_atomically(folder / BEST, save(weights))
    segments = corpus.segments(test)
    frames = np.bincount(segments.utterance, segments.frames(), minlength=len(test))
    whole = TestOutputs(test, outputs[test], np.arange(len(test)), frames, outputs[test], len(segments))
    parameters = {"total": sum(int(arrays[name].size) for name in arrays if name in LEARNED)}
    write_outputs(
        folder,
        corpus,
        fold,
        unit.seed,
        unit.identity,
        process.environment(CPU),
        history,
        best,
        STOPPED_BY,
        whole,
        {"parameters": parameters},
        sorted({*fold.train, *fold.validation}) if refit else None,
    )
