"""Every setting of a run, with unit and source, and how text from the command line becomes one.

Sources: "III.A" and the like are sections of the paper; "released" is the code
its authors published; "baseline" the co-attention network it builds on; "ours" is
a choice of this project. `mfhca-train config` shows all this (settings.py).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mfhca_cache.common.errors import MfhcaError


def _(default: Any, source: str, meaning: str, within: str = "") -> Any:
    """A setting: its default, where that comes from, what it means, and the unit or range of a number."""
    return field(default=default, metadata={"source": source, "meaning": meaning, "within": within})


@dataclass(frozen=True)
class ModelConfig:
    """The network (paper II). Variants are options, not silent picks; docs/paper.md, "Departures and variants"."""

    inputs: Literal["both", "spec", "ssl"] = _(
        "both", "Table II", "what is read: spectrogram, hidden states, or both"
    )
    spec_encoder: Literal["mf", "alexnet"] = _(
        "mf", "II.B", "the spectrogram's network; alexnet is the baseline's"
    )
    alexnet_weights: Literal["none", "imagenet"] = _(
        "none", "ours", "alexnet's start: from scratch, or torchvision's (the baseline's)"
    )
    mfcc: bool = _(False, "baseline", "a third input; with fusion coattention or concat")
    grf: Literal["equations", "released"] = _(
        "equations", "eq. 3-8", "the GRF block as written, or the released one"
    )
    grf_channels: tuple[int, ...] = _(
        (16, 32, 48), "Table III", "of the GRF blocks, one number a block", "channels, at least one block"
    )
    grf_rate: int = _(4, "Table IV", "rate r of the pooling in eq. 7; the table has 1/r", "at least 1")
    fusion: Literal["hca", "coattention", "concat"] = _(
        "hca", "II.D", "the paper's attention, the baseline's, or none"
    )
    hca: Literal["temporal", "channel", "frames", "released"] = _("temporal", "ours", "how eq. 9-11 are read")
    hca_scale: Literal["none", "sqrt"] = _(
        "none", "eq. 9", "its product as written, or divided by sqrt(D) (ours)"
    )
    ssl_layer: int | Literal["auto", "weighted", "weighted-norm"] = _(
        "auto",
        "ours",
        "hidden states: what the cache holds, a learned sum of all layers (SUPERB's), or one layer",
        "auto|weighted|weighted-norm, or a layer from -1 (the output) on",
    )
    bilstm: bool = _(True, "II.D", "over the hidden states (f'_hubert), whatever the fusion")
    width: int = _(
        128, "released", "of both sides and of the classifier's hidden layers", "units, at least 1"
    )
    dropout: float = _(0.1, "released", "before fully connected layers", "probability, 0 to below 1")
    mask_padding: bool = _(False, "ours", "keep padded frames out of pooling and attention")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation and selection (paper III.A unless said otherwise)."""

    lr: float = _(1e-5, "III.A", "Adam's step size; meant for IEMOCAP's size", "above 0, at most 10")
    schedule: Literal["constant", "cosine"] = _(
        "constant", "III.A", "of the step; cosine (ours): one epoch of warm-up, then down to 0"
    )
    weight_decay: float = _(0.0, "III.A", "none is named; AdamW's where positive", "0 or more")
    batch_size: int = _(32, "III.A", "of a step; batch normalisation needs two", "segments, at least 2")
    epochs: int = _(100, "released", "upper limit", "epochs, at least 1")
    patience: int = _(10, "III.A", "without a better validation score, then it stops", "epochs, at least 1")
    spec_norm: Literal["standard", "minmax", "none"] = _(
        "standard", "ours", "per bin, over training speakers; released: minmax"
    )
    ssl_norm: Literal["none", "standard"] = _("none", "ours", "per dimension, over training speakers")
    class_weights: bool = _(False, "ours", "cross-entropy weighted by inverse class frequency")
    precision: Literal["float32", "bfloat16"] = _(
        "float32", "ours", "of the forward pass; bfloat16 (autocast) wants a processor with units for it"
    )
    validation_speakers: int = _(
        2, "ours", "of a strict fold, where the corpus has no sessions", "speakers, at least 1"
    )
    groups: int = _(5, "ours", "k of the protocol group-k", "groups, at least 3")


@dataclass(frozen=True)
class Config:
    """All settings that decide a result, besides data, protocol, seed and threads."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, as they go into run.json."""
        plain = dataclasses.asdict(self)
        plain["model"]["grf_channels"] = list(self.model.grf_channels)
        if self.model.ssl_layer == "auto":
            del plain["model"]["ssl_layer"]  # runs from before there was a choice stay the same runs
        return plain


KINDS_OF_VALUE: Final = {bool: "true or false", int: "a whole number", float: "a finite number"}
FIELDS: Final[Mapping[str, dataclasses.Field[Any]]] = {
    f"{group}.{entry.name}": entry
    for group, owner in (("model", ModelConfig), ("train", TrainConfig))
    for entry in dataclasses.fields(owner)
}  # by dotted name


def value_of(config: Config, name: str) -> Any:
    """A setting by its dotted name."""
    group, _, key = name.partition(".")
    return getattr(getattr(config, group), key)


def choices(name: str) -> tuple[str, ...]:
    """What a setting may be, where that is one of a few words; else nothing."""
    owner = ModelConfig if name.startswith("model.") else TrainConfig
    annotation = typing.get_type_hints(owner)[name.partition(".")[2]]
    if annotation is bool:
        return "true", "false"
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def nearest(name: str) -> str | None:
    """The setting whose name is the most like one that does not exist, if any is.

    >>> nearest("train.Lr"), nearest("batchsize"), nearest("modl.hca"), nearest("colour")
    ('train.lr', 'train.batch_size', 'model.hca', None)
    """
    bare = {known.partition(".")[2]: known for known in FIELDS}
    last = name.rpartition(".")[2]
    if last in bare:
        return bare[last]
    found = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.75) if "." in name else []
    return found[0] if found else next(map(bare.get, difflib.get_close_matches(last, bare, 1, 0.6)), None)


def from_dict(plain: Mapping[str, Any]) -> Config:
    """The settings that `Config.to_dict` was asked for; one that did not exist then has its default.

    Args:
        plain: as in run.json.

    Raises:
        MfhcaError: a setting of a later version, or a value that does not fit.

    >>> from_dict(Config().to_dict()) == Config()
    True
    """
    groups: dict[str, dict[str, Any]] = {}
    for group, owner in (("model", ModelConfig), ("train", TrainConfig)):
        given = plain.get(group)
        if not isinstance(given, dict):
            raise MfhcaError(f"no table {group!r} among the settings")
        unknown = sorted(set(given) - {field.name for field in dataclasses.fields(owner)})
        if unknown:
            raise MfhcaError(f"setting {group}.{unknown[0]} is of another version of this program")
        groups[group] = {key: _typed(f"{group}.{key}", value, owner, key) for key, value in given.items()}
    found = Config(ModelConfig(**groups["model"]), TrainConfig(**groups["train"]))
    _check(found, set())
    return found


def with_settings(config: Config, settings: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Config:
    """A copy of `config` with some fields replaced.

    Args:
        config: the starting point.
        settings: pairs of a dotted name and a value, text or already typed.

    Raises:
        MfhcaError: no such field (the nearest name is proposed), a value that does
            not fit, or a combination in which a setting would be ignored.

    >>> with_settings(Config(), {"train.lr": "3e-4", "model.grf_channels": "16,32"}).model.grf_channels
    (16, 32)
    """
    pairs = settings.items() if isinstance(settings, Mapping) else settings
    groups: dict[str, dict[str, Any]] = {"model": {}, "train": {}}
    for name, value in pairs:
        if name not in FIELDS:
            near = nearest(name)
            hint = f"; did you mean {near}?" if near else "; `mfhca-train config` shows all there are"
            raise MfhcaError(f"no setting is called {name!r}{hint}")
        group, _, key = name.partition(".")
        groups[group][key] = _typed(name, value, ModelConfig if group == "model" else TrainConfig, key)
    changed = Config(
        dataclasses.replace(config.model, **groups["model"]),
        dataclasses.replace(config.train, **groups["train"]),
    )
    _check(changed, {f"{g}.{k}" for g, values in groups.items() for k in values})
    return changed


def _typed(name: str, value: Any, owner: type, key: str) -> Any:
    """`value` as the field's annotated type."""
    annotation = typing.get_type_hints(owner)[key]
    origin = typing.get_origin(annotation)
    text = str(value).strip()
    try:
        if origin is Literal:
            allowed = typing.get_args(annotation)
            if text not in allowed:
                raise MfhcaError(f"{name} = {text!r} is not one of {', '.join(allowed)}")
            return text
        if origin is tuple:
            items = value if isinstance(value, (list, tuple)) else text.strip("()[]").split(",")
            return tuple(int(str(item)) for item in items if str(item).strip())
        if annotation is bool:
            return {
                "true": True,
                "yes": True,
                "on": True,
                "1": True,
                "false": False,
                "no": False,
                "off": False,
                "0": False,
            }[text.lower()]
        if origin in (typing.Union, types.UnionType):  # a number or one of some words
            words = [word for part in typing.get_args(annotation) for word in typing.get_args(part)]
            if text in words:
                return text
            if not re.fullmatch(r"[+-]?\d+", text):
                raise MfhcaError(f"{name} = {text!r} is neither a whole number nor one of {', '.join(words)}")
            return int(text)
        if annotation is int:
            return int(text)
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    except (KeyError, ValueError) as error:
        if isinstance(error, MfhcaError):
            raise
        kind = KINDS_OF_VALUE.get(annotation, "a list of whole numbers")
        raise MfhcaError(f"{name} = {text!r} is not {kind}") from error


def _check(config: Config, given: set[str]) -> None:
    """Refuses values out of range, and settings that would be ignored."""
    model, train = config.model, config.train
    ranges = {
        "model.grf_channels": bool(model.grf_channels) and min(model.grf_channels) > 0,
        "model.grf_rate": model.grf_rate >= 1,
        "model.ssl_layer": isinstance(model.ssl_layer, str) or model.ssl_layer >= -1,
        "model.width": model.width >= 1,
        "model.dropout": 0 <= model.dropout < 1,
        "train.lr": 0 < train.lr <= 10,
        "train.weight_decay": train.weight_decay >= 0,
        "train.batch_size": train.batch_size >= 2,
        "train.epochs": train.epochs >= 1,
        "train.patience": train.patience >= 1,
        "train.validation_speakers": train.validation_speakers >= 1,
        "train.groups": train.groups >= 3,
    }
    for name, holds in ranges.items():
        if not holds:
            within = FIELDS[name].metadata["within"]
            raise MfhcaError(f"setting out of range: {name} = {value_of(config, name)} ({within})")
    for name in sorted(given & unread(config)):
        raise MfhcaError(
            f"{name} would be ignored with model.inputs={model.inputs}, model.fusion={model.fusion}, "
            f"model.spec_encoder={model.spec_encoder}; leave it out"
        )
    if model.mfcc and (model.inputs != "both" or model.fusion == "hca"):
        raise MfhcaError(
            "model.mfcc=true belongs to the baseline: it needs model.inputs=both and "
            f"model.fusion=coattention or concat, not {model.inputs} and {model.fusion}"
        )


def unread(config: Config) -> set[str]:
    """The settings that the others make without meaning, by dotted name."""
    model = config.model
    fused = {"model.hca", "model.hca_scale"} if model.fusion != "hca" else set()
    if model.hca in ("channel", "released"):
        fused = fused | {"model.hca_scale"}
    ignored = {
        "spec": {
            "model.fusion",
            "model.hca",
            "model.hca_scale",
            "model.bilstm",
            "model.ssl_layer",
            "train.ssl_norm",
        },
        "ssl": {
            "model.spec_encoder",
            "model.alexnet_weights",
            "model.fusion",
            "model.hca",
            "model.hca_scale",
            "model.grf",
            "model.grf_channels",
            "model.grf_rate",
            "train.spec_norm",
        },
        "both": fused,
    }[model.inputs]
    if model.spec_encoder == "alexnet":
        ignored = ignored | {"model.grf", "model.grf_channels", "model.grf_rate"}
    else:
        ignored = ignored | {"model.alexnet_weights"}
    return ignored
