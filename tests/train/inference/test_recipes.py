"""Features of another corpus are read only if their recipe is that of the training features."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from corpus_factory import SMALL
from layer_factory import LAYERS, write_corpus, write_hidden_states
from voice_factory import invoke

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.cli.main import main
from mfhca_train.inference.cross_corpus import evaluate
from mfhca_train.inference.ensemble import read_run


def test_other_layers_and_other_encoders_are_refused(tmp_path: Path) -> None:
    """The last of all layers is the encoder's output, -1; layer M - 1 alone may be its state before normalisation."""
    write_hidden_states(tmp_path / "cache")
    settings = {**SMALL, "train.epochs": "1", "model.inputs": "ssl", "model.ssl_layer": str(LAYERS - 1)}
    del settings["model.grf_channels"]
    manifest = write_corpus(tmp_path)
    places = (manifest, "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    chosen = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    invoke(main, "cv", *places, *chosen, "--fold", "s0", "--jobs", 1, "--no-analysis")

    write_hidden_states(tmp_path / "other", [1, LAYERS - 1])
    write_hidden_states(tmp_path / "other", [-1, "all"], weights="1")
    with pytest.raises(MfhcaError, match="no ssl features of the recipe that the networks") as refused:
        evaluate(read_run(tmp_path / "run"), manifest, tmp_path / "other")
    found = re.findall(r"^  (\S+)-[0-9a-f]{16} differs: (.*)$", str(refused.value), re.MULTILINE)
    encoder = "weights_sha256: 1111111111111111... in the cache, 0000000000000000... in the run"
    assert dict(found) == {
        "ssl-tiny": encoder,
        "ssl-tiny-all": f"{encoder}; layer: all in the cache, -1 in the run",
        "ssl-tiny-layer1": "layer: 1 in the cache, -1 in the run",
        "ssl-tiny-layer3": "layer: 3 in the cache, -1 in the run",
    }
