"""The files of a finished unit agree with each other and with scikit-learn."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from corpus_factory import CLASSES, manifest_of, request, utterances
from run_factory import ENVIRONMENT
from sklearn import metrics as reference
from unit_factory import train_fold

from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import make_folds
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.training import outputs as module


def test_scores_equal_scikit_learn_from_predictions_csv(tmp_path: Path) -> None:
    result, unit = train_fold(tmp_path, utterances())
    with open(unit / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    truth, predicted = [r["label"] for r in rows], [r["prediction"] for r in rows]
    assert result["wa"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert result["ua"] == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert result["f1"] == pytest.approx(
        reference.f1_score(truth, predicted, labels=sorted(set(truth)), average="macro", zero_division=0)
    )
    assert result["confusion"] == reference.confusion_matrix(truth, predicted, labels=CLASSES).tolist()
    logp = np.array([[float(r[f"logp_{c}"]) for c in CLASSES] for r in rows])
    assert [CLASSES[k] for k in logp.argmax(axis=1)] == predicted
    with open(unit / "segments.csv", newline="") as file:
        parts = list(csv.DictReader(file))
    for row, values in zip(rows, logp, strict=True):  # an utterance is the mean of its segments
        own = [[float(p[f"logp_{c}"]) for c in CLASSES] for p in parts if p["utterance"] == row["utterance"]]
        np.testing.assert_allclose(np.mean(own, axis=0), values)
        np.testing.assert_allclose(np.exp(own).sum(axis=1), 1, rtol=1e-5)


def test_a_unit_without_a_network_lists_each_utterance_as_one_part(tmp_path: Path) -> None:
    """result.json follows from the log-probabilities alone; a class without test utterances has no recall."""
    rows = [u for u in utterances() if (u.speaker, u.emotion) != ("s0", "joy")]
    wanted = request(tmp_path, rows)
    label_set = manifest_of(tmp_path).label_set()
    fold = make_folds(rows, "strict", wanted.config.train)[0]
    history = [dict(zip(module.HISTORY_COLUMNS, (1, 0.1, 1 / 3, 0.5, 0.75), strict=True))]
    with Corpus(choose_recipes(wanted.cache, "both"), rows, label_set) as corpus:
        tested = corpus.of_speakers(fold.test)
        values = np.random.default_rng(0).normal(size=(len(tested), len(CLASSES)))
        outputs = module.TestOutputs(
            tested, values, np.arange(len(tested)), np.full(len(tested), 5), values, 9
        )
        extra = {"parameters": {"total": 1}}
        result = module.write_outputs(
            tmp_path, corpus, fold, 3, "x", ENVIRONMENT, history, history[0], "C", outputs, extra
        )
        labels = corpus.labels[tested]
    assert (
        result["confusion"]
        == reference.confusion_matrix(labels, values.argmax(axis=1), labels=range(4)).tolist()
    )
    assert (result["classes_absent"], result["recalls"][CLASSES.index("joy")]) == (["joy"], None)
    assert (result["seed"], result["n_segments"], result["epochs"], result["validation_ua"]) == (
        3,
        9,
        1,
        0.75,
    )
    with open(tmp_path / "segments.csv", newline="") as file:
        parts = list(csv.DictReader(file))
    assert [p["utterance"] for p in parts] == [u.utterance for u in rows if u.speaker == "s0"]
    np.testing.assert_array_equal([[float(p[f"logp_{c}"]) for c in CLASSES] for p in parts], values)
    (row,) = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert {name: float(value) for name, value in row.items()} == history[0]
