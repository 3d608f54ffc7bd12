"""The waveform above a portrait's pictures. Nothing else in a cross-validation looks at audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import Utterance
from mfhca_train.data.corpus import Array

SPANS = 300  # of a segment; a picture has no more columns


def envelope(root: Path, utterance: Utterance, recipe: Mapping[str, Any], digest: str) -> Array:
    """Lowest and highest sample of each short span of each segment.

    Args:
        root: what the manifest's paths are relative to.
        utterance: whose audio.
        recipe: of the spectrogram: sample rate and how it was cut.
        digest: of the audio that the features were computed from.

    Returns:
        (S, SPANS, 2) float16, full scale 1.

    Raises:
        MfhcaError: the audio cannot be read, or is not that of the features.
    """
    from mfhca_cache.features.audio import cut, read_audio

    audio = read_audio(root / utterance.path, recipe["sample_rate"], utterance.start_s, utterance.end_s)
    if audio.digest != digest:
        raise MfhcaError(f"{root / utterance.path}: not the audio that the features were computed from")
    segments, _ = cut(
        audio.samples, recipe["segment_samples"], recipe["tail"], recipe["minimum_tail_samples"]
    )
    spans = np.array_split(segments, min(SPANS, segments.shape[1]), axis=1)
    ends = [np.stack([span.min(axis=1), span.max(axis=1)], axis=1) for span in spans]
    return np.stack(ends, axis=1).astype(np.float16)
