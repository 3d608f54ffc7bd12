"""A small corpus of real files, odd formats included, for the tests that decode audio."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from mfhca_cache.manifest.manifest import Manifest, read_manifest, write_manifest
from mfhca_cache.manifest.utterance import Utterance

RATE = 16_000
# (utterance, speaker, seconds, rate, file suffix, subtype, channels)
FILES = (
    ("a1", "a", 1.2, RATE, "wav", "PCM_16", 1),
    ("a2", "a", 3.0, RATE, "wav", "PCM_16", 2),
    ("a3", "a", 0.01, RATE, "wav", "PCM_U8", 1),
    ("a4", "a", 4.5, 44_100, "flac", "PCM_24", 2),
    ("b1", "b", 34.0, RATE, "wav", "PCM_16", 1),
    ("b2", "b", 2.0, 8_000, "wav", "PCM_24", 1),
    ("c1", "c", 6.0, 48_000, "wav", "FLOAT", 1),
)
SEGMENTS = {"a1": 1, "a2": 1, "a3": 1, "a4": 2, "b1": 12, "b2": 1, "c1": 2}
LABELS = ("anger", "joy")


def sound(name: str, seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Noise in bursts over a hum, of its own for each name; float64 (n, channels), below full scale."""
    rng = np.random.default_rng(list(name.encode()))
    time = np.arange(max(1, round(seconds * rate))) / rate
    hum = 0.2 * np.sin(2 * np.pi * rng.uniform(80, 250) * time)
    bursts = rng.normal(0, 0.05, (len(time), channels)) * (1 + np.sin(2 * np.pi * 3 * time))[:, None]
    return np.clip(hum[:, None] + bursts, -0.99, 0.99)


def write_audio(path: Path, name: str, seconds: float = 1.0, rate: int = RATE, **options: object) -> Path:
    """One file of `sound`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = int(str(options.pop("channels", 1)))
    soundfile.write(path, sound(name, seconds, rate, channels), rate, **options)
    return path


def write_corpus(root: Path) -> list[Utterance]:
    """The files of FILES under `root`, as rows of a manifest."""
    rows = []
    for index, (name, speaker, seconds, rate, suffix, subtype, channels) in enumerate(FILES):
        path = root / speaker / f"{name}.{suffix}"
        write_audio(path, name, seconds, rate, subtype=subtype, channels=channels)
        relative = path.relative_to(root).as_posix()
        rows.append(Utterance(name, relative, speaker, LABELS[index % 2]))
    return rows


def manifest_of(path: Path, rows: list[Utterance]) -> Manifest:
    """Writes a manifest and reads it."""
    write_manifest(path, rows)
    return read_manifest(path)


def recorded(cache: Path) -> dict[str, str]:
    """The digest of every shard of a cache, by the name of its folder and file."""
    from mfhca_cache.store.shard import read_shard, verify_shard

    digests = {}
    for path in sorted(cache.glob("*/*.h5")):
        shard = read_shard(path)
        verify_shard(shard)
        digests[f"{path.parent.name}/{path.name}"] = shard.digest
    return digests


def notes(cache: Path) -> list[str]:
    """The manifests recorded in a cache."""
    found = [json.loads(path.read_text()) for path in sorted(cache.glob("*/manifests.json"))]
    return sorted({entry["manifest"] for entries in found for entry in entries})
