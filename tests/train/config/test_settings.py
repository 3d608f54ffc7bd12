from __future__ import annotations

import json

import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import Config, from_dict, with_settings


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
        ("train.lr", "fast", "train.lr = 'fast' is not a finite number"),
        ("train.epochs", "1.5", "train.epochs = '1.5' is not a whole number"),
        ("model.bilstm", "perhaps", "model.bilstm = 'perhaps' is not true or false"),
        ("model.hca", "spatial", "not one of temporal, channel, frames, released"),
        ("model.grf_channels", "a,b", "not a list of whole numbers"),
        ("model.grf_channels", "", "at least one block"),
        ("train.epochs", "0", "train.epochs"),
        ("model.dropout", "1", "model.dropout"),
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
    with pytest.raises(MfhcaError, match=r"setting model\.new is of another version"):
        from_dict({**plain, "model": {"new": 1}})
    with pytest.raises(MfhcaError, match="no table 'train'"):
        from_dict({"model": {}})
    with pytest.raises(MfhcaError, match=r"train\.lr = 'x' is not a finite number"):
        from_dict({**plain, "train": {"lr": "x"}})
    with pytest.raises(MfhcaError, match="out of range"):
        from_dict({**plain, "train": {"epochs": 0}})


def test_layer_is_a_number_or_a_word_and_the_default_leaves_no_trace() -> None:
    """The digest of settings from before there was a choice of layer stays what it was."""
    assert "ssl_layer" not in Config().to_dict()["model"]
    for given, expected in (("6", 6), (6, 6), ("-1", -1), ("weighted", "weighted"), ("weighted-norm",) * 2):
        found = with_settings(Config(), {"model.ssl_layer": given})
        assert found.model.ssl_layer == expected
        assert found.to_dict()["model"]["ssl_layer"] == expected
        assert with_settings(found, {"model.ssl_layer": "auto"}) == Config()
    for value in ("1.5", "last", "", "٣."):
        with pytest.raises(
            MfhcaError, match="neither a whole number nor one of auto, weighted, weighted-nor"
        ):
            with_settings(Config(), {"model.ssl_layer": value})
    with pytest.raises(MfhcaError, match=r"model\.ssl_layer would be ignored with model\.inputs=spec"):
        with_settings(Config(), {"model.ssl_layer": "6", "model.inputs": "spec"})
