"""mfhca_cache.corpora.demo_encoder: its bytes, its loading, and what its features are good for."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from mfhca_cache.corpora import demo, demo_encoder, scan
from mfhca_cache.manifest.utterance import Utterance

MODEL_FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the whole demo."""
    folder = tmp_path_factory.mktemp("demo") / "new" / "root"
    demo.synthesise(folder)
    return folder


def samples_of(root: Path, utterance: Utterance) -> np.ndarray:
    """The samples of a 16-bit file at full scale 1, float64 (samples,)."""
    with wave.open(str(root / utterance.path)) as file:
        assert file.getparams()[:3] == (1, 2, 16000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def test_the_encoders_files_have_the_same_bytes_each_time(root: Path, tmp_path: Path) -> None:
    demo_encoder.write(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == MODEL_FILES
    for name in MODEL_FILES:
        assert (tmp_path / name).read_bytes() == (root / "hubert-demo" / name).read_bytes()
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


def test_transformers_loads_the_encoder_with_every_weight(root: Path) -> None:
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    model, report = AutoModel.from_pretrained(root / "hubert-demo", output_loading_info=True)
    assert not any(report.values())
    assert type(model).__name__ == "HubertModel"
    for name, value in demo_encoder.weights().items():
        np.testing.assert_array_equal(model.state_dict()[name], value)
    extractor = AutoFeatureExtractor.from_pretrained(root / "hubert-demo")
    assert (extractor.do_normalize, extractor.return_attention_mask, extractor.sampling_rate) == (
        True,
        False,
        16000,
    )
    with torch.no_grad():
        assert model.eval()(torch.randn(1, 48000)).last_hidden_state.shape == (1, 149, 64)


def test_a_linear_probe_separates_the_demos_emotions_across_speakers(root: Path) -> None:
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from transformers import HubertModel

    model = HubertModel.from_pretrained(root / "hubert-demo").eval()
    utterances = scan.scan("demo", root).utterances
    segments, frames = [], []
    for utterance in utterances:
        samples = samples_of(root, utterance)[:48000]
        normalised = (samples - samples.mean()) / samples.std()
        segments.append(np.pad(normalised, (0, 48000 - len(samples))))
        frames.append((len(samples) - 80) // 320)
    with torch.inference_mode():
        batches = torch.tensor(np.array(segments), dtype=torch.float32).split(17)
        hidden = torch.cat([model(batch).last_hidden_state for batch in batches])
    pooled = np.stack([states[:count].mean(0).numpy() for states, count in zip(hidden, frames, strict=True)])
    labels = [utterance.emotion for utterance in utterances]
    speakers = [utterance.speaker for utterance in utterances]
    loudness = np.log([np.mean(samples_of(root, utterance) ** 2) for utterance in utterances])[:, None]

    def accuracy(features: np.ndarray) -> float:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=3000))
        predicted = cross_val_predict(probe, features, labels, groups=speakers, cv=LeaveOneGroupOut())
        return float(np.mean(predicted == np.array(labels)))

    assert accuracy(pooled) >= 0.6  # always "neutral" is right in 0.29 of all
    assert accuracy(loudness) < 0.65  # no single number suffices
