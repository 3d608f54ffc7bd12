"""From text or plain values to settings: `--set`, corpus cards, grids, files of --config, and run.json."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.typed import describe
from mfhca_train.config.settings import Config, ModelConfig, TrainConfig

GROUPS: Final[Mapping[str, type]] = {"model": ModelConfig, "train": TrainConfig}
FIELDS: Final[Mapping[str, dataclasses.Field[Any]]] = {
    f"{group}.{entry.name}": entry for group, owner in GROUPS.items() for entry in dataclasses.fields(owner)
}  # by dotted name
TYPES: Final[Mapping[str, Any]] = {
    f"{group}.{name}": kind
    for group, owner in GROUPS.items()
    for name, kind in typing.get_type_hints(owner, include_extras=True).items()
}
# Other words for a bool; msgspec reads true, false, 1 and 0.
BOOLS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
# What other toolkits call a setting.
SYNONYMS = {"learningrate": "train.lr", "stepsize": "train.lr", "numepochs": "train.epochs"}


def value_of(config: Config, name: str) -> Any:
    """A setting by its dotted name."""
    group, _, key = name.partition(".")
    return getattr(getattr(config, group), key)


def describe_values(name: str) -> str:
    """The values that a setting may have, and the unit of a number.

    >>> describe_values("model.hca_scale"), describe_values("train.patience")
    ('none|sqrt', 'epochs; a whole number of at least 1')
    """
    kind, unit = TYPES[name], FIELDS[name].metadata["unit"]
    if kind is bool:
        return "true|false"
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    return "; ".join(filter(None, (unit, describe(kind))))


def nearest_setting(name: str) -> str:
    """The setting whose name is most like one that does not exist.

    >>> nearest_setting("train.Lr"), nearest_setting("batchsize"), nearest_setting("train.learning_rate")
    ('train.lr', 'train.batch_size', 'train.lr')
    """
    group, _, key = name.lower().rpartition(".")
    if synonym := SYNONYMS.get(re.sub("[_-]", "", key)):
        return synonym
    keys = {known.partition(".")[2]: known for known in FIELDS}
    if key in keys:
        return keys[key]
    same_group = [known for known in FIELDS if known.startswith(f"{group}.")] or list(FIELDS)
    candidates = {known.partition(".")[2]: known for known in same_group}
    close = difflib.get_close_matches(key, candidates, 1, 0.6) or difflib.get_close_matches(key, keys, 1, 0.6)
    return keys[(close or difflib.get_close_matches(key, candidates, 1, 0.0))[0]]


def from_dict(plain: Mapping[str, Any]) -> Config:
    """The settings that `Config.to_dict` was asked for; one that is absent has its default.

    Args:
        plain: as in run.json.

    Raises:
        MfhcaError: an unknown setting, or a value that does not fit.

    >>> from_dict(Config().to_dict()) == Config()
    True
    """
    values: dict[str, Any] = {}
    for group in GROUPS:
        table = plain.get(group)
        if not isinstance(table, dict):
            raise MfhcaError(f"the settings have no table {group!r}")
        values |= {f"{group}.{key}": value for key, value in table.items()}
    config = _replaced(Config(), values)
    _refuse_contradictions(config)
    return config


def with_settings(config: Config, settings: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Config:
    """A copy of `config` with some fields replaced.

    Args:
        config: the starting point.
        settings: pairs of a dotted name and a value, text or already typed.

    Raises:
        MfhcaError: no such field (the nearest name is proposed), a value that does not fit, or a combination in
            which a setting would be ignored.

    >>> with_settings(Config(), {"train.lr": "3e-4", "model.grf_channels": "16,32"}).model.grf_channels
    (16, 32)
    """
    values = dict(settings.items() if isinstance(settings, Mapping) else settings)
    changed = _replaced(config, values)
    for name in sorted(set(values) & unused_settings(changed)):
        model = changed.model
        raise MfhcaError(
            f"{name} would be ignored with model.inputs={model.inputs}, model.fusion={model.fusion}, "
            f"model.spec_encoder={model.spec_encoder}; leave it out"
        )
    _refuse_contradictions(changed)
    return changed


def _replaced(config: Config, values: Mapping[str, Any]) -> Config:
    groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for name, value in values.items():
        if name not in FIELDS:
            raise MfhcaError(
                f"no setting is called {name!r}; did you mean {nearest_setting(name)}? "
                "`mfhca-train config` lists all"
            )
        group, _, key = name.partition(".")
        groups[group][key] = _typed(name, value)
    return Config(
        dataclasses.replace(config.model, **groups["model"]),
        dataclasses.replace(config.train, **groups["train"]),
    )


def _typed(name: str, value: Any) -> Any:
    """A value as the field's type, within its range."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(value, str) and typing.get_origin(msgspec_type(name)) is tuple:
        text = [part.strip() for part in value.strip().strip("()[]").split(",") if part.strip()]
    elif isinstance(text, str):
        text = BOOLS.get(text.lower(), text) if TYPES[name] is bool else text
    try:
        return msgspec.convert(text, TYPES[name], strict=False)
    except msgspec.ValidationError:
        shown = repr(value.strip()) if isinstance(value, str) else str(value)
        raise MfhcaError(f"{name} = {shown} does not fit: expected {describe_values(name)}") from None


def msgspec_type(name: str) -> Any:
    """The type of a setting without its range."""
    kind = TYPES[name]
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _refuse_contradictions(config: Config) -> None:
    model = config.model
    if model.mfcc and (model.inputs != "both" or model.fusion == "hca"):
        raise MfhcaError(
            "model.mfcc=true belongs to the baseline: it needs model.inputs=both and "
            f"model.fusion=coattention or concat, not {model.inputs} and {model.fusion}"
        )
    train = config.train
    if str(model.ssl_layer).startswith("weighted") and (train.ssl_time_mask or train.ssl_feature_mask):
        raise MfhcaError(
            "train.ssl_time_mask and train.ssl_feature_mask mask one layer; set model.ssl_layer to a number, "
            "or remove them"
        )


def unused_settings(config: Config) -> set[str]:
    """The settings, by dotted name, that have no effect with the others."""
    model = config.model
    of_hca = {"model.hca", "model.hca_scale"}
    of_grf = {"model.grf", "model.grf_channels", "model.grf_rate"}
    of_pooling = {"model.pooling", "model.pool_norm"}
    of_spec = {"train.spec_norm", "train.spec_time_mask", "train.spec_frequency_mask"}
    of_ssl = {"train.ssl_norm", "train.ssl_time_mask", "train.ssl_feature_mask"}
    if model.inputs == "spec":
        unused = of_hca | of_pooling | of_ssl | {"model.fusion", "model.bilstm", "model.ssl_layer"}
        unused.add("model.modality_dropout")
    elif model.inputs == "ssl":
        unused = of_hca | of_grf | {"model.modality_dropout"}
        unused |= of_spec | {"model.spec_encoder", "model.alexnet_weights", "model.fusion"}
    elif model.fusion != "hca":
        unused = of_hca if model.fusion == "concat" else of_hca | of_pooling
    else:
        unused = of_pooling | {"model.hca_scale"} if model.hca in ("channel", "released") else set()
    return unused | (of_grf if model.spec_encoder == "alexnet" else {"model.alexnet_weights"})
