"""The ensemble of seeds and the calibration, recomputed with scikit-learn from predictions of two seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from mfhca_train.results import probabilities

CLASSES = ("a", "b", "c")


def unit(fold: str, seed: int, labels: list[str], logp: np.ndarray) -> tuple[dict, list[dict]]:
    rows = [
        {
            "utterance": f"{fold}{i}",
            "label": label,
            **{f"logp_{c}": str(v) for c, v in zip(CLASSES, p, strict=True)},
        }
        for i, (label, p) in enumerate(zip(labels, logp, strict=True))
    ]
    return {"id": fold, "seed": seed}, rows


def test_it_is_the_mean_log_probability_over_seeds() -> None:
    random = np.random.default_rng(3)
    labels = {fold: random.permutation(list(CLASSES) * 5).tolist() for fold in ("x", "y")}
    logp = {(fold, seed): random.normal(0, 1, (15, 3)) for fold in labels for seed in range(2)}
    units, rows = zip(*(unit(f, s, labels[f], values) for (f, s), values in logp.items()), strict=True)
    found = probabilities.summary(units, rows, CLASSES)["ensemble"]
    guess = {f: [CLASSES[k] for k in (logp[f, 0] + logp[f, 1]).argmax(axis=1)] for f in labels}
    wa = [accuracy_score(labels[f], guess[f]) for f in labels]
    assert found["seeds"] == 2
    assert found["wa"]["mean"] == pytest.approx(np.mean(wa))
    everything = [*labels["x"], *labels["y"]], [*guess["x"], *guess["y"]]
    assert found["ua"]["pooled"] == pytest.approx(balanced_accuracy_score(*everything))


def test_one_seed_has_no_ensemble() -> None:
    one = unit("x", 0, ["a"], np.zeros((1, 3)))
    assert set(probabilities.summary([one[0]], [one[1]], CLASSES)) == {"calibration"}


def test_calibration_compares_the_mean_probability_over_seeds_with_the_accuracy() -> None:
    random = np.random.default_rng(4)
    labels = random.choice(list(CLASSES), 200).tolist()
    logp = [random.normal(0, 2, (200, 3)) for _ in range(2)]
    units, rows = zip(*(unit("x", seed, labels, values) for seed, values in enumerate(logp)), strict=True)
    found = probabilities.summary(units, rows, CLASSES)["calibration"]
    mean = (softmax(logp[0], axis=1) + softmax(logp[1], axis=1)) / 2
    confidence, guess = mean.max(axis=1), [CLASSES[k] for k in mean.argmax(axis=1)]
    right = np.array([g == label for g, label in zip(guess, labels, strict=True)])
    accuracy, average = calibration_curve(right, confidence, n_bins=10)
    assert [one["accuracy"] for one in found["bins"]] == pytest.approx(list(accuracy))
    assert [one["confidence"] for one in found["bins"]] == pytest.approx(list(average))
    share, _ = np.histogram(confidence, np.linspace(0, 1, 11))
    error = np.average(np.abs(accuracy - average), weights=share[share > 0])
    assert found["ece"] == pytest.approx(error)
    assert (found["n"], found["accuracy"]) == (200, pytest.approx(right.mean()))


def test_certain_and_right_answers_have_no_calibration_error() -> None:
    found = probabilities.calibration(np.array([0, 1]), np.eye(2))
    assert found["ece"] == 0
    assert [(one["low"], one["high"], one["n"]) for one in found["bins"]] == [(0.9, 1.0, 2)]
