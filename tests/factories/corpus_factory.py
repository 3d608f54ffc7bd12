"""A small corpus with features made up by a seeded generator, for the tests of stage two.

Each class has a pattern of its own in both features, so that the network can
learn it; the frames are few, so that a fold takes a second.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mfhca_cache.common.files import sha256_text
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import folder_for, write_recipe
from mfhca_cache.recipe.kinds import LogSpec, Recipe, Ssl
from mfhca_cache.store.schema import Origin
from mfhca_cache.store.writer import ShardWriter
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.runs.crossval import Request

SPEC = LogSpec(frames=24, bins=16, dtype="float32")
SSL = Ssl(
    weights_sha256="0" * 64, config_sha256="1" * 64, normalise=True, attention_mask=False, dtype="float32"
)
SPEC_SHAPE, SSL_SHAPE = (24, 16), (12, 32)
KINDS: tuple[tuple[Recipe, tuple[int, int]], ...] = ((SPEC, SPEC_SHAPE), (SSL, SSL_SHAPE))
CLASSES = ("anger", "joy", "neutral", "sorrow")
SMALL = {
    "model.grf_channels": "8,8",
    "model.width": "16",
    "train.lr": "3e-3",
    "train.epochs": "3",
    "train.batch_size": "8",
}


def utterances(
    speakers: int = 4, each: int = 6, sessions: bool = False, extra_label: str | None = None
) -> list[Utterance]:
    """`each` utterances of every speaker, classes in turn; with an extra label, one more of it each."""
    found = []
    for s in range(speakers):
        labels = [CLASSES[i % len(CLASSES)] for i in range(each)] + ([extra_label] if extra_label else [])
        for i, label in enumerate(labels):
            name = f"s{s}_{i}"
            found.append(
                Utterance(
                    name,
                    f"{name}.wav",
                    f"s{s}",
                    label,
                    str(s // 2) if sessions else "",
                    "fm"[s % 2],
                    32000,
                    16000,
                )
            )
    return found


def write_features(
    cache: Path,
    rows: list[Utterance],
    noise_for: str | None = None,
    version: Mapping[str, int] | None = None,
    kinds: tuple[tuple[Recipe, tuple[int, int]], ...] = KINDS,
) -> None:
    """Shards of some kinds; the features of speaker `noise_for` are noise instead of patterns."""
    wanted = repr((rows, noise_for, version, kinds))
    if wanted not in _written:
        _written[wanted] = tempfile.TemporaryDirectory(prefix="mfhca-test-")
        _write(Path(_written[wanted].name), rows, noise_for, version, kinds)
    shutil.copytree(_written[wanted].name, cache, dirs_exist_ok=True)


_written: dict[str, tempfile.TemporaryDirectory[str]] = {}  # what was asked for -> a cache that holds it


def _write(
    cache: Path,
    rows: list[Utterance],
    noise_for: str | None,
    version: Mapping[str, int] | None,
    kinds: tuple[tuple[Recipe, tuple[int, int]], ...],
) -> None:
    for recipe, shape in kinds:
        folder = folder_for(cache, recipe)
        write_recipe(folder, recipe, shape)
        for speaker in sorted({u.speaker for u in rows}):
            with ShardWriter(folder, recipe.key, recipe.kind, speaker, shape, recipe.dtype) as writer:
                for u in rows:
                    if u.speaker == speaker:
                        writer.append(*_features(u, recipe.kind, shape, speaker == noise_for, version or {}))
                writer.finish(None, (), {})


def _features(
    u: Utterance, kind: str, shape: tuple[int, int], noise: bool, version: Mapping[str, int]
) -> tuple:
    take = version.get(u.utterance, 0)
    rng = np.random.default_rng([take, *f"{kind}/{u.utterance}".encode()])
    segments = 1 + int(u.utterance[-1]) % 2
    values = rng.normal(0, 1, (segments, *shape))
    if not noise and u.emotion in CLASSES:
        pattern = np.random.default_rng([*kind.encode(), CLASSES.index(u.emotion)]).normal(0, 1, shape[1])
        values += pattern * (3 if kind == "logspec" else 1)
    valid = np.array([shape[0]] * (segments - 1) + [max(1, shape[0] // 2)])
    audio = sha256_text(f"{u.utterance}/{take}/{noise}")
    return u.utterance, Origin(audio, u.path, u.start_s, u.end_s), values.astype(np.float32), valid


def request(
    folder: Path,
    rows: list[Utterance] | None = None,
    settings: Mapping[str, str] | None = None,
    **changes: object,
) -> Request:
    """A small corpus on disk (made where there is none) and what `cv` is asked of it."""
    manifest, cache = folder / "corpus.csv", folder / "cache"
    rows = utterances() if rows is None else rows
    if not manifest.exists():
        write_manifest(manifest, rows)
    if not cache.exists():
        write_features(cache, rows)
    config = with_settings(Config(), {**SMALL, **(settings or {})})
    base = Request(manifest, cache, folder / "run", config, jobs=1, device="cpu", analysis=False)
    return replace(base, **changes)  # type: ignore[arg-type]


def manifest_of(folder: Path):  # type: ignore[no-untyped-def]
    """The manifest that `request` wrote."""
    return read_manifest(folder / "corpus.csv")
