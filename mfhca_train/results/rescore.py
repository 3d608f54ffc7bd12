"""Scores of a finished run with other ways of pooling segments, from its segments.csv; nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.columns import Column, fitted
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.typed import plain
from mfhca_train.results.checksums import identity_digest, read_rows
from mfhca_train.results.metrics import Array, confusion_matrix, mean_over_segments, scores
from mfhca_train.results.record import read_compared
from mfhca_train.results.schema import SCORES, unit_folder
from mfhca_train.results.summary import UnitFiles, head, percent, read_units, summarise

POOLINGS = {
    "mean": "mean of the segments' log-probabilities (what cv does)",
    "duration": "the same, weighted by each segment's real frames",
    "majority": "each segment has one vote; ties by the mean",
    "maximum": "the most confident segment decides",
}
MEAN, POOLED = "mean ± sd", "pooled"  # titles of the columns


def rescore(run: Path, pooling: str) -> dict[str, dict[str, Any]]:
    """The scores of a run with another pooling of segments.

    Args:
        run: the folder of a finished `cv` run or ablation.
        pooling: a key of POOLINGS.

    Returns:
        For each row what results.json holds, without breakdowns.

    Raises:
        MfhcaError: the run is not finished, or a file is missing, damaged or of another run.
    """
    run_file, results = read_compared(run)
    found = {}
    for name, row in results.rows.items():
        folders = [unit_folder(run, name, fold.seed, fold.id) for fold in row.folds]
        units = read_units(folders, identity_digest(run_file.rows[name]), row.classes)
        files = [
            _rescored(folder, unit, row.classes, pooling) for folder, unit in zip(folders, units, strict=True)
        ]
        n_folds = row.n_folds if row.complete else row.n_folds + 1
        summary = summarise(files, None, row.classes, row.protocol, n_folds)
        if pooling != "mean":  # both come from the means in predictions.csv
            summary.pop("ensemble", None)
        summary.pop("calibration")
        found[name] = head(plain(row)) | summary
    return found


def _rescored(folder: Path, unit: UnitFiles, classes: Sequence[str], pooling: str) -> UnitFiles:
    """A unit with its utterances scored again."""
    order = {row["utterance"]: i for i, row in enumerate(unit.predictions)}
    utterance, frames, outputs = _segments(folder, order, classes)
    counts = np.bincount(utterance, minlength=len(order))
    if not counts.all():
        raise MfhcaError(f"{folder}/segments.csv: lacks utterances; delete {folder} and run again")
    guess = _pool(pooling, utterance, frames, outputs, len(order)).argmax(axis=1)
    index = {name: k for k, name in enumerate(classes)}
    truth = np.array([index[row["label"]] for row in unit.predictions], np.int64)
    confusion = confusion_matrix(truth, guess, len(classes))
    rescored = scores(confusion)
    result = {
        **unit.result,
        "confusion": confusion.tolist(),
        **{name: getattr(rescored, name) for name in SCORES},
    }
    rows = [{**row, "prediction": classes[int(k)]} for row, k in zip(unit.predictions, guess, strict=True)]
    return UnitFiles(result, rows)


def _segments(folder: Path, order: Mapping[str, int], classes: Sequence[str]) -> tuple[Array, Array, Array]:
    """(N,) utterance, (N,) real frames, (N, K) log-probabilities of a unit's segments."""
    path = folder / "segments.csv"
    try:
        rows = read_rows(path)
        utterance = np.array([order[row["utterance"]] for row in rows], np.int64)
        frames = np.array([int(row["valid_frames"]) for row in rows], np.float64)
        outputs = np.array([[float(row[f"logp_{name}"]) for name in classes] for row in rows], np.float64)
    except (KeyError, ValueError, OverflowError) as error:
        raise MfhcaError(f"{path}: cannot be read ({error}); delete {folder} and run again") from error
    return utterance, frames, outputs.reshape(-1, len(classes))


def _pool(pooling: str, utterance: Array, frames: Array, outputs: Array, count: int) -> Array:
    """(U, K) whose largest entry is the prediction."""
    mean = mean_over_segments(outputs, utterance, count)
    if pooling == "mean":
        return mean
    sums = np.zeros(mean.shape)
    if pooling == "duration":
        weights = np.maximum(frames, 1)[:, None]
        np.add.at(sums, utterance, outputs * weights)
        return sums
    if pooling == "maximum":
        sums[:] = -np.inf
        np.maximum.at(sums, utterance, outputs)
        return sums
    votes = np.zeros(sums.shape, np.int64)
    np.add.at(votes, (utterance, outputs.argmax(axis=1)), 1)
    return np.where(votes == votes.max(axis=1, keepdims=True), mean, -np.inf)


def table(found: Mapping[str, Mapping[str, Mapping[str, Any]]], width: int | None) -> list[str]:
    """All poolings of all rows as lines of text; a row of an ablation has its name above its poolings.

    Args:
        found: pooling -> row -> scores, from `rescore`.
        width: characters per line; None for no limit.
    """
    rows = next(iter(found.values()))
    lines: list[tuple[str, ...]] = []
    for name, first in rows.items():
        lines.append((f"{name} (ORACLE)" if first["oracle"] else name, *[""] * 5))
        for pooling, scored in found.items():
            row = scored[name]
            spread = (f"{percent(row[s]['mean'])} ± {percent(row[s]['std']).strip()}" for s in ("wa", "ua"))
            pooled = (percent(row[s]["pooled"]) for s in SCORES)
            lines.append((f"  {pooling}", *spread, *pooled))
    names, *columns = zip(*lines, strict=True)
    heads = (("WA", MEAN, 1), ("UA", MEAN, 0), ("WA", POOLED, 3), ("UA", POOLED, 2), ("F1", POOLED, 4))
    wanted = [Column("row", names, left=True)]
    for (name, group, rank), cells in zip(heads, columns, strict=True):
        wanted.append(Column(name, cells, rank, group))
    return fitted(wanted, width)
