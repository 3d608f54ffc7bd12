"""The ensemble of seeds, recomputed with scikit-learn from predictions of two seeds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from mfhca_train.results import seed_ensemble

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
    found = seed_ensemble.summary(units, rows, CLASSES)["ensemble"]
    guess = {f: [CLASSES[k] for k in (logp[f, 0] + logp[f, 1]).argmax(axis=1)] for f in labels}
    wa = [accuracy_score(labels[f], guess[f]) for f in labels]
    assert found["seeds"] == 2
    assert found["wa"]["mean"] == pytest.approx(np.mean(wa))
    everything = [*labels["x"], *labels["y"]], [*guess["x"], *guess["y"]]
    assert found["ua"]["pooled"] == pytest.approx(balanced_accuracy_score(*everything))


def test_one_seed_has_no_ensemble() -> None:
    one = unit("x", 0, ["a"], np.zeros((1, 3)))
    assert seed_ensemble.summary([one[0]], [one[1]], CLASSES) == {}
