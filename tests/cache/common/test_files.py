"""Small files are whole or absent, and what killed writers left is removed by the next one."""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import file_name, lock, read_json, write_atomically, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_removes_what_killed_writers_of_the_same_file_left(tmp_path: Path) -> None:
    for name in (".a.json.x1.tmp", ".a.json.y2.tmp", ".b.json.x1.tmp", ".a.json.tmp.txt"):
        (tmp_path / name).write_text("a part")
    write_json(tmp_path / "a.json", [1])
    assert names(tmp_path) == [".a.json.tmp.txt", ".b.json.x1.tmp", "a.json"]
    assert read_json(tmp_path / "a.json") == [1]


def test_a_write_leaves_a_living_writer_alone(tmp_path: Path) -> None:
    other = tmp_path / ".a.json.x1.tmp"
    with open(other, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_json(tmp_path / "a.json", 1)
        assert names(tmp_path) == [other.name, "a.json"]
    write_json(tmp_path / "a.json", 2)
    assert names(tmp_path) == ["a.json"]


def test_writers_of_one_file_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(50):
                write_atomically(tmp_path / "a", text)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter * 1000,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert names(tmp_path) == ["a"]
    assert re.fullmatch(r"(.)\1{999}", (tmp_path / "a").read_text())


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(
        MfhcaError, match=r"a/b: cannot be written \(.+\); free space or choose another folder"
    ):
        write_atomically(tmp_path / "a" / "b", "text")


def test_a_folder_that_is_a_symlink_to_nothing_is_named_with_its_target(tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to(tmp_path / "unmounted")
    expected = (
        rf"^{tmp_path}/cache: a symlink to {tmp_path}/unmounted, and there is no such folder; create it"
    )
    with pytest.raises(MfhcaError, match=expected):
        write_json(tmp_path / "cache/spec-0/recipe.json", {})
    with pytest.raises(MfhcaError, match=expected), lock(tmp_path / "cache/.lock", "the run"):
        pass


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], indirect=True)
def test_modes_of_new_files_follow_the_umask(umask: int, tmp_path: Path) -> None:
    """With umask 002 a group shares a cache: its members can lock and replace each other's files."""
    write_atomically(tmp_path / "a", b"bytes")
    with lock(tmp_path / ".lock", "x"):
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize("name", ["n" * 255, "\u6f22" * 85])
def test_names_of_255_bytes_can_be_written(tmp_path: Path, name: str) -> None:
    for text in ("one", "two"):
        write_atomically(tmp_path / name, text)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "two"


@given(st.lists(st.text(max_size=40), min_size=2, max_size=2, unique=True))
def test_parts_of_file_names_are_short_safe_and_as_different_as_the_names(pair: list[str]) -> None:
    made = [file_name(name, 60) for name in pair]
    assert made[0] != made[1]
    for part, name in zip(made, pair, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9_.~%-]{0,60}", part)
        assert len(part) == 60 or unquote(part) == name
