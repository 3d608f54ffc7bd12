"""mfhca_cache.corpora.folder: every file is walked once and counted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from audio_factory import write_audio
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan as corpora
from mfhca_cache.corpora.class_folders import scan
from mfhca_cache.corpora.folder import Scan, walk

SPEAKER = r"([a-z]+)_\d+"


def write_corpus(root: Path) -> None:
    """Three speakers, two classes, in three formats."""
    for name in (
        "happy/anna_01.wav",
        "happy/bert_01.flac",
        "sad/anna_01.wav",
        "sad/bert_02.ogg",
        "sad/cleo_01.wav",
    ):
        write_audio(root / name, name, 0.05)


@given(
    st.dictionaries(
        st.text("abc ", min_size=1), st.lists(st.text("xy./", min_size=1), min_size=1), max_size=5
    )
)
def test_file_counts_add_up(ignored: dict[str, list[str]]) -> None:
    line = Scan((), ignored).file_counts().splitlines()[0]
    numbers = [int(word) for word in line.split() if word.isdigit()]
    total = sum(map(len, ignored.values()))
    assert numbers[0] == 0
    assert sorted(numbers[1:]) == sorted([total, *map(len, ignored.values())] if ignored else [])


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    write_corpus(tmp_path / "store")
    root = tmp_path / "mine"
    root.mkdir()
    (root / "happy").symlink_to(tmp_path / "store" / "happy")
    (root / "joy").symlink_to(tmp_path / "store" / "happy")
    (tmp_path / "store" / "happy" / "again").symlink_to(root)
    found = scan(root, re.compile(SPEAKER))
    assert [u.path for u in found.utterances] == ["happy/anna_01.wav", "happy/bert_01.flac"]
    assert found.ignored == {"folders already visited through another link": ["happy/again", "joy"]}


def test_a_folder_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MfhcaError, match=r"file: not a readable folder \(Not a directory\); check --root"):
        list(walk(tmp_path / "file", {}, tmp_path))


def test_all_pointers_of_git_lfs_are_one_problem(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"100{number}_MTI_SAD_XX.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    (problem,) = corpora.scan("crema-d", tmp_path).problems
    assert problem == (
        "5 files are pointers of git-lfs, without audio (1001_MTI_SAD_XX.wav, 1002_MTI_SAD_XX.wav, "
        "1003_MTI_SAD_XX.wav and 2 more); `git lfs pull` downloads the audio"
    )


def test_pointers_of_git_lfs_are_told_from_broken_audio(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:27\nsize 82260\n"
    (tmp_path / "1076_MTI_SAD_XX.wav").write_text(pointer)
    with pytest.raises(
        MfhcaError,
        match=r"1 file is a pointer of git-lfs, without audio \(1076_MTI_SAD_XX.wav\); `git lfs pull`",
    ):
        corpora.build("crema-d", tmp_path, tmp_path / "x.csv")
