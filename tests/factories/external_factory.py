"""Features of another program for the small corpus of `corpus_factory`: files, and the cache with its own features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from corpus_factory import utterances, write_features

from mfhca_cache.exchange.external import Imported, import_features
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance

RATE, WIDTH = 8.0, 6  # frames per second (24 per segment), values per frame
SECONDS = 2.0  # of every utterance of the small corpus


def frames_of(u: Utterance, seconds: float = SECONDS) -> np.ndarray:
    """(N, WIDTH), of its own for each utterance, with a pattern for each emotion."""
    pattern = np.random.default_rng(list(u.emotion.encode())).normal(0, 1, WIDTH)
    own = np.random.default_rng(list(u.utterance.encode())).normal(0, 1, (round(RATE * seconds), WIDTH))
    return (own + pattern).astype(np.float32)


def prepare(folder: Path, features: bool = True, suffix: str = ".npy") -> list[Utterance]:
    """corpus.csv, cache/ with the corpus's own features (if asked for) and external/ with one file per utterance.

    Every utterance is of 2 s, so it has one segment; `write_features` makes one or two of them.
    """
    rows = utterances()
    write_manifest(folder / "corpus.csv", rows)
    if features:
        write_features(folder / "cache", rows)
    (folder / "external").mkdir(parents=True)
    for u in rows:
        if suffix == ".npy":
            np.save(folder / f"external/{u.utterance}.npy", frames_of(u))
        else:
            np.savez(folder / f"external/{u.utterance}.npz", features=frames_of(u))
    return rows


def imported(folder: Path, **options: Any) -> Imported:
    """Imports external/ of a folder made by `prepare`."""
    given = {
        "source": folder / "external",
        "name": "other",
        "frame_rate": RATE,
        "dtype": "float32",
        **options,
    }
    return import_features(folder / "corpus.csv", folder / "cache", **given)
