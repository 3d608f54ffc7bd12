"""One shard: what is written is read; what is damaged, foreign or lying is one line."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_factory import FRAME_SHAPE, audio_digest, flip, open_files, reseal, utterance, write, writer

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.store import schema
from mfhca_cache.store.schema import shard_name
from mfhca_cache.store.shard import Shard, read_shard, verify_shard

LENGTHS = {"u1": 2, "u2": 0, "ü3": 3, "u4": 1}


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return write(tmp_path, LENGTHS)


def refused(path: Path, match: str) -> None:
    """The reader refuses the file in one line that names it."""
    with pytest.raises(MfhcaError, match=match) as caught:
        read_shard(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "mfhca-cache features" in str(caught.value)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 3), min_size=1, max_size=5),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    dtype=st.sampled_from(["float16", "float32"]),
    speaker=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
)
def test_write_read_identity_of_layers(
    lengths: list[int], shape: tuple[int, int, int], dtype: str, speaker: str
) -> None:
    from mfhca_cache.store.writer import ShardWriter

    layers, frames, bins = shape
    with tempfile.TemporaryDirectory() as folder:
        given_ = {}
        with ShardWriter(Path(folder), "0" * 16, "ssl", speaker, shape, dtype) as w:
            for i, n in enumerate(lengths):
                name, audio, values, valid = utterance(f"u{i}", n, (layers * frames, bins))
                given_[name] = values.reshape(n, layers, frames, bins), np.minimum(valid, frames)
                w.append(name, audio, *given_[name])
            path = w.finish(None, (), {})
        assert path is not None
        shard = read_shard(path)
        verify_shard(shard)
        stored = np.fromfile(path, dtype, offset=shard.offset, count=int(np.prod(shard.shape)))
    assert (shard.speaker, path.name) == (speaker, shard_name(speaker))
    assert shard.shape == (sum(lengths), *shape)
    for name, (first, count) in shard.rows().items():
        values, valid = given_[name]
        np.testing.assert_array_equal(
            stored.reshape(shard.shape)[first : first + count], values.astype(dtype)
        )
        np.testing.assert_array_equal(shard.valid_frames[first : first + count], valid)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    frames=st.integers(1, 5),
    bins=st.integers(1, 5),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 9),
)
def test_write_read_identity(lengths: list[int], frames: int, bins: int, dtype: str, seed: int) -> None:
    from mfhca_cache.store.writer import ShardWriter

    given_ = {f"u{i}é": utterance(f"u{i}é", n, (frames, bins), seed) for i, n in enumerate(lengths)}
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(Path(folder), "0" * 16, "ssl", "a b", (frames, bins), dtype) as w:
            for arguments in given_.values():
                w.append(*arguments)
            path = w.finish(None, (), {"threads": 2})
        assert path is not None
        shard = read_shard(path)
        verify_shard(shard)
        stored = np.fromfile(path, dtype, offset=shard.offset, count=int(np.prod(shard.shape)))
        with h5py.File(path, "r") as file:
            np.testing.assert_array_equal(file["features"][:], stored.reshape(shard.shape))
        moments = {name: shard.moments(name) for name in ("sum", "sum_squares", "minimum", "maximum")}
    assert (shard.key, shard.kind, shard.speaker, shard.provenance) == (
        "0" * 16,
        "ssl",
        "a b",
        {"threads": 2},
    )
    assert shard.shape == (sum(lengths), frames, bins)
    assert shard.utterance_ids == tuple(sorted(given_))
    for index, (name, (first, count)) in enumerate(shard.rows().items()):
        _, audio, values, valid = given_[name]
        rows = stored.reshape(shard.shape)[first : first + count]
        np.testing.assert_array_equal(rows, values.astype(dtype))
        np.testing.assert_array_equal(shard.valid_frames[first : first + count], valid)
        assert shard.audio_sha256[index] == audio.audio_sha256
        assert shard.origins()[name] == audio
        # The moments, written from their definition.
        heard = [frame for row, n in zip(rows.astype(np.float64), valid, strict=True) for frame in row[:n]]
        assert shard.count[index] == len(heard)
        if heard:
            np.testing.assert_allclose(moments["sum"][index], np.sum(heard, axis=0), rtol=1e-12, atol=1e-9)
            np.testing.assert_allclose(
                moments["sum_squares"][index], np.sum(np.square(heard), axis=0), rtol=1e-12
            )
            np.testing.assert_array_equal(moments["minimum"][index], np.min(heard, axis=0))
            np.testing.assert_array_equal(moments["maximum"][index], np.max(heard, axis=0))
        else:
            assert not moments["sum"][index].any()
            assert not moments["sum_squares"][index].any()
            assert np.isposinf(moments["minimum"][index]).all()
            assert np.isneginf(moments["maximum"][index]).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_shard_of_layers_holds_each_as_a_shard_of_it_alone_would(tmp_path: Path, dtype: str) -> None:
    from mfhca_cache.store.writer import ShardWriter

    layers = 3
    rows = [
        utterance(name, n, (layers, *FRAME_SHAPE)) for name, n in (("a", 2), ("b", 0), ("c", 3), ("d", 1))
    ]
    rows = [(*row[:3], np.random.default_rng(7).integers(0, FRAME_SHAPE[0] + 1, len(row[2]))) for row in rows]

    def write_one(folder: str, take: slice | int, shape: tuple[int, ...]) -> Shard:
        (tmp_path / folder).mkdir()
        with ShardWriter(tmp_path / folder, "0" * 16, "ssl", "s", shape, dtype) as w:
            for name, audio, values, valid in rows[:2]:
                w.append(name, audio, values[:, take], valid)
        with ShardWriter(tmp_path / folder, "0" * 16, "ssl", "s", shape, dtype) as w:  # it goes on
            assert set(w.done) == {"a", "b"}
            for name, audio, values, valid in rows[2:]:
                w.append(name, audio, values[:, take], valid)
            path = w.finish(None, (), {})
        assert path is not None
        return read_shard(path)

    every = write_one("all", slice(None), (layers, *FRAME_SHAPE))
    verify_shard(every)
    assert every.shape == (6, layers, *FRAME_SHAPE)
    stored = np.fromfile(every.path, dtype, offset=every.offset, count=int(np.prod(every.shape)))
    for layer in range(layers):
        one = write_one(str(layer), layer, FRAME_SHAPE)
        alone = np.fromfile(one.path, dtype, offset=one.offset, count=int(np.prod(one.shape)))
        np.testing.assert_array_equal(stored.reshape(every.shape)[:, layer], alone.reshape(one.shape))
        np.testing.assert_array_equal(every.count, one.count)
        for name in ("sum", "sum_squares", "minimum", "maximum"):
            np.testing.assert_array_equal(every.moments(name)[:, layer], one.moments(name))
    data = bytearray(every.path.read_bytes())
    data[every.offset + 5] ^= 1
    every.path.write_bytes(data)
    with pytest.raises(MfhcaError, match="does not match its digest"):
        verify_shard(read_shard(every.path))


def test_shard_is_plain_hdf5(shard: Shard) -> None:
    assert h5py.is_hdf5(shard.path)
    with h5py.File(shard.path, "r") as file:
        features = file["features"]
        assert features.chunks is None
        assert features.compression is None
        assert features.dtype == np.float16
        assert features.shape == shard.shape == (6, *FRAME_SHAPE)
        assert features.id.get_offset() == shard.offset
        assert file.attrs["format"] == "mfhca-shard"
        assert file.attrs["version"] == 3
        assert file.attrs["digest"] == shard.digest
        assert list(file["utterance_ids"].asstr()) == sorted(LENGTHS)
        assert list(file["audio_sha256"].asstr()) == [audio_digest(f"{name}/0") for name in sorted(LENGTHS)]
        assert list(file["segment_utterance"]) == [0, 0, 2, 3, 3, 3]
        everything: list[str] = []
        file.visit(everything.append)
    assert set(everything) == {
        *("features", *schema.TEXTS, "moments"),
        *schema.TABLES,
    }


def test_any_flipped_byte_is_found(shard: Shard) -> None:
    with h5py.File(shard.path, "r") as file:
        datasets = {}
        for name in ("features", *schema.TEXTS, *schema.TABLES):
            datasets[name] = (file[name].id.get_offset(), file[name].id.get_storage_size())
    features = range(datasets["features"][0], sum(datasets["features"]))
    positions = {offset + at for offset, size in datasets.values() for at in (0, size // 2, size - 1)}
    generator = random.Random(1)
    positions |= {generator.randrange(shard.stat[1]) for _ in range(300)}
    for position in sorted(positions):
        bits = 1 << generator.randrange(8)
        flip(shard.path, position, bits)
        if position in features:
            with pytest.raises(MfhcaError, match="does not match its digest"):
                verify_shard(read_shard(shard.path))
        else:
            refused(shard.path, "damaged|not a feature shard|format version|bytes, ")
        flip(shard.path, position, bits)
    verify_shard(read_shard(shard.path))


@pytest.mark.parametrize("name", ["features", *schema.TEXTS, *schema.TABLES])
def test_digest_covers_every_part(shard: Shard, name: str) -> None:
    # The last byte of the last item, changed by a program that mends the seal as well.
    with h5py.File(shard.path, "r") as file:
        dataset = file[name]
        position = dataset.id.get_offset() + dataset.id.get_storage_size() - 1
        position -= {"segment_utterance": 3, "valid_frames": 3, "moments/count": 7}.get(name, 0)
        position -= 1 if name == "utterance_ids" else 0
    original = shard.path.read_bytes()
    found = []
    for bits in range(1, 256, 11):
        flip(shard.path, position, bits)
        reseal(shard.path)
        try:
            again = read_shard(shard.path)
        except MfhcaError as error:
            found.append(str(error))
        else:
            with pytest.raises(MfhcaError, match="does not match its digest"):
                verify_shard(again)
            found.append("digest")
        shard.path.write_bytes(original)
    assert len(found) == 24
    if name in ("features", *schema.TEXTS, "moments/sum"):
        assert "digest" in found


@pytest.mark.parametrize("attribute", ["key", "kind", "speaker", "digest"])
def test_digest_covers_the_attributes(shard: Shard, attribute: str) -> None:
    with h5py.File(shard.path, "r+") as file:
        file.attrs[attribute] = "f" * len(file.attrs[attribute])
    reseal(shard.path)
    with pytest.raises(MfhcaError, match="does not match its digest"):
        verify_shard(read_shard(shard.path))


def test_provenance_is_outside_the_digest(tmp_path: Path) -> None:
    digests = []
    for provenance in ({}, {"threads": 8, "cpu": "x" * 70_000}):
        with writer(tmp_path) as w:
            w.append(*utterance("u", 2))
            path = w.finish(None, (), provenance)
        assert path is not None
        shard = read_shard(path)
        assert shard.provenance == provenance
        digests.append(shard.digest)
    assert digests[0] == digests[1]


def test_truncated_shard_is_one_line(shard: Shard) -> None:
    data = shard.path.read_bytes()
    for size in [0, 1, 11, 14, 4095, 4096, 4097, *range(5000, len(data), 997), len(data) - 1]:
        shard.path.write_bytes(data[:size])
        refused(shard.path, "not a feature shard|damaged|bytes, ")
    shard.path.write_bytes(data + b"\0")
    refused(shard.path, f"has {len(data) + 1} bytes, {len(data)} were written")


def test_foreign_files_are_one_line(tmp_path: Path, shard: Shard) -> None:
    foreign = tmp_path / "foreign.h5"
    with pytest.raises(MfhcaError, match="no such file; run `mfhca-cache features`"):
        read_shard(foreign)
    with h5py.File(foreign, "w") as file:
        file["features"] = np.zeros((2, 3, 4))
    refused(foreign, "not a feature shard")
    foreign.write_bytes(b"RIFF" + bytes(10_000))
    refused(foreign, "not a feature shard")
    data = shard.path.read_bytes()
    foreign.write_bytes(data.replace(b"mfhca-shard 3", b"mfhca-shard 4", 1))
    refused(
        foreign,
        "has shard format version 4, this program reads version 3; `mfhca-cache features` computes it again",
    )
    foreign.unlink()
    foreign.mkdir()
    refused(foreign, "not a regular file")
    foreign.rmdir()
    os.mkfifo(foreign)
    refused(foreign, "not a regular file")


def test_changed_by_another_program_is_refused(shard: Shard) -> None:
    with h5py.File(shard.path, "r+") as file:
        file.attrs["speaker"] = "08"
    refused(shard.path, "damaged outside its features|bytes, ")


def test_replaced_shard_is_not_taken_for_the_old_one(shard: Shard) -> None:
    write(shard.path.parent, {"other": 1})
    with pytest.raises(MfhcaError, match="was replaced while in use"):
        verify_shard(shard)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"features_bytes": 1 << 60}, "has its features in bytes"),
        ({"features_bytes": -1}, "has its features in bytes"),
        ({"features_offset": 0}, "has its features in bytes"),
        ({"features_offset": 4096}, "damaged outside its features"),
        ({"features_bytes": "many"}, "damaged in its first bytes"),
        ({"features_bytes": 1.5}, "damaged in its first bytes"),
        ({"size": 1}, "bytes, 1 were written"),
        ({"colour": 1}, "damaged in its first bytes"),
    ],
)
def test_lying_seal_is_one_line(shard: Shard, values: dict, match: str) -> None:
    import hashlib
    import json

    data = shard.path.read_bytes()
    head, body = data[:4096].split(b"\n")[:2]
    text = (
        head
        + b"\n"
        + json.dumps(json.loads(body) | values, sort_keys=True, separators=(",", ":")).encode()
        + b"\n"
    )
    block = text + hashlib.sha256(text).hexdigest().encode() + b"\n"
    shard.path.write_bytes(block.ljust(4096, b"\0") + data[4096:])
    refused(shard.path, match)


def _replace(name: str, **keywords: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **keywords)

    return change


def _set(name: str, index: object, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][index] = value

    return change


def _drop(name: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]

    return change


def _external(file: h5py.File) -> None:
    del file["valid_frames"]
    file["valid_frames"] = h5py.ExternalLink("/etc/passwd", "x")


def _external_storage(file: h5py.File) -> None:
    del file["valid_frames"]
    file.create_dataset("valid_frames", (6,), "i4", external=[("/etc/passwd", 0, 24)])


def _attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_drop("features"), "has no features, so another version"),
        (_drop("moments"), "not a valid shard"),
        (
            _replace("features", data=np.zeros((6, 4, 3), "f2"), chunks=(1, 4, 3)),
            "features is not contiguous",
        ),
        (_replace("features", shape=(10**12, 4, 3), dtype="f2"), "features is larger than the file"),
        (_replace("features", data=np.zeros((6, 4, 3), "f8")), "features are float64 with 3 dimensions"),
        (_replace("features", data=np.zeros((6, 4, 3), ">f2")), "features are >f2 with 3 dimensions"),
        (_replace("features", data=np.zeros((6, 12), "f2")), "features are float16 with 2 dimensions"),
        (_replace("features", data=np.zeros((0, 0, 3), "f2")), "segments have shape"),
        (_replace("moments/sum", shape=(10**9, 10**9), dtype="f8"), "moments/sum is larger than the file"),
        (_replace("moments/sum", data=np.zeros((4, 2))), r"moments/sum is float64 \(4, 2\), expected"),
        (_replace("moments/sum", data=np.zeros((4, 3), "f4")), "moments/sum is float32"),
        (
            _replace("valid_frames", data=np.zeros(6, "i4"), compression="gzip"),
            "valid_frames is not contiguous",
        ),
        (_replace("utterance_ids", data=["a", "b", "c", "d"]), "not a list of fixed-length text"),
        (_replace("utterance_ids", data=np.array([b"a", b"c", b"b", b"d"])), "utterances are not sorted"),
        (_replace("utterance_ids", data=np.array([b"a", b"b", b"c", b"\xff"])), "not a valid shard"),
        (_replace("utterance_ids", data=np.array([b"a", b"b", b"c"])), "its digests are invalid"),
        (_replace("paths", data=np.array([b"a", b"b", b"c"])), "audio paths are invalid"),
        (_replace("paths", data=np.array([b"a", b"b", b"c", b""])), "audio paths are invalid"),
        (_set("spans", (0, 0), -1.0), "spans are not times"),
        (_set("spans", (0, 1), np.inf), "spans are not times"),
        (_replace("audio_sha256", data=np.array([b"a", b"b", b"c", b"d"])), "its digests are invalid"),
        (_external, "valid_frames is a link"),
        (_external_storage, "valid_frames is not contiguous"),
        (_set("segment_utterance", 0, 3), "segments are not sorted"),
        (_set("segment_utterance", 5, 4), "segments are not sorted"),
        (_set("segment_utterance", 0, -1), "segments are not sorted"),
        (_set("valid_frames", 0, 5), "valid_frames are not within 0..4"),
        (_set("valid_frames", 0, -1), "valid_frames are not within 0..4"),
        (_set("moments/count", 0, 10_000), "counts are not the sums"),
        (_set("moments/sum", (0, 0), np.nan), "moments are not finite or inconsistent"),
        (_set("moments/sum_squares", (0, 0), np.inf), "moments are not finite or inconsistent"),
        (_set("moments/minimum", (0, 0), np.nan), "moments are not finite or inconsistent"),
        (_set("moments/maximum", (0, 0), -1e9), "moments are not finite or inconsistent"),
        (_attribute("speaker", None), "not a valid shard"),
        (_attribute("speaker", 3), "attributes are not text"),
        (_attribute("provenance", "{"), "not a valid shard"),
        (_attribute("provenance", "[]"), "attributes are not text|provenance"),
    ],
)
def test_inconsistent_shard_is_one_line(shard: Shard, change: Callable, match: str) -> None:
    with h5py.File(shard.path, "r+") as file:
        change(file)
    reseal(shard.path)
    refused(shard.path, match)


def test_reading_closes_its_files(shard: Shard) -> None:
    before = open_files()
    verify_shard(read_shard(shard.path))
    flip(shard.path, 20)
    refused(shard.path, "damaged")
    assert open_files() == before
