"""data.csv lists what each utterance was."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_factory import (
    utterances,
)
from grid_factory import ROWS, SMALL_GRID, copy_of, short, write_grid

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import sha256_text
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.runs.ablation import ablate


def test_a_new_row_after_an_edited_label_is_refused(corpus: Path, tmp_path: Path) -> None:
    """Otherwise it would be compared with a row that was scored on other labels."""
    folder, grid = copy_of(corpus, tmp_path / "x"), write_grid(tmp_path / "small.toml", SMALL_GRID)
    ablate(short(folder, "run"), grid, names=["svm"])
    path = folder / "corpus.csv"
    write_manifest(path, [replace(u, fold="dev") if u.utterance == "s3_0" else u for u in ROWS])
    with pytest.raises(
        MfhcaError, match=r"its rows svm have other[^$]*s3_0 .*fold none in that run, dev now"
    ):
        ablate(short(folder, "run"), grid, names=["b"])
    write_manifest(path, [replace(u, emotion="joy") if u.utterance == "s3_0" else u for u in ROWS])
    with pytest.raises(
        MfhcaError, match=r"its rows svm have other labels[^$]*s3_0 .*class anger in that run, joy now"
    ):
        ablate(short(folder, "run"), grid, names=["b"])
    (folder / "runs/run/data.csv").unlink()
    with pytest.raises(MfhcaError, match="label_digest of row svm"):
        ablate(short(folder, "run"), grid, names=["b"])
    assert not (folder / "runs/run/b").exists()


def test_data_csv_says_what_each_utterance_was(finished: Path) -> None:
    with open(finished / "run/data.csv", newline="") as file:
        found = {row["utterance"]: row for row in csv.DictReader(file)}
    for u in utterances():
        row = found.pop(u.utterance)
        assert (row["speaker"], row["class"], row["gender"]) == (u.speaker, u.emotion, u.gender)
        assert row["audio_sha256"] == sha256_text(f"{u.utterance}/0/False")
    assert not found
