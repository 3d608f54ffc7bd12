"""Waveforms of examples: minima and maxima of the samples, of the audio that the features come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_factory import write_audio

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import read_audio
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.kinds import LogSpec
from mfhca_train.analysis.examples import SPANS, envelope


def test_the_envelope_holds_lowest_and_highest_sample_of_each_span(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a" / "x.wav", "x", 4.0)
    samples = soundfile.read(path)[0]
    digest = read_audio(path, 16_000).digest
    utterance = Utterance("x", "a/x.wav", "a", "joy")
    found = envelope(tmp_path, utterance, LogSpec().to_dict(), digest)
    assert found.shape == (2, SPANS, 2)
    step = 48_000 // SPANS
    span = samples[48_000 + 5 * step :][:step]
    np.testing.assert_allclose(found[1, 5], [span.min(), span.max()], atol=1e-3)
    assert not found[1, 16_000 // step + 1 :].any()  # padding


def test_other_audio_is_refused(tmp_path: Path) -> None:
    write_audio(tmp_path / "x.wav", "x", 1.0)
    utterance = Utterance("x", "x.wav", "a", "joy")
    with pytest.raises(MfhcaError, match=r"x\.wav: not the audio that the features were computed from"):
        envelope(tmp_path, utterance, LogSpec().to_dict(), "0" * 64)
    with pytest.raises(MfhcaError, match=r"y\.wav: cannot be read"):
        envelope(tmp_path, Utterance("y", "y.wav", "a", "joy"), LogSpec().to_dict(), "0" * 64)
