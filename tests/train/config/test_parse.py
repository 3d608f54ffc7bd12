"""Text and plain values become settings of the right type and range; everything else is refused with a remedy."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.parse import FIELDS, from_dict, nearest_setting, unused_settings, with_settings
from mfhca_train.config.settings import Config


def test_text_becomes_the_fields_type() -> None:
    found = with_settings(
        Config(),
        {
            "train.lr": "1e-3",
            "train.epochs": "7",
            "model.bilstm": "off",
            "model.grf_channels": "16,32",
            "model.hca": "channel",
        },
    )
    assert (found.train.lr, found.train.epochs, found.model.bilstm) == (1e-3, 7, False)
    assert (found.model.grf_channels, found.model.hca) == ((16, 32), "channel")


def test_typed_values_are_taken_too() -> None:
    found = with_settings(Config(), {"train.lr": 0.5, "model.bilstm": False, "model.grf_channels": [4]})
    assert (found.train.lr, found.model.bilstm, found.model.grf_channels) == (0.5, False, (4,))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.Lr", "1", "no setting is called 'train.Lr'; did you mean train.lr"),
        ("modl.hca", "channel", "did you mean model.hca"),
        ("train.lr", "fast", "train.lr = 'fast' does not fit: expected a number above 0 of at most 10"),
        (
            "train.epochs",
            "1.5",
            "train.epochs = '1.5' does not fit: expected epochs; a whole number of at least 1",
        ),
        ("model.bilstm", "perhaps", "model.bilstm = 'perhaps' does not fit: expected true\\|false"),
        ("model.hca", "spatial", r"expected temporal\|channel\|frames\|released"),
        ("model.grf_channels", "a,b", "expected a list of whole numbers"),
        ("model.grf_channels", "", "at least one block"),
        ("train.epochs", "0", "train.epochs"),
        ("model.dropout", "1", "model.dropout"),
        ("model.modality_dropout", "1", "model.modality_dropout = '1' does not fit: expected probability"),
        ("train.batch_size", "1", "train.batch_size"),
        ("train.lr", "nan", "train.lr"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        with_settings(Config(), {name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"model.inputs": "spec", "model.hca": "channel"},
        {"model.inputs": "ssl", "model.grf_rate": "2"},
        {"model.fusion": "concat", "model.hca": "channel"},
        {"model.hca": "channel", "model.hca_scale": "sqrt"},
        {"model.inputs": "ssl", "model.modality_dropout": "0.5"},
        {"model.inputs": "spec", "model.pool_norm": "true"},
        {"model.fusion": "coattention", "model.pooling": "statistics"},
        {"model.hca": "channel", "model.pooling": "statistics"},
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(MfhcaError, match="would be ignored"):
        with_settings(Config(), settings)


def test_a_runs_own_settings_come_back_and_what_it_did_not_know_has_its_default() -> None:
    config = with_settings(Config(), {"model.hca": "frames", "model.grf_channels": "8,8", "train.lr": "1e-3"})
    plain = json.loads(json.dumps(config.to_dict()))
    assert from_dict(plain) == config
    del plain["model"]["mask_padding"], plain["train"]["class_weights"]
    assert from_dict(plain) == config
    assert not {"pooling", "pool_norm", "modality_dropout"} & set(plain["model"])
    pooled = with_settings(Config(), {"model.pooling": "statistics", "model.modality_dropout": "0.5"})
    assert from_dict(json.loads(json.dumps(pooled.to_dict()))) == pooled
    with pytest.raises(MfhcaError, match=r"no setting is called 'model\.new'; did you mean model"):
        from_dict({**plain, "model": {"new": 1}})
    with pytest.raises(MfhcaError, match="have no table 'train'"):
        from_dict({"model": {}})
    with pytest.raises(MfhcaError, match=r"train\.lr = 'x' does not fit"):
        from_dict({**plain, "train": {"lr": "x"}})
    with pytest.raises(
        MfhcaError, match=r"train\.epochs = 0 does not fit: expected epochs; a whole number of at least 1"
    ):
        from_dict({**plain, "train": {"epochs": 0}})


def test_layer_is_a_number_or_a_word_and_the_default_leaves_no_trace() -> None:
    """The recipe says which layer is read, so that auto needs no entry."""
    assert "ssl_layer" not in Config().to_dict()["model"]
    for text, expected in (("6", 6), (6, 6), ("-1", -1), ("weighted", "weighted"), ("weighted-norm",) * 2):
        found = with_settings(Config(), {"model.ssl_layer": text})
        assert found.model.ssl_layer == expected
        assert found.to_dict()["model"]["ssl_layer"] == expected
        assert with_settings(found, {"model.ssl_layer": "auto"}) == Config()
    for value in ("1.5", "last", "", "٣."):
        with pytest.raises(
            MfhcaError,
            match="expected one of auto, weighted, weighted-norm, or a whole number of at least -1",
        ):
            with_settings(Config(), {"model.ssl_layer": value})
    with pytest.raises(MfhcaError, match=r"model\.ssl_layer would be ignored with model\.inputs=spec"):
        with_settings(Config(), {"model.ssl_layer": "6", "model.inputs": "spec"})


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("train.learning_rate", "train.lr"),
        ("learningrate", "train.lr"),
        ("lr", "train.lr"),
        ("EPOCHS", "train.epochs"),
        ("model.droput", "model.dropout"),
        ("train.batchsize", "train.batch_size"),
    ],
)
def test_an_unknown_setting_gets_the_nearest_name(name: str, near: str) -> None:
    with pytest.raises(MfhcaError, match=f"no setting is called '{name}'; did you mean {near}?"):
        with_settings(Config(), {name: 1})


@given(st.text("abcdefghijklmnopqrstuvwxyz_.", min_size=1, max_size=20))
def test_there_is_always_a_nearest_setting_of_the_same_group(name: str) -> None:
    near = nearest_setting(name)
    assert near in FIELDS
    with pytest.raises(MfhcaError, match="did you mean"):
        with_settings(Config(), {f"x{name}": 1})
    assert nearest_setting("model.typo").startswith("model.")


@pytest.mark.parametrize("name", FIELDS)
def test_every_default_is_within_its_own_range_as_text_and_as_value(name: str) -> None:
    default = FIELDS[name].default
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    for value in (default, text):
        if name not in unused_settings(Config()):
            assert with_settings(Config(), {name: value}) == Config()
