"""A small corpus whose hidden states have several layers, of which one alone tells the classes apart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from corpus_factory import CLASSES, SSL, utterances

from mfhca_cache.common.files import sha256_text
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import folder_for, ssl_name, write_recipe
from mfhca_cache.recipe.kinds import Ssl
from mfhca_cache.store.schema import Origin
from mfhca_cache.store.writer import ShardWriter

LAYERS, FRAMES, WIDTH = 4, 10, 12
TELLING = 2  # the layer with the patterns of the classes
ALL = replace(SSL, layer="all", dtype="float16")
ROWS = utterances(speakers=4, each=8)


def hidden_states(u: Utterance) -> tuple[np.ndarray, np.ndarray]:
    """(segments, LAYERS, FRAMES, WIDTH) and valid frames."""
    rng = np.random.default_rng([*u.utterance.encode()])
    segments = 1 + int(u.utterance[-1]) % 2
    scales = np.arange(1, LAYERS + 1)[:, None, None]  # layers differ in size, as an encoder's do
    values = rng.normal(0, 0.5, (segments, LAYERS, FRAMES, WIDTH)) * scales
    pattern = np.random.default_rng(CLASSES.index(u.emotion)).normal(0, 1.5, WIDTH)
    values[:, TELLING] += pattern
    return values.astype(np.float32), np.array([FRAMES] * (segments - 1) + [FRAMES // 2])


def write_hidden_states(
    cache: Path, layers: Iterable[int | str] = ("all",), backbone: str = "tiny", weights: str = "0"
) -> dict[int | str, Path]:
    """The folder of each recipe that was asked for: "all", or a layer by itself."""
    folders = {}
    for layer in layers:
        recipe: Ssl = replace(ALL, layer=layer, weights_sha256=weights * 64)
        folder = folder_for(cache, recipe, ssl_name(backbone, layer))
        shape = (LAYERS, FRAMES, WIDTH) if layer == "all" else (FRAMES, WIDTH)
        write_recipe(folder, recipe, shape)
        for speaker in sorted({u.speaker for u in ROWS}):
            with ShardWriter(folder, recipe.key, recipe.kind, speaker, shape, recipe.dtype) as writer:
                for u in ROWS:
                    if u.speaker == speaker:
                        values, valid = hidden_states(u)
                        rows = values if layer == "all" else values[:, int(layer)]
                        origin = Origin(sha256_text(u.utterance), u.path)
                        writer.append(u.utterance, origin, rows, valid)
                writer.finish(None, (), {})
        folders[layer] = folder
    return folders


def write_corpus(folder: Path) -> Path:
    """The manifest beside the cache."""
    write_manifest(folder / "corpus.csv", ROWS)
    return folder / "corpus.csv"
