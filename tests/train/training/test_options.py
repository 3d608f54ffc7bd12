"""Options of training that are off by default: no leak from the test speaker, repeatable, and what each changes."""

from __future__ import annotations

import csv
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus_factory import CLASSES, request, utterances, write_features
from unit_factory import train_fold

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import LabelSet
from mfhca_train.config.settings import Config
from mfhca_train.data.batch import PER_SPEAKER
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.model.saved import load_inputs
from mfhca_train.runs.crossval import cross_validate

OPTIONS = {
    "last": {"train__select": "last"},
    "refit": {"train__refit": "true"},
    "refit of the last epoch": {"train__refit": "true", "train__select": "last"},
    "label smoothing": {"train__label_smoothing": "0.1"},
    "focal": {"train__focal_gamma": "2"},
    "balanced classes": {"train__sampling": "class"},
    "balanced classes and speakers": {"train__sampling": "class-speaker"},
    "masks": {
        "train__spec_time_mask": "0.3",
        "train__spec_frequency_mask": "0.3",
        "train__ssl_time_mask": "0.3",
        "train__ssl_feature_mask": "0.3",
    },
}
TRANSDUCTIVE = {"train__ssl_norm": "speaker", "train__spec_norm": "speaker"}
FILES = ("best.safetensors", "history.csv")


def relabelled() -> list:
    """The corpus with the labels of speaker s0 rotated."""
    rows = utterances()
    of_s0 = [u for u in rows if u.speaker == "s0"]
    turned = [replace(u, emotion=v.emotion) for u, v in zip(of_s0, [*of_s0[1:], of_s0[0]], strict=True)]
    return [*turned, *(u for u in rows if u.speaker != "s0")]


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_fold(tmp_path_factory.mktemp("default"), utterances())[1]


@pytest.mark.parametrize("name", OPTIONS)
def test_nothing_of_the_test_speaker_reaches_training_and_the_option_matters(
    name: str, default: Path, tmp_path: Path
) -> None:
    write_features(tmp_path / "b/cache", utterances(), noise_for="s0")
    (tmp_path / "a").mkdir()
    _, plain = train_fold(tmp_path / "a", utterances(), **OPTIONS[name])
    _, changed = train_fold(tmp_path / "b", relabelled(), **OPTIONS[name])
    for file in FILES:
        assert (plain / file).read_bytes() == (changed / file).read_bytes()
    assert (plain / "predictions.csv").read_bytes() != (changed / "predictions.csv").read_bytes()
    if name != "last":  # which may be the best one
        assert (plain / "best.safetensors").read_bytes() != (default / "best.safetensors").read_bytes()


def test_speaker_normalisation_uses_the_test_speakers_features_but_not_its_labels(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, plain = train_fold(tmp_path / "a", utterances(), **TRANSDUCTIVE)
    _, changed = train_fold(tmp_path / "b", relabelled(), **TRANSDUCTIVE)
    for file in FILES:
        assert (plain / file).read_bytes() == (changed / file).read_bytes()


@pytest.mark.parametrize("layers", [False, True])
def test_speaker_normalisation_gives_each_speaker_mean_0_and_deviation_1(
    tmp_path: Path, layers: bool
) -> None:
    if layers:
        from layer_factory import write_hidden_states

        write_hidden_states(tmp_path / "cache", ("all",), "hubert")
    cache, inputs = (tmp_path / "cache", "ssl") if layers else (request(tmp_path).cache, "both")
    rows = utterances(2) if layers else utterances()
    with Corpus(choose_recipes(cache, inputs), rows, LabelSet("x", {c: c for c in CLASSES})) as corpus:
        scaling = {side: corpus.normaliser(side, "speaker", np.arange(2)) for side in corpus.features}
        for speaker in sorted({u.speaker for u in rows}):
            segments = corpus.segments(corpus.of_speakers([speaker]))
            (batch,) = corpus.batches(segments, np.arange(len(segments)), 1000, scaling)
            ssl = batch.ssl.values if layers else batch.ssl  # type: ignore[union-attr]
            found = {"ssl": ssl} if layers else {"ssl": ssl, "spec": batch.spec[:, 0]}
            for side, x in found.items():
                pairs = zip(x, segments.valid[side], strict=True)
                frames = np.concatenate([s.numpy()[..., : int(n), :] for s, n in pairs], axis=-2)
                np.testing.assert_allclose(frames.mean(axis=-2), 0, atol=1e-4)
                np.testing.assert_allclose(frames.std(axis=-2), 1, atol=1e-3)


def test_a_network_with_speaker_normalisation_is_marked(tmp_path: Path) -> None:
    _, unit = train_fold(tmp_path, utterances(), **TRANSDUCTIVE)
    inputs = load_inputs(unit)
    assert all(n is not None and n.per_speaker for n in inputs.normalisers.values())
    results = cross_validate(request(tmp_path, settings={"train.ssl_norm": "speaker"}, folds=("s0",)))
    assert results["transductive"]
    assert PER_SPEAKER.per_speaker


def test_the_last_epoch_is_kept_and_patience_does_not_end_training(tmp_path: Path) -> None:
    result, _ = train_fold(
        tmp_path, utterances(), train__select="last", train__epochs="5", train__patience="1", train__lr="1e-9"
    )
    assert (result["best_epoch"], result["epochs"], result["stopped_by"]) == (5, 5, "epoch limit")


def test_refit_trains_on_the_validation_speakers_too_for_the_selected_number_of_epochs(
    default: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first training is the same as without refit, so its history, the only validation scores, is too."""
    caplog.set_level(logging.DEBUG, "mfhca")
    result, unit = train_fold(tmp_path, utterances(), train__refit="true")
    assert (unit / "history.csv").read_bytes() == (default / "history.csv").read_bytes()
    assert result["train_speakers"] == ["s1", "s2", "s3"]
    assert result["validation_speakers"] == ["s1", "s2"]
    with open(unit / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[result["best_epoch"] - 1]["validation_ua"]) == result["validation_ua"]
    assert not list(unit.glob("*checkpoint*"))
    epochs = result["best_epoch"]
    logged = re.findall(r"refit epoch (\d+) of (\d+): loss \d\.\d{4}", caplog.text)
    assert logged == [(str(epoch), str(epochs)) for epoch in range(1, epochs + 1)]


def test_refit_sees_the_validation_speakers_features(tmp_path: Path) -> None:
    """With noise in the place of a validation speaker's features the refitted weights differ."""
    (tmp_path / "a").mkdir()
    write_features(tmp_path / "b/cache", utterances(), noise_for="s1")
    settings = {"train__refit": "true", "train__select": "last", "train__epochs": "2"}
    _, plain = train_fold(tmp_path / "a", utterances(), **settings)
    _, changed = train_fold(tmp_path / "b", utterances(), **settings)
    assert (plain / "best.safetensors").read_bytes() != (changed / "best.safetensors").read_bytes()


def test_a_refit_that_was_interrupted_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mfhca_train.training import fit

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    settings = {"train__refit": "true", "train__select": "last"}
    _, whole = train_fold(tmp_path / "a", utterances(), **settings)
    real, calls = fit.save_checkpoint, []

    def stopping(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        calls.append(args)
        if len(calls) == 5:  # three epochs of the first training, two of the second
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "save_checkpoint", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_fold(tmp_path / "b", utterances(), **settings)
    monkeypatch.setattr(fit, "save_checkpoint", real)
    _, resumed = train_fold(tmp_path / "b", utterances(), **settings)
    for path in whole.iterdir():
        assert path.read_bytes() == (resumed / path.name).read_bytes(), path.name


def test_refit_is_refused_where_it_would_train_on_the_test_speaker(tmp_path: Path) -> None:
    wanted = request(tmp_path, settings={"train.refit": "true"}, protocol="oracle")
    with pytest.raises(
        MfhcaError, match=r"refit would train on the test speakers with protocol oracle; remove"
    ):
        cross_validate(wanted)
    (tmp_path / "b").mkdir()
    with pytest.raises(MfhcaError, match=r"fold s0: train.refit would train on the test speakers"):
        train_fold(tmp_path / "b", utterances(), "oracle-matched", train__refit="true")


def test_options_at_their_defaults_are_not_part_of_a_runs_identity() -> None:
    plain = Config().to_dict()["train"]
    assert not {name.removeprefix("train__") for option in OPTIONS.values() for name in option} & set(plain)
