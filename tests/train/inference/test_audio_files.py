"""Which files are meant."""

from __future__ import annotations

import os
from pathlib import Path

from mfhca_train.inference.audio_files import find_audio


def test_folders_are_searched_and_what_is_skipped_is_counted(tmp_path: Path) -> None:
    for name in (
        "b.wav",
        "a.FLAC",
        "sub/c.ogg",
        ".hidden.wav",
        ".git/d.wav",
        "notes.txt",
        "README",
        "sub/e.TXT",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")  # reading it would wait for ever
    found = find_audio([tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == ["a.FLAC", "b.wav", "sub/c.ogg"]
    assert found.skipped == "2 hidden and 4 without an audio suffix (no suffix 1, .txt 2, .wav 1)"
    assert not found.unreadable


def test_named_files_are_kept_whatever_they_are_called_and_once(tmp_path: Path) -> None:
    (tmp_path / "odd.dat").touch()
    (tmp_path / "a.wav").touch()
    named = [
        tmp_path / "odd.dat",
        tmp_path / "gone",
        tmp_path / "a.wav",
        tmp_path,
        tmp_path / "sub/../odd.dat",
    ]
    found = find_audio(named)
    assert found.paths == [tmp_path / "odd.dat", tmp_path / "gone", tmp_path / "a.wav"]
    assert found.skipped == "1 without an audio suffix (.dat 1)"
    assert find_audio([]).skipped == ""


def test_a_named_folder_without_audio_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("empty/notes.txt", "other/a.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    folders = [tmp_path / "empty", tmp_path / "other"]
    assert find_audio(folders).unreadable == {str(folders[0]): f"{folders[0]}: no audio files in this folder"}
    assert find_audio([*folders[1:], *folders[1:], tmp_path]).unreadable == {}
    assert find_audio(folders[:1]).paths == []


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "gone.wav")
    assert [path.name for path in find_audio([tmp_path]).paths] == ["a.wav", "dangling.wav"]
