"""Which units of a row are finished: the folds and seeds that its results are made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfhca_train.data.folds import Fold
from mfhca_train.results.schema import RESULT_FILE, unit_folder
from mfhca_train.runs.plan import Row


def finished_folders(out: Path, row: Row) -> list[Path]:
    """Folders of the finished units of a row: with those asked for, all other folds and seeds that are complete."""
    names = {fold.id for fold in row.selected_folds}
    folds = [
        fold
        for fold in row.folds
        if fold.id in names or all(_is_finished(out, row, seed, fold) for seed in row.seeds)
    ]
    seeds = sorted({*finished_seeds(out, row, folds), *row.seeds})
    return [unit_folder(out, row.name, seed, fold.id) for seed in seeds for fold in folds]


def finished_seeds(out: Path, row: Row, folds: Sequence[Fold] | None = None) -> tuple[int, ...]:
    """The seeds of which all these folds are finished; by default the folds asked for."""
    names = [path.name.removeprefix("seed-") for path in (out / row.name).glob("seed-*")]
    folds = row.selected_folds if folds is None else folds
    seeds = sorted(int(name) for name in names if name.isdigit())
    return tuple(seed for seed in seeds if all(_is_finished(out, row, seed, fold) for fold in folds))


def _is_finished(out: Path, row: Row, seed: int, fold: Fold) -> bool:
    return (unit_folder(out, row.name, seed, fold.id) / RESULT_FILE).exists()
