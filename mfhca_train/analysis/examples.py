"""Examples: spectrogram, attention, gates, sensitivity and waveform of single utterances, small enough to store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.analysis import attention, probe
from mfhca_train.analysis.stored import ExampleSummary
from mfhca_train.data.batch import Array
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import SPEC_KINDS
from mfhca_train.data.segments import Segments

MAX_SEGMENTS = 2  # of an example: 6 s
SPANS = 300  # of a segment's waveform; a figure has no more columns


def examples(
    network: probe.Network, corpus: Corpus, names: Sequence[str]
) -> tuple[list[ExampleSummary], dict[str, Array]]:
    """Summaries and arrays of some utterances; empty for networks without a spectrogram.

    Args:
        network: on the CPU.
        corpus: the features.
        names: of the utterances.
    """
    if not network.model.has_spec:
        return [], {}
    indices = {u.utterance: i for i, u in enumerate(corpus.utterances)}
    summaries: list[ExampleSummary] = []
    arrays: dict[str, Array] = {}
    for k, name in enumerate(names):
        summary, parts = _example(network, corpus, name, indices[name])
        summaries.append(summary)
        arrays |= {f"example-{k}.{part}": array for part, array in parts.items()}
    return summaries, arrays


def in_decibels(corpus: Corpus) -> bool:
    """Whether the spectrogram is in dB; what another program made may be anything."""
    return corpus.recipes["spec"].kind in SPEC_KINDS


def stored_spec(corpus: Corpus, segments: Segments, batch: slice) -> Array:
    """(B, T, F) as stored; see `in_decibels`."""
    rows = segments.rows["spec"][batch]
    return corpus.features["spec"].gather(rows[:, 0], rows[:, 1])


def _example(
    network: probe.Network, corpus: Corpus, name: str, index: int
) -> tuple[ExampleSummary, dict[str, Array]]:
    segments = corpus.segments(np.array([index]))
    outputs = list(probe.run_segments(network, corpus, segments))
    logp = np.concatenate([output.log_probabilities for output in outputs]).mean(axis=0)
    prediction, label = int(logp.argmax()), int(corpus.labels[index])
    count = min(MAX_SEGMENTS, len(segments))
    batch = next(corpus.batches(segments, np.arange(count), count, network.normalisers))
    gradient = probe.saliency(network.model, batch.inputs, prediction, network.precision)
    spec = stored_spec(corpus, segments, slice(0, count)).astype(np.float32)
    height, width = (max(1, size // 2) for size in spec.shape[1:])
    small = attention.resized(spec, height, width)
    low, high = float(small.min()), float(small.max())
    arrays = {
        "level": attention.level(spec, in_decibels(corpus)).astype(np.float32),
        "spec": _bytes(small, low, high),
        "saliency": _bytes(attention.resized(gradient, height, width), 0.0),
    }
    if outputs[0].weights is not None:
        arrays["weights"] = outputs[0].weights[:count]
    for k, (g_h, g_w) in enumerate(outputs[0].gates):
        arrays |= {
            f"gates-{k}-h": g_h[:count].astype(np.float16),
            f"gates-{k}-w": g_w[:count].astype(np.float16),
        }
    return {
        "utterance": name,
        "label": label,
        "prediction": prediction,
        "probability": float(np.exp(logp - np.logaddexp.reduce(logp))[label]),
        "segments": len(segments),
        "valid": {side: counts[:count].tolist() for side, counts in segments.valid.items()},
        "db": [low, high],
    }, arrays


def _bytes(values: Array, low: float, high: float | None = None) -> Array:
    """Values from low to high (by default their maximum) as 0 to 255."""
    high = float(values.max()) if high is None else high
    return np.round(255 * (values - low) / (high - low if high > low else 1.0)).clip(0, 255).astype(np.uint8)


def waveforms(corpus: Corpus, names: Sequence[str], roots: Mapping[str, Path]) -> dict[str, Array]:
    """The waveforms of the examples; empty, with a warning, if the audio of one cannot be read."""
    features = corpus.features["spec"]
    utterances = {u.utterance: u for u in corpus.utterances}
    arrays = {}
    try:
        for k, name in enumerate(names):
            shard = features.shards[features.rows(name)[0]]
            digest = shard.audio_sha256[list(shard.utterance_ids).index(name)]
            root = roots[utterances[name].corpus]
            ends = envelope(root, utterances[name], corpus.recipes["spec"].recipe, digest)
            arrays[f"example-{k}.wave"] = ends[:MAX_SEGMENTS]
    except MfhcaError as error:
        log.LOG.info(f"warning: figures without waveforms: {error}")
        return {}
    return arrays


def envelope(root: Path, utterance: Utterance, recipe: Mapping[str, Any], digest: str) -> Array:
    """Minimum and maximum of the samples in each short span of each segment.

    Args:
        root: folder that the manifest's paths are relative to.
        utterance: whose audio.
        recipe: of the spectrogram, with sample rate and segmentation.
        digest: of the audio that the features were computed from.

    Returns:
        (S, SPANS, 2) float16, full scale 1.

    Raises:
        MfhcaError: the audio cannot be read, or is not the audio of the features.
    """
    from mfhca_cache.features.audio import read_audio  # only waveforms need audio, and its libraries
    from mfhca_cache.features.segments import cut

    audio = read_audio(root / utterance.path, recipe["sample_rate"], utterance.start_s, utterance.end_s)
    if audio.digest != digest:
        raise MfhcaError(f"{root / utterance.path}: not the audio that the features were computed from")
    segments, _ = cut(
        audio.samples, recipe["segment_samples"], recipe["tail"], recipe["minimum_tail_samples"]
    )
    spans = np.array_split(segments, min(SPANS, segments.shape[1]), axis=1)
    ends = [np.stack([span.min(axis=1), span.max(axis=1)], axis=1) for span in spans]
    return np.stack(ends, axis=1).astype(np.float16)
