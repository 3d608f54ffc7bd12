"""A run is logged, leaves nothing when it fails before it trains, and changes nothing when it is finished."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus_factory import (
    request,
)
from cv_factory import cv_command, fails
from run_factory import tree

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_train.runs import execute
from mfhca_train.runs.crossval import cross_validate


def test_a_run_with_nothing_to_do_changes_no_byte(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    before = tree(tmp_path / "x/run")
    cross_validate(request(tmp_path / "x", seeds=(0, 1)))
    assert tree(tmp_path / "x/run") == before


def test_a_file_in_place_of_the_run_folder_is_named(tmp_path: Path) -> None:
    request(tmp_path)
    (tmp_path / "run").write_text("")
    fails(cv_command(tmp_path), "run", "cannot be written")


def test_two_runs_of_the_same_folder_at_once_are_refused(tmp_path: Path) -> None:
    request(tmp_path)
    with lock(tmp_path / "run/.lock", "x"):
        fails(cv_command(tmp_path), "this run is in use by another process")


def test_the_folder_of_a_run_that_began_at_the_same_moment_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def begun_by_another(path: Path, purpose: str) -> Iterator[None]:
        with lock(path, "the other run"), lock(path, purpose):
            yield

    request(tmp_path)
    monkeypatch.setattr(execute, "lock", begun_by_another)
    fails(cv_command(tmp_path), "this run is in use by another process")
    assert (tmp_path / "run/.lock").exists()


def test_a_run_that_failed_before_training_does_not_hold_its_folder(tmp_path: Path) -> None:
    request(tmp_path)
    fails(cv_command(tmp_path, "--set", "model.grf_channels=7,8"), "must be even")
    assert cv_command(tmp_path, "--fold", "s0").exit_code == 0


def test_the_log_tells_phases_epochs_and_the_machine_and_goes_on_in_the_same_file(tmp_path: Path) -> None:
    request(tmp_path)
    assert cv_command(tmp_path, "--fold", "s0").exit_code == 0
    first = (tmp_path / "run/log.txt").read_text()
    for words in (
        r"started: main cv .*--fold s0",
        r"reading .*corpus\.csv and making folds: \d",
        r"opening the features: \d",
        r"versions: python .*torch .*scikit-learn",
        r"machine: .* cores",
        r"device: cpu",
        r"verifying the shards: \d",
        r"model/seed-0/fold-s0 epoch 3: \d+\.\d\d s \(training \d+\.\d\d s, \d+\.\d segments/s\), loss ",
        r"fold s0 seed 0: done in \d",
        r"results\.json: \d",
        r"report\.html: \d",
    ):
        assert len(re.findall(words, first)) == 1, words
    assert cv_command(tmp_path, "--fold", "s1").exit_code == 0
    both = (tmp_path / "run/log.txt").read_text()
    assert both.startswith(first)
    assert "fold-s1 epoch 3" in both


def test_a_bug_in_the_middle_of_a_run_is_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no fault of the user")

    request(tmp_path)
    monkeypatch.setattr("mfhca_train.data.corpus.Corpus.expect_unchanged", broken)
    result = cv_command(tmp_path, "--fold", "s0")
    assert result.exit_code == 1
    assert f"traceback, which is in {tmp_path / 'run/log.txt'}" in result.stderr
    assert "Traceback" not in result.output
    log = (tmp_path / "run/log.txt").read_text()
    assert re.search(r"Traceback[\s\S]*in run_unit[\s\S]*ZeroDivisionError: no fault of the user", log)


def test_a_run_that_fails_before_its_first_unit_leaves_no_folder(tmp_path: Path) -> None:
    wanted = request(tmp_path, folds=("s0",))
    shard = next((tmp_path / "cache").glob("*/s2.h5"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-8])
    with pytest.raises(MfhcaError, match=r"s2\.h5"):
        cross_validate(wanted)
    assert not wanted.out.exists()
    wanted.out.mkdir()
    with pytest.raises(MfhcaError, match=r"s2\.h5"):
        cross_validate(wanted)
    assert wanted.out.exists()  # it was there before
