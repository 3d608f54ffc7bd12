"""A small corpus with every kind of features that the project's grids name, and short ablations of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import corpus_factory
from corpus_factory import SMALL, SSL, utterances
from places import REPOSITORY

from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.recipe.folder import folder_for, write_recipe
from mfhca_cache.recipe.kinds import LogMel, LogSpec, Mfcc, Ssl
from mfhca_cache.store.writer import ShardWriter
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.runs.grid import Grid, read_grid
from mfhca_train.runs.plan import Request

ROWS = utterances(speakers=6, each=4, sessions=True)
FRAMES = 64  # and bins: AlexNet needs 63
HUBERT, W2V2 = "ssl-hubert-tiny", "ssl-wav2vec2-tiny"


def _recipes() -> list[tuple[LogSpec | LogMel | Mfcc | Ssl, str | None, tuple[int, int]]]:
    found: list[tuple[LogSpec | LogMel | Mfcc | Ssl, str | None, tuple[int, int]]] = []
    for tail in ("pad", "overlap", "drop"):
        found.append((LogSpec(tail=tail, frames=FRAMES, bins=FRAMES), None, (FRAMES, FRAMES)))
        found.append((replace(SSL, tail=tail, dtype="float16"), HUBERT, corpus_factory.SSL_SHAPE))
    found.append((LogMel(frames=FRAMES, bands=FRAMES), None, (FRAMES, FRAMES)))
    found.append((Mfcc(frames=FRAMES, bands=16, coefficients=8), None, (FRAMES, 8)))
    found.append((replace(SSL, weights_sha256="9" * 64, dtype="float16"), W2V2, corpus_factory.SSL_SHAPE))
    return found


GRIDS = sorted((REPOSITORY / "manifests" / "ablations").glob("*.toml"))
SMALL_GRID = """
title = "Small"
[base]
recipe = { tail = "pad" }
ssl = "hubert"
[[row]]
name = "a"
reference = true
[[row]]
name = "b"
set = { "model.inputs" = "ssl", "model.bilstm" = false }
[[row]]
name = "again"
title = "the same as a"
[[row]]
name = "svm"
kind = "svm"
set = { "model.inputs" = "ssl" }
"""
RATES = """
[[row]]
name = "slow"
set = { "train.lr" = 1e-5 }
[[row]]
name = "fast"
set = { "train.lr" = 3e-2 }
[[row]]
name = "best"
kind = "chosen"
from = ["slow", "fast"]
reference = true
"""

# What a grid chooses by its base, for `cv`, which has to be told.
PADDED = {
    "spec": f"logspec-{LogSpec(frames=FRAMES, bins=FRAMES).key}",
    "ssl": f"{HUBERT}-{replace(SSL, dtype='float16').key}",
}


def make_corpus(folder: Path) -> None:
    """Writes the manifest and the cache."""
    write_manifest(folder / "corpus.csv", ROWS)
    for recipe, name, shape in _recipes():
        target = folder_for(folder / "cache", recipe, name)
        write_recipe(target, recipe, shape)
        for speaker in sorted({u.speaker for u in ROWS}):
            with ShardWriter(target, recipe.key, recipe.kind, speaker, shape, recipe.dtype) as writer:
                for u in ROWS:
                    if u.speaker == speaker:
                        writer.append(*corpus_factory._features(u, recipe.kind, shape, False, {}))
                writer.finish(None, (), {})


def copy_of(corpus: Path, folder: Path) -> Path:
    """Manifest and cache in another folder, without the runs."""
    shutil.copytree(corpus, folder, ignore=shutil.ignore_patterns("runs"))
    return folder


def short(folder: Path, name: str, epochs: int = 1, **changes: object) -> Request:
    """A request of one fold, one seed and one epoch."""
    config = with_settings(Config(), {**SMALL, "train.epochs": epochs})
    base = Request(
        folder / "corpus.csv",
        folder / "cache",
        folder / "runs" / name,
        config,
        folds=("s0",),
        jobs=1,
        device="cpu",
        analysis=False,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def write_grid(path: Path, text: str) -> Grid:
    """A grid of a test's own."""
    path.write_text(text, encoding="utf-8")
    return read_grid(path)
