from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from mfhca_train.results.metrics import confusion_matrix, scores
from mfhca_train.results.statistics import fold_summary

labels = st.integers(0, 4)


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_scores_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = np.array(pairs).T
    confusion = confusion_matrix(truth, predicted, 5)
    found = scores(confusion)
    present = np.unique(truth)
    assert np.array_equal(confusion, reference.confusion_matrix(truth, predicted, labels=range(5)))
    assert found.wa == pytest.approx(reference.accuracy_score(truth, predicted))
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert found.ua == pytest.approx(reference.recall_score(truth, predicted, **options))
    assert found.f1 == pytest.approx(reference.f1_score(truth, predicted, **options))
    assert [recall is None for recall in found.recalls] == [k not in present for k in range(5)]


def test_an_absent_class_leaves_the_mean_and_its_prediction_is_an_error() -> None:
    found = scores(confusion_matrix(np.array([0, 0]), np.array([0, 1]), 2))
    assert (found.wa, found.ua, found.recalls) == (0.5, 0.5, (0.5, None))


@pytest.mark.parametrize(("truth", "predicted"), [([0, 4], [0, 0]), ([0], [-1]), ([0, 1], [0])])
def test_labels_out_of_range_are_refused(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match="must"):
        confusion_matrix(np.array(truth), np.array(predicted), 4)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="no utterance"):
        scores(np.zeros((3, 3), np.int64))


def test_summary_of_folds_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).uniform(size=(3, 10))
    found = fold_summary(values)
    folds = values.mean(axis=0)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["std"] == pytest.approx(np.std(folds, ddof=1))
    assert found["seed_std"] == pytest.approx(np.std(values.mean(axis=1), ddof=1))
    assert found["ci95"] == pytest.approx(stats.t.interval(0.95, 9, folds.mean(), stats.sem(folds)))


def test_one_fold_and_one_seed_have_no_spread() -> None:
    found = fold_summary(np.array([[0.5]]))
    assert (found["std"], found["seed_std"], found["ci95"]) == (None, None, None)
