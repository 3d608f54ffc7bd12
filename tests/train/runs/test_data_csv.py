"""data.csv lists what each utterance was."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_factory import (
    utterances,
)
from cv_factory import cv_command
from grid_factory import ROWS, SMALL_GRID, copy_of, short, write_grid

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import sha256_text
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.results.checksums import read_sealed
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


def test_genders_and_lengths_that_were_edited_after_the_run_are_warned_of(
    finished: Path, tmp_path: Path
) -> None:
    """They decide no network of this protocol, but the tables of scores by gender and by duration."""
    folder = Path(shutil.copytree(finished, tmp_path / "x"))
    assert "has changed since the run began" not in cv_command(folder, "--no-analysis").output
    long, *others = utterances()
    rows = [replace(u, gender="x") if u.speaker == "s1" else u for u in others]
    write_manifest(folder / "corpus.csv", [replace(long, samples=160_000), *rows])
    result = cv_command(folder, "--no-analysis")
    assert "(7 differences, the first: utterance s0_0 (s0_0.wav): samples 32000 in" in result.output
    assert "data.csv: the manifest has changed since the run began" in result.output
    breakdown = read_sealed(folder / "run/results.json")["breakdown"]
    assert "x" in breakdown["gender"]
    assert "over 6 s" in breakdown["duration"]


def test_data_csv_says_what_each_utterance_was(finished: Path) -> None:
    with open(finished / "run/data.csv", newline="") as file:
        found = {row["utterance"]: row for row in csv.DictReader(file)}
    for u in utterances():
        row = found.pop(u.utterance)
        assert (row["speaker"], row["class"], row["gender"]) == (u.speaker, u.emotion, u.gender)
        assert (row["samples"], row["sample_rate"]) == (str(u.samples), str(u.sample_rate))
        assert row["audio_sha256"] == sha256_text(f"{u.utterance}/0/False")
    assert not found
