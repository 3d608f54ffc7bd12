"""Networks of one layer from a cache of all layers: predict and evaluate compute the layer they were trained on."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from backbone_factory import LARGE, save_model
from voice_factory import cross_validate, invoke, trained

from mfhca_cache.cli import main as cache_command
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.inference.cross_corpus import evaluate
from mfhca_train.inference.ensemble import read_run
from mfhca_train.inference.predictor import Predictor

# With stable layer norm, as the published large encoders.
FAMILIES = ("HubertModel", "Wav2Vec2Model", "WavLMModel")
SPEAKER = "1F"
LAST = 3  # of a small encoder; its output is normalised, hidden state 3 is not


@dataclass(frozen=True)
class Layered:
    """An encoder with the features of all its layers in one cache, and of single layers in others."""

    folder: Path
    backbone: Path

    def cache(self, layer: int | str) -> Path:
        """Features of one layer, or of "all"."""
        cache, voices = self.folder / f"cache-{layer}", trained()
        if not cache.exists():
            places = ("--root", voices.root, "--cache", cache, "--backbone", self.backbone)
            options = ("--kind", "ssl", "--layer", layer, "--threads", 1, "--device", "cpu")
            invoke(cache_command, "features", voices.manifest.path, *places, *options)
        return cache

    def run(self, layer: int | str, *, stored: int | str) -> Path:
        """A fold that reads one layer of a cache."""
        out = self.folder / f"run-{layer}-of-{stored}"
        if not out.exists():
            settings = {"model__inputs": "ssl", "model__grf_channels": None, "model__ssl_layer": str(layer)}
            more = ("--fold", SPEAKER, "--no-analysis", "--device", "cpu")
            cross_validate(trained().manifest.path, self.cache(stored), out, *more, **settings)
        return out


@pytest.fixture(scope="module")
def layered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Layered:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp(request.param)
    return Layered(folder, save_model(folder / "encoder", request.param, True, **LARGE))


def stored(run: Path) -> np.ndarray:
    """Log-probabilities of the held-out speaker, (U, K)."""
    with open(run / f"model/seed-0/fold-{SPEAKER}/predictions.csv", newline="") as file:
        return np.array([[float(value) for value in row[4:]] for row in list(csv.reader(file))[1:]])


@pytest.mark.parametrize(
    ("layered", "layer", "alone"),
    [(family, LAST, -1) for family in FAMILIES] + [(FAMILIES[0], -1, -1), (FAMILIES[0], 1, 1)],
    indirect=["layered"],
)
def test_one_layer_of_all_is_that_layer_alone_to_predict_and_evaluate(
    layered: Layered, layer: int, alone: int, tmp_path: Path
) -> None:
    run = layered.run(layer, stored="all")
    expected = stored(run)
    np.testing.assert_array_equal(expected, stored(layered.run(alone, stored=alone)))
    assert np.ptp(expected) > 0.01
    recipe = read_run(run).inputs.recipes["ssl"]
    assert recipe["layer"] == alone

    voices = trained()
    found = Predictor.from_run(run, layered.backbone, device="cpu").predict(voices.audio(SPEAKER))
    np.testing.assert_array_equal(np.concatenate([one.log_probabilities for one in found]), expected)

    rows = [u for u in voices.manifest.utterances if u.speaker == SPEAKER]
    write_manifest(tmp_path / "held.csv", rows)
    probabilities = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    for cache in (layered.cache("all"), layered.cache(alone)):
        text = evaluate(read_run(run), tmp_path / "held.csv", cache).predictions
        scored = [[float(p) for p in row[4:]] for row in list(csv.reader(io.StringIO(text)))[1:]]
        np.testing.assert_allclose(scored, probabilities, rtol=1e-6)
