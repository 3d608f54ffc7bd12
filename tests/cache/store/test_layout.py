"""The layout of a shard: a sparse image of the HDF5 file, and features at their own offset."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shard_factory import FRAME_SHAPE, RECIPE, utterance

from mfhca_cache.store import layout
from mfhca_cache.store.shard import read_shard, verify_shard

WRITES = st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=20)))


@given(WRITES, st.integers(0, 90), st.integers(0, 90))
def test_the_image_reads_like_a_file(writes: list[tuple[int, bytes]], start: int, length: int) -> None:
    image, file = layout._Image(), io.BytesIO()
    for offset, data in writes:
        if data:  # a file does not grow by writing nothing after its end
            for each in (image, file):
                each.seek(offset)
                assert each.write(data) == len(data)
    assert image.size == image.seek(0, os.SEEK_END) == len(file.getvalue())
    buffers = bytearray(length), bytearray(length)
    for each, buffer in zip((image, file), buffers, strict=True):
        each.seek(start)
        assert each.readinto(buffer) == min(length, max(0, len(file.getvalue()) - start))
    assert buffers[0] == buffers[1]
    assert image.tell() == file.tell()


def rows_of(name: str, segments: int) -> layout.UtteranceRows:
    utterance_id, origin, values, valid = utterance(name, segments)
    rows = [bytearray(row.tobytes()) for row in values.astype(np.float16)]
    return layout.UtteranceRows(utterance_id, origin, valid.astype(np.int32), lambda: rows)


def assemble(path: Path, rows: list[layout.UtteranceRows]) -> str:
    identity = layout.Identity(RECIPE.key, RECIPE.kind, "03", FRAME_SHAPE, np.dtype(np.float16))
    with open(path, "w+b") as file:
        return layout.assemble(file.fileno(), identity, rows, {})


@pytest.mark.parametrize("lengths", [{"a": 2, "b": 0, "c": 3}, {"a": 0}])
def test_a_shard_holds_the_rows_in_order_with_their_moments(tmp_path: Path, lengths: dict[str, int]) -> None:
    path = tmp_path / "03.h5"
    digest = assemble(path, [rows_of(name, n) for name, n in lengths.items()])
    shard = read_shard(path)
    verify_shard(shard)
    assert shard.digest == digest
    with h5py.File(path) as file:
        stored = file["features"][:]
        moments: Any = {name: table[:] for name, table in file["moments"].items()}
    expected = [utterance(name, n) for name, n in lengths.items()]
    np.testing.assert_array_equal(stored, np.concatenate([u[2] for u in expected]).astype(np.float16))
    for index, (_, _, values, valid) in enumerate(expected):
        frames = np.concatenate(
            [np.empty((0, FRAME_SHAPE[1])), *(v[:n] for v, n in zip(values, valid, strict=True))]
        )
        frames = frames.astype(np.float16).astype(float)
        assert moments["count"][index] == len(frames)
        np.testing.assert_allclose(moments["sum"][index], frames.sum(axis=0), rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(moments["sum_squares"][index], (frames**2).sum(axis=0), rtol=1e-12)
        np.testing.assert_array_equal(moments["minimum"][index], frames.min(axis=0, initial=np.inf))
        np.testing.assert_array_equal(moments["maximum"][index], frames.max(axis=0, initial=-np.inf))


def test_a_disk_without_room_is_refused_before_any_row_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def read() -> list[bytearray]:
        pytest.fail("a row was read")

    _, origin, _, valid = utterance("a", 2)
    rows = layout.UtteranceRows("a", origin, valid.astype(np.int32), read)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        assemble(tmp_path / "03.h5", [rows])
