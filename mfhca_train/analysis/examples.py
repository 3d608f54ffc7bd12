"""An example: what one utterance's network saw, weighed and was moved by, small enough to be stored and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_train.analysis import attention, probe
from mfhca_train.analysis.waveform import envelope
from mfhca_train.config.settings import Config
from mfhca_train.data.corpus import Array, Corpus, Segments
from mfhca_train.model.network import MFHCA
from mfhca_train.model.saved import Inputs

MOST_SEGMENTS = 2  # of an example: 6 s


def examples(
    model: MFHCA, inputs: Inputs, corpus: Corpus, names: Sequence[str], config: Config
) -> tuple[list[dict[str, Any]], dict[str, Array]]:
    """Level, spectrogram, attention, gates and saliency of some utterances; empty for rows without a spectrogram."""
    if "spec" not in inputs.shapes:
        return [], {}
    at = {u.utterance: i for i, u in enumerate(corpus.utterances)}
    about: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for k, name in enumerate(names):
        said, found = _example(model, inputs, corpus, at[name], config)
        about.append({"utterance": name, **said})
        arrays |= {f"example-{k}.{part}": array for part, array in found.items()}
    return about, arrays


def stored_spec(corpus: Corpus, segments: Segments, at: slice) -> Array:
    """(B, T, F) as stored, in dB."""
    rows = segments.rows["spec"][at]
    return corpus.features["spec"].gather(rows[:, 0], rows[:, 1])


def waveforms(corpus: Corpus, names: Sequence[str], root: Path) -> dict[str, Array]:
    """The waveforms of the examples; of none, and a word on standard error, where one cannot be had."""
    features = corpus.features["spec"]
    utterances = {u.utterance: u for u in corpus.utterances}
    arrays = {}
    try:
        for k, name in enumerate(names):
            shard = features.shards[features.rows(name)[0]]
            digest = shard.audio_sha256[list(shard.utterance_ids).index(name)]
            ends = envelope(root, utterances[name], corpus.recipes["spec"].recipe, digest)
            arrays[f"example-{k}.wave"] = ends[:MOST_SEGMENTS]
    except MfhcaError as error:
        log.LOG.info(f"warning: pictures without waveforms: {error}")
        return {}
    return arrays


def _example(
    model: MFHCA, inputs: Inputs, corpus: Corpus, index: int, config: Config
) -> tuple[dict[str, Any], dict[str, Array]]:
    segments = corpus.segments(np.array([index]))
    precision = config.train.precision
    sights = list(probe.behold(model, corpus, segments, inputs.normalisers, "cpu", precision))
    logp = np.concatenate([sight.log_probabilities for sight in sights]).mean(axis=0)
    shown = min(MOST_SEGMENTS, len(segments))
    sight = sights[0]
    batch = next(corpus.batches(segments, np.arange(shown), shown, inputs.normalisers))
    moved = probe.saliency(model, batch.inputs, int(logp.argmax()), precision)
    spec = stored_spec(corpus, segments, slice(0, shown)).astype(np.float32)
    height, width = (max(1, size // 2) for size in spec.shape[1:])
    small = attention.resized(spec, height, width)
    low, high = float(small.min()), float(small.max())
    arrays = {
        "level": attention.level(spec).astype(np.float32),
        "spec": _bytes(small, low, high),
        "saliency": _bytes(attention.resized(moved, height, width), 0.0),
    }
    if sight.weights is not None:
        arrays["weights"] = sight.weights[:shown]
    for k, (g_h, g_w) in enumerate(sight.gates):
        arrays |= {
            f"gates-{k}-h": g_h[:shown].astype(np.float16),
            f"gates-{k}-w": g_w[:shown].astype(np.float16),
        }
    label = int(corpus.labels[index])
    return {
        "label": label,
        "prediction": int(logp.argmax()),
        "probability": float(np.exp(logp - np.logaddexp.reduce(logp))[label]),
        "segments": len(segments),
        "valid": {side: counts[:shown].tolist() for side, counts in segments.valid.items()},
        "db": [low, high],
    }, arrays


def _bytes(values: Array, low: float, high: float | None = None) -> Array:
    """Values from low to high (their largest) as 0 to 255."""
    high = float(values.max()) if high is None else high
    return np.round(255 * (values - low) / (high - low if high > low else 1.0)).clip(0, 255).astype(np.uint8)
