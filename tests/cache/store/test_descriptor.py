"""Reading by a descriptor: complete or an error of one line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.store import descriptor as module
from mfhca_cache.store.descriptor import file_stat, hash_span, open_file, read_exactly

DATA = bytes(range(256)) * 11


@pytest.fixture
def file(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "x.h5"
    path.write_bytes(DATA)
    descriptor = open_file(path)
    yield descriptor, path
    os.close(descriptor)


@pytest.mark.parametrize("chunk", [1 << 20, 100, 7])
def test_a_span_is_hashed_whatever_the_chunks(
    file: tuple[int, Path], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    digest = hashlib.sha256()
    hash_span(digest, file[0], 13, 2001, file[1])
    assert digest.digest() == hashlib.sha256(DATA[13:2001]).digest()


def test_short_reads_are_continued(file: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: whole(fd, [views[0][:5]], at))
    buffer = bytearray(100)
    read_exactly(file[0], memoryview(buffer), 50, file[1])
    assert buffer == DATA[50:150]


def test_a_file_that_is_too_short_is_named_with_the_missing_bytes(file: tuple[int, Path]) -> None:
    with pytest.raises(MfhcaError, match=rf"x\.h5: truncated: ends at byte {len(DATA)}, 6 bytes are missing"):
        read_exactly(file[0], memoryview(bytearray(16)), len(DATA) - 10, file[1])


def test_a_replaced_file_has_another_stat(file: tuple[int, Path], tmp_path: Path) -> None:
    before = file_stat(file[0])
    (tmp_path / "new").write_bytes(DATA)
    (tmp_path / "new").replace(file[1])
    assert file_stat(file[0])[1:] == before[1:]
    other = open_file(file[1])
    assert file_stat(other) != before
    os.close(other)


def test_what_is_not_a_regular_file_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MfhcaError, match="pipe: not a regular file"):
        open_file(tmp_path / "pipe")
    with pytest.raises(MfhcaError, match="gone: no such file; run `mfhca-cache features`"):
        open_file(tmp_path / "gone")
