"""The part file: whatever is left of it, only whole utterances come back."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.store import journal
from mfhca_cache.store.journal import Part
from mfhca_cache.store.schema import Origin

ROW = 8
HEADER = {"format": "mfhca-part", "key": "k"}
ROWS = {"a": b"A" * ROW * 2, "b": b"", "ü": b"C" * ROW, "d": b"D" * ROW * 3}


def add(part: Part, name: str, data: bytes) -> None:
    part.add(
        name,
        Origin(f"audio of {name}", f"{name}.wav", 0.5, None),
        memoryview(data),
        (1,) * (len(data) // ROW),
    )


def contents(part: Part) -> dict[str, bytes]:
    return {name: b"".join(part.read(entry)) for name, entry in part.entries.items()}


@pytest.fixture(autouse=True)
def _two_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less, exactly as much and more than the utterances of `ROWS` have."""
    monkeypatch.setattr(journal, "READ_BYTES", 2 * ROW)


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    stem = tmp_path / ".03.h5"
    part = Part(stem, HEADER, ROW)
    for name, data in ROWS.items():
        add(part, name, data)
    part.flush()
    part.close()
    return stem


def reopened(stem: Path, header: dict = HEADER) -> dict[str, bytes]:
    part = Part(stem, header, ROW)
    found = contents(part)
    part.close()
    return found


def test_goes_on_where_it_was(stem: Path) -> None:
    assert reopened(stem) == ROWS
    part = Part(stem, HEADER, ROW)
    add(part, "e", b"E" * ROW)
    assert part.pending_bytes == ROW
    assert "e" not in part.entries
    part.flush()
    assert part.pending_bytes == 0
    part.close()
    assert reopened(stem) == ROWS | {"e": b"E" * ROW}


def test_what_was_not_flushed_is_gone(stem: Path) -> None:
    part = Part(stem, HEADER, ROW)
    add(part, "e", b"E" * ROW)
    part.close()
    assert reopened(stem) == ROWS
    assert Path(f"{stem}.rows").stat().st_size == ROW * 6


def test_later_rows_replace_earlier_ones(stem: Path) -> None:
    part = Part(stem, HEADER, ROW)
    add(part, "a", b"N" * ROW)
    part.flush()
    part.close()
    assert reopened(stem) == ROWS | {"a": b"N" * ROW}


def test_pieces_make_one_utterance_that_counts_when_the_last_is_added(stem: Path) -> None:
    pieces = [b"1" * ROW, b"2" * ROW * 2, b"3" * ROW]
    origin = Origin("audio of e", "e.wav")
    part = Part(stem, HEADER, ROW)
    for first, data in ((0, pieces[0]), (1, pieces[1])):  # it is given up, as when its audio ends in an error
        part.add("given up", None, memoryview(data), (1,) * (len(data) // ROW), first)
    for last in (None, origin):
        part.flush()
        assert part.pending_bytes == 0
        assert set(part.entries) == set(ROWS)
        for first, data, end in zip((0, 1, 3), pieces, (None, None, last), strict=True):
            part.add("e", end, memoryview(data), (first,) * (len(data) // ROW), first)
    part.flush()
    assert (part.entries["e"].origin, part.entries["e"].valid_frames) == (origin, (0, 1, 1, 3))
    part.close()
    assert reopened(stem) == ROWS | {"e": b"".join(pieces)}


@pytest.mark.parametrize("killed", [False, True])
def test_pieces_of_an_unfinished_utterance_are_gone(stem: Path, killed: bool) -> None:
    rows = Path(f"{stem}.rows")
    part = Part(stem, HEADER, ROW)
    part.add("e", None, memoryview(b"E" * ROW), (1,))
    part.flush()
    if killed:
        assert rows.stat().st_size == ROW * 7
        assert reopened(stem) == ROWS
    part.close()
    assert rows.stat().st_size == ROW * 6
    assert reopened(stem) == ROWS


def test_rows_stay_if_the_journal_cannot_be_opened(stem: Path) -> None:
    lines = Path(f"{stem}.journal")
    lines.rename(f"{stem}.aside")
    lines.mkdir()
    with pytest.raises(IsADirectoryError, match="journal"):
        Part(stem, HEADER, ROW)
    lines.rmdir()
    Path(f"{stem}.aside").rename(lines)
    assert reopened(stem) == ROWS


@pytest.mark.parametrize(("name", "first"), [("e", 2), ("e", 3), ("f", 1)])
def test_a_piece_must_follow_the_one_before(stem: Path, name: str, first: int) -> None:
    part = Part(stem, HEADER, ROW)
    with pytest.raises(ValueError, match="row 1 does not follow None"):
        part.add("e", None, memoryview(b"E" * ROW), (1,), 1)
    part.add("e", None, memoryview(b"E" * ROW), (1,))
    with pytest.raises(ValueError, match=f"{name}: row {first} does not follow Entry"):
        part.add(name, None, memoryview(b"E" * ROW), (1,), first)
    part.close()


def test_other_header_starts_anew(stem: Path) -> None:
    assert reopened(stem, {**HEADER, "key": "K"}) == {}
    assert reopened(stem) == {}


def test_journal_cut_or_damaged_anywhere_never_lies(stem: Path) -> None:
    lines_file, rows = Path(f"{stem}.journal"), Path(f"{stem}.rows")
    lines, data = lines_file.read_bytes(), rows.read_bytes()
    generator = random.Random(0)
    for position in range(0, len(lines), 3):
        torn = lines[:position] + generator.choice(
            [b"", bytes(5), b"\n", bytes([lines[position] ^ 4]) + lines[position + 1 :]]
        )
        lines_file.write_bytes(torn)
        rows.write_bytes(data + b"torn")
        part = Part(stem, HEADER, ROW)
        found = contents(part)
        assert found == {name: ROWS[name] for name in list(ROWS)[: len(found)]}
        add(part, "late", b"L" * ROW)
        part.flush()
        part.close()
        assert reopened(stem) == found | {"late": b"L" * ROW}


def test_what_follows_a_damaged_line_does_not_come_back(stem: Path) -> None:
    file = Path(f"{stem}.journal")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], b"?" * (len(lines[1]) - 1) + b"\n", *lines[2:]]))
    assert reopened(stem) == {}
    assert file.read_bytes() == lines[0]


def test_rows_are_on_disk_before_the_journal_says_so(stem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def recorded(name: str) -> None:
        real = getattr(os, name)

        def call(descriptor: int, *arguments: object) -> object:
            file = Path(f"/proc/self/fd/{descriptor}").readlink().suffix
            events.append(f"{name} {file}")
            return real(descriptor, *arguments)

        monkeypatch.setattr(os, name, call)

    part = Part(stem, HEADER, ROW)
    recorded("pwrite")
    recorded("fsync")
    add(part, "e", b"E" * ROW)
    part.flush()
    part.close()
    assert events == ["pwrite .rows", "fsync .rows", "pwrite .journal", "fsync .journal"]


def test_rows_cut_or_damaged_anywhere_are_not_done(stem: Path) -> None:
    rows = Path(f"{stem}.rows")
    data = rows.read_bytes()
    for position in range(len(data)):
        for damaged in (data[:position], data[:position] + b"?" + data[position + 1 :]):
            rows.write_bytes(damaged)
            found = reopened(stem)
            assert found.items() < ROWS.items()
            assert "b" in found
    rows.write_bytes(data)
    assert reopened(stem) == ROWS


def test_rows_damaged_while_open_are_named(stem: Path) -> None:
    part = Part(stem, HEADER, ROW)
    Path(f"{stem}.rows").write_bytes(b"?" * ROW * 6)
    with pytest.raises(MfhcaError, match="the rows of utterance a are damaged; run the same command again"):
        list(part.read(part.entries["a"]))
    part.close()


def test_discard_leaves_nothing(stem: Path) -> None:
    part = Part(stem, HEADER, ROW)
    part.discard()
    assert part.entries == {}
    assert list(stem.parent.iterdir()) == []
