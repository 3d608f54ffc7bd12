"""Small shards for the tests of the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from mfhca_cache.recipe.folder import folder_for, write_recipe
from mfhca_cache.recipe.kinds import LogSpec
from mfhca_cache.store import schema
from mfhca_cache.store.shard import Shard, read_shard
from mfhca_cache.store.writer import ShardWriter

FRAME_SHAPE = (4, 3)
RECIPE = LogSpec()


def audio_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def origin_of(name: str, take: int = 0) -> schema.Origin:
    samples = audio_digest(f"samples of {name}/{take}")
    return schema.Origin(audio_digest(f"{name}/{take}"), f"audio/{name}.wav", samples_sha256=samples)


def utterance(name: str, segments: int, frame_shape: tuple[int, int] = FRAME_SHAPE, take: int = 0) -> tuple:
    """What `append` takes, drawn from a generator seeded by the name; `take` is a version of the audio."""
    rng = np.random.default_rng([take, *name.encode()])
    values = rng.normal(0, 30, (segments, *frame_shape)).astype(np.float32)
    valid = rng.integers(0, frame_shape[0] + 1, segments)
    return name, origin_of(name, take), values, valid


def writer(folder: Path, speaker: str = "03", dtype: str = "float16") -> ShardWriter:
    return ShardWriter(folder, RECIPE.key, RECIPE.kind, speaker, FRAME_SHAPE, dtype)


def write(folder: Path, lengths: dict[str, int], speaker: str = "03", dtype: str = "float16") -> Shard:
    """A shard of utterances with so many segments."""
    with writer(folder, speaker, dtype) as w:
        for name, segments in lengths.items():
            w.append(*utterance(name, segments))
        path = w.finish(None, (), {"threads": 1})
    assert path is not None
    return read_shard(path)


def recipe_folder(cache: Path, speakers: Iterable[str] = ("03", "08")) -> Path:
    """A recipe's folder with a shard a speaker: utterances <speaker>a, b, c of 2, 0 and 3 segments."""
    folder = folder_for(cache, RECIPE)
    write_recipe(folder, RECIPE, FRAME_SHAPE)
    for speaker in speakers:
        write(folder, {f"{speaker}a": 2, f"{speaker}b": 0, f"{speaker}c": 3}, speaker)
    return folder


def flip(path: Path, position: int, bits: int = 0xFF) -> None:
    """Changes one byte of a file in place."""
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ bits]))


def reseal(path: Path) -> None:
    """Gives a shard that was changed by h5py a seal that fits, as a careless or lying program would."""
    with h5py.File(path, "r") as file:
        features = file.get(schema.FEATURES)
        there = isinstance(features, h5py.Dataset) and features.id.get_storage_size() > 0
        there = there and features.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
        offset = features.id.get_offset() if there else schema.USER_BLOCK
        size = features.id.get_storage_size() if there else 0
    data = path.read_bytes()
    rest = hashlib.sha256(data[schema.USER_BLOCK : offset] + data[offset + size :]).hexdigest()
    seal = schema.Seal(len(data), offset, size, rest)
    path.write_bytes(schema.pack_seal(seal) + data[schema.USER_BLOCK :])


def open_files() -> int:
    """How many file descriptors this process holds."""
    return len(list(Path("/proc/self/fd").iterdir()))
