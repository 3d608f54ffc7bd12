"""The folder of a unit is complete or absent, and only one process makes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_factory import utterances
from unit_factory import train_fold

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_train.results.schema import RESULT_FILE
from mfhca_train.training import unit
from mfhca_train.training.unit import working_folder


def test_two_processes_do_not_train_the_same_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "LOCK_PATIENCE_SECONDS", 0.05)
    with (
        lock(tmp_path / ".unit.lock", "x"),
        pytest.raises(MfhcaError, match="in use by another process"),
    ):
        train_fold(tmp_path, utterances())


def test_a_unit_s_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "seed-0" / "fold-a"
    with working_folder(folder) as work:
        assert work is not None
        (work / RESULT_FILE).write_text("{}")
        assert not folder.exists()
    assert (folder / RESULT_FILE).read_text() == "{}"
    assert not work.exists()
    with working_folder(folder) as work:  # finished: nothing to make
        assert work is None
    assert (folder / RESULT_FILE).read_text() == "{}"


@pytest.mark.parametrize("resume", [False, True])
def test_only_a_unit_that_resumes_keeps_its_unfinished_files(tmp_path: Path, resume: bool) -> None:
    folder = tmp_path / "fold-a"
    work = folder.with_name(".fold-a.partial")

    def stop() -> None:
        with working_folder(folder, resume):
            (work / "history.csv").touch()
            raise ZeroDivisionError("stopped")

    with pytest.raises(ZeroDivisionError, match="stopped"):
        stop()
    assert not folder.exists()
    assert work.exists() == resume
    work.mkdir(exist_ok=True)
    (work / "left").touch()  # by a process that was killed
    with working_folder(folder, resume):
        assert (work / "left").exists() == resume
        (work / RESULT_FILE).touch()
    assert (folder / "left").exists() == (folder / "history.csv").exists() == resume


def test_a_folder_in_the_way_of_a_unit_is_named_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "fold-a"
    folder.mkdir()
    (folder / "notes.txt").touch()
    with (
        pytest.raises(MfhcaError, match=r"fold-a: is in the way \(.+\); remove it and run again"),
        working_folder(folder),
    ):
        pass
    assert (folder / "notes.txt").exists()
