"""Yardsticks without a network, recomputed from the features themselves."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus_factory import CLASSES
from grid_factory import PADDED, ROWS, make_corpus, short, write_grid
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.store.reader import Features
from mfhca_train.config.parse import with_settings
from mfhca_train.data.folds import make_folds
from mfhca_train.runs.ablation import ablate
from mfhca_train.training.classical import CANDIDATES

GRID = """
[base]
recipe = { tail = "pad" }
ssl = "hubert"
[[row]]
name = "svm"
kind = "svm"
set = { "model.inputs" = "ssl" }
[[row]]
name = "majority"
kind = "majority"
set = { "model.inputs" = "ssl" }
"""
SPEAKERS = sorted({u.speaker for u in ROWS})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classic")
    make_corpus(folder)
    ablate(short(folder, "x", folds=()), write_grid(folder / "grid.toml", GRID))
    return folder


def predictions(run: Path, row: str, speaker: str) -> list[dict[str, Any]]:
    with open(run / "runs/x" / row / "seed-0" / f"fold-{speaker}" / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def valid_frames(folder: Path) -> list[np.ndarray]:
    """The hidden states of each utterance that are not padding, read frame by frame."""
    found = []
    with Features.open(folder / "cache" / PADDED["ssl"], SPEAKERS) as features:
        for u in ROWS:
            shard, first, count = features.rows(u.utterance)
            segments = features.gather(np.full(count, shard), np.arange(first, first + count)).astype(
                np.float64
            )
            valid = features.shards[shard].valid_frames[first : first + count]
            found.append(np.concatenate([segment[:n] for segment, n in zip(segments, valid, strict=True)]))
    return found


def test_majority_is_the_training_speakers_most_frequent_class(run: Path) -> None:
    for fold in make_folds(ROWS, "strict", short(run, "x").config.train):
        count = Counter(u.emotion for u in ROWS if u.speaker in fold.train)
        most = max(CLASSES, key=lambda name: (count[name], -CLASSES.index(name)))
        assert {row["prediction"] for row in predictions(run, "majority", fold.id)} == {most}


def test_svm_is_scikit_learns_on_mean_hidden_states(run: Path) -> None:
    """Means over valid frames read frame by frame, scaled over training speakers, C of the best validation score."""
    x = [frames.mean(axis=0) for frames in valid_frames(run)]
    values, labels = np.array(x), np.array([u.emotion for u in ROWS])
    speakers = np.array([u.speaker for u in ROWS])
    for fold in make_folds(ROWS, "strict", short(run, "x").config.train):
        train, validation, test = (
            np.isin(speakers, names) for names in (fold.train, fold.validation, fold.test)
        )
        scaled = StandardScaler().fit(values[train]).transform(values)
        machines = [classifier("svm", c).fit(scaled[train], labels[train]) for c in CANDIDATES["svm"]]
        right = [machine.score(scaled[validation], labels[validation]) for machine in machines]
        # Every validation speaker has each class once, so WA is UA.
        best = machines[int(np.argmax(right))]
        expected = best.predict(scaled[test]).tolist()
        assert [row["prediction"] for row in predictions(run, "svm", fold.id)] == expected


VARIANTS = """
[base]
recipe = { tail = "pad" }
ssl = "hubert"
set = { "model.inputs" = "ssl" }
[[row]]
name = "svm"
kind = "svm"
set = { "model.pooling" = "statistics", "train.refit" = true, "train.ssl_norm" = "speaker" }
[[row]]
name = "logistic"
kind = "logistic"
set = { "model.pooling" = "statistics", "train.refit" = true, "train.ssl_norm" = "speaker" }
"""


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_statistics_refit_and_speaker_normalisation_are_what_they_say(tmp_path: Path, kind: str) -> None:
    """Recomputed from the frames: z-scores per speaker, mean and deviation, C on validation, then refitted."""
    make_corpus(tmp_path)
    grid = write_grid(tmp_path / "grid.toml", VARIANTS)
    folds = ("s0", "s3")
    wanted = short(tmp_path, "x", folds=folds)
    results = ablate(replace(wanted, config=with_settings(wanted.config, grid.base.settings)), grid, [kind])
    row = results["rows"][kind]
    assert row["transductive"]
    assert row["title"].endswith("(transductive)")
    frames = valid_frames(tmp_path)
    speakers, labels = np.array([u.speaker for u in ROWS]), np.array([u.emotion for u in ROWS])
    x = []
    for i, own in enumerate(frames):
        speaker = np.concatenate([frames[j] for j in np.flatnonzero(speakers == speakers[i])])
        scaled = (own - speaker.mean(axis=0)) / speaker.std(axis=0)
        x.append(np.concatenate([scaled.mean(axis=0), scaled.std(axis=0)]))
    values = np.array(x)
    for fold in make_folds(ROWS, "strict", wanted.config.train):
        if fold.id not in folds:
            continue
        train, validation, test = (
            np.isin(speakers, names) for names in (fold.train, fold.validation, fold.test)
        )
        scaler = StandardScaler().fit(values[train])
        right = [
            classifier(kind, c)
            .fit(scaler.transform(values[train]), labels[train])
            .score(scaler.transform(values[validation]), labels[validation])
            for c in CANDIDATES[kind]
        ]
        both, best = train | validation, CANDIDATES[kind][int(np.argmax(right))]
        scaler = StandardScaler().fit(values[both])
        final = classifier(kind, best).fit(scaler.transform(values[both]), labels[both])
        found = predictions(tmp_path, kind, fold.id)
        assert [r["prediction"] for r in found] == final.predict(scaler.transform(values[test])).tolist()
        if kind == "logistic":
            expected = final.predict_log_proba(scaler.transform(values[test]))
            stored = [[float(r[f"logp_{name}"]) for name in final.classes_] for r in found]
            np.testing.assert_allclose(stored, expected, atol=1e-4)


def classifier(kind: str, c: float) -> SVC | LogisticRegression:
    if kind == "logistic":
        return LogisticRegression(C=c, max_iter=2000)
    # Of classes with equal votes the one with the larger margins, not the first.
    return SVC(C=c, kernel="linear", class_weight="balanced", break_ties=True)


def test_it_learns_the_patterns_and_knows_no_torch(run: Path) -> None:
    import ast
    import json

    from mfhca_train.training import classical

    results = json.loads((run / "runs/x/results.json").read_text())["rows"]
    assert results["svm"]["wa"]["mean"] > 0.6 > 0.3 > results["majority"]["wa"]["mean"]
    assert results["svm"]["parameters"] == len(CLASSES) * (len(CLASSES) - 1) // 2 * (32 + 1)
    assert results["svm"]["n_utterances"] == len(ROWS)
    assert classical.__file__
    names = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(Path(classical.__file__).read_text()))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "torch" not in names


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    make_corpus(tmp_path)
    (tmp_path / "runs/x/majority/seed-0").mkdir(parents=True)
    (tmp_path / f"runs/x/majority/seed-0/.fold-{SPEAKERS[0]}.partial").touch()
    with pytest.raises(MfhcaError, match=r"partial: cannot be written \(File exists\)"):
        ablate(short(tmp_path, "x", folds=()), write_grid(tmp_path / "grid.toml", GRID))
