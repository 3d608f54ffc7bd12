"""The folds and seeds that results are made from are those asked for and all others that are complete."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_factory import utterances

from mfhca_train.config.settings import Config
from mfhca_train.data.folds import make_folds
from mfhca_train.results.schema import RESULT_FILE, unit_folder
from mfhca_train.runs.finished import finished_folders, finished_seeds
from mfhca_train.runs.plan import Row

FOLDS = make_folds(utterances(), "strict", Config().train)  # s0, s1, s2, s3


def row(asked: str, *seeds: int) -> Row:
    chosen = tuple(fold for fold in FOLDS if fold.id in asked.split())
    return Row("row", Config(), "strict", seeds, FOLDS, chosen, {})


def make(out: Path, seed: int, *folds: str) -> None:
    for fold in folds:
        folder = unit_folder(out, "row", seed, fold)
        folder.mkdir(parents=True)
        (folder / RESULT_FILE).touch()


@pytest.mark.parametrize(
    ("asked", "seeds", "folds", "used"),
    [
        ("s1", (0,), "s0 s1 s2", (0,)),  # what is finished of seed 0; seed 1 lacks s2
        ("s0", (1,), "s0 s1", (0, 1)),
        ("s0", (0, 1), "s0 s1", (0, 1)),  # s2 is finished with one of the two seeds
        ("s0 s3", (0,), "s0 s1 s2 s3", (0,)),  # s3 is trained now
    ],
)
def test_results_use_every_complete_fold_and_seed(
    tmp_path: Path, asked: str, seeds: tuple[int, ...], folds: str, used: tuple[int, ...]
) -> None:
    make(tmp_path, 0, "s0", "s1", "s2")
    make(tmp_path, 1, "s0", "s1")
    expected = [unit_folder(tmp_path, "row", seed, fold) for seed in used for fold in folds.split()]
    assert finished_folders(tmp_path, row(asked, *seeds)) == expected


def test_a_seed_is_finished_with_its_last_fold(tmp_path: Path) -> None:
    make(tmp_path, 10, "s0", "s1")
    make(tmp_path, 2, "s0")
    (tmp_path / "row/seed-x").mkdir()
    unit_folder(tmp_path, "row", 2, "s1").mkdir()  # without a result
    assert finished_seeds(tmp_path, row("s0")) == (2, 10)
    assert finished_seeds(tmp_path, row("s0 s1")) == (10,)
    assert finished_seeds(tmp_path, row("s0"), FOLDS) == ()
    assert finished_seeds(tmp_path / "none", row("s0")) == ()
