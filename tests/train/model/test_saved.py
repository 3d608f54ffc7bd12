"""A finished unit as a network that runs without its cache."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus_factory import SSL, SSL_SHAPE, manifest_of, request, utterances
from safetensors.torch import load_file, save_file

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.folder import from_dict
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import make_folds
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.model.saved import Inputs, id_digest, inputs_of, load_network, save_inputs
from mfhca_train.training.evaluate import evaluate
from mfhca_train.training.fit import fit


def trained(folder: Path) -> tuple[Path, Config]:
    """One finished fold, its hidden states standardised too."""
    wanted = request(folder, utterances(), {"train.ssl_norm": "standard"})
    manifest = manifest_of(folder)
    fold = make_folds(manifest.utterances, "strict", wanted.config.train)[0]
    torch.set_num_threads(1)
    with Corpus(choose_recipes(wanted.cache, "both"), manifest.utterances, manifest.label_set()) as corpus:
        fit(corpus, fold, 0, wanted.config, folder / "unit")
    return folder / "unit", wanted.config


def test_a_loaded_network_gives_the_stored_predictions_to_the_last_bit(tmp_path: Path) -> None:
    unit, config = trained(tmp_path)
    manifest = manifest_of(tmp_path)
    model, inputs = load_network(unit, config.model, 4)
    assert not model.training
    with Corpus(
        choose_recipes(tmp_path / "cache", "both"), manifest.utterances, manifest.label_set()
    ) as corpus:
        test = corpus.of_speakers(["s0"])
        judged = evaluate(
            model, corpus, test, corpus.segments(test), inputs.normalisers, "cpu", config.train.precision
        )
    with open(unit / "predictions.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    np.testing.assert_array_equal(judged.log_probabilities, [[float(v) for v in row[4:]] for row in rows])


def test_a_recording_is_known_by_the_utterances_that_were_cut_out_of_it(tmp_path: Path) -> None:
    rows = [
        replace(u, path=f"dialogue-{u.speaker}.wav", start_s=float(k), end_s=k + 1.0)
        for k, u in enumerate(utterances())
    ]
    rows[-1] = replace(rows[-1], path="whole.wav", start_s=None, end_s=None)
    wanted = request(tmp_path, rows)
    manifest = manifest_of(tmp_path)
    fold = make_folds(manifest.utterances, "strict", wanted.config.train)[0]
    with Corpus(choose_recipes(wanted.cache, "ssl"), manifest.utterances, manifest.label_set()) as corpus:
        inputs = inputs_of(corpus, fold, {})
    known = [
        name
        for name in ("dialogue-s0", "dialogue-s1", "dialogue-s3", "whole")
        if inputs.seen_in_training(id_digest(name))
    ]
    assert fold.test == ("s0",)
    assert known == ["dialogue-s1", "dialogue-s3"]  # a whole file is known by its digest


def test_the_inputs_tell_shapes_and_recipes(tmp_path: Path) -> None:
    unit, config = trained(tmp_path)
    _, inputs = load_network(unit, config.model, 4)
    assert inputs.shapes["ssl"] == SSL_SHAPE
    assert from_dict(inputs.recipes["ssl"]) == SSL


def test_damage_is_named(tmp_path: Path) -> None:
    unit, config = trained(tmp_path)
    with pytest.raises(MfhcaError, match=r"best\.safetensors: cannot be loaded"):
        load_network(unit, config.model, 5)
    with pytest.raises(MfhcaError, match="rate is 99"):
        load_network(unit, with_settings(config, {"model.grf_rate": 99}).model, 4)
    whole = (unit / "inputs.safetensors").read_bytes()
    (unit / "inputs.safetensors").write_bytes(whole[:-1] + b"x")
    with pytest.raises(MfhcaError, match=r"inputs\.safetensors: damaged"):
        load_network(unit, config.model, 4)
    (unit / "result.json").unlink()  # which knows their digests
    for bad in (b"", whole[: len(whole) // 2], b"x" * 100):
        (unit / "inputs.safetensors").write_bytes(bad)
        with pytest.raises(MfhcaError, match=r"inputs\.safetensors: cannot be read"):
            load_network(unit, config.model, 4)
    sides = {"ssl": {"shape": [12, 32], "recipe": {}}}
    wrong = {"ssl.scale": torch.ones(31), "ssl.shift": torch.ones(31)}
    save_file(wrong, unit / "inputs.safetensors", {"sides": json.dumps(sides)})
    with pytest.raises(MfhcaError, match="scaling of ssl does not match its 32 bins"):
        load_network(unit, config.model, 4)
    save_inputs(unit, Inputs({"ssl": (12, 32)}, {"ssl": {}}, {"ssl": None}))
    assert load_file(unit / "inputs.safetensors") == {}
