"""Every setting of a run, with unit and source, and how text from the command line becomes one.

Sources: "III.A" and the like are sections of the paper; "released" is the code
its authors published; "ours" is a choice of this project.
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
from typing import Any, Literal

from mfhca_cache.errors import MfhcaError


@dataclass(frozen=True)
class ModelConfig:
    """The network (paper II). Readings are options, not silent picks; README "Departures and readings"."""

    inputs: Literal["both", "spec", "ssl"] = "both"  # Table II: both, Spec+MF, Hubert
    spec_encoder: Literal["mf", "alexnet"] = "mf"  # II.B; the baseline's [13]
    alexnet_weights: Literal["none", "imagenet"] = "none"  # from scratch, or torchvision's (the baseline's)
    mfcc: bool = False  # the baseline's third input; with fusion coattention or concat
    grf: Literal["equations", "released"] = "equations"  # eq. 3-8 as written, or the released block
    grf_channels: tuple[int, ...] = (16, 32, 48)  # Table III; one GRF block per entry
    grf_rate: int = 4  # r of eq. 7, Table IV writes it as 1/r
    fusion: Literal["hca", "coattention", "concat"] = "hca"  # II.D; the baseline's [13]; no attention at all
    hca: Literal["temporal", "channel", "frames", "released"] = "temporal"  # readings of eq. 9-11
    hca_scale: Literal["none", "sqrt"] = "none"  # eq. 9's product as written, or divided by sqrt(D) (ours)
    ssl_layer: int | Literal["auto", "weighted", "weighted-norm"] = (
        "auto"  # which hidden states (ours): the cache's own layer, or of all a learned weighted sum (SUPERB)
    )
    bilstm: bool = True  # II.D: f'_hubert; separable from the fusion
    width: int = 128  # both sides and the classifier's hidden layers (released)
    dropout: float = 0.1  # probability, before fully connected layers (released)
    mask_padding: bool = False  # keep padded frames out of pooling and attention (not in the paper)


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation and selection (paper III.A unless said otherwise)."""

    lr: float = 1e-5  # Adam's step size, III.A; meant for IEMOCAP's size
    schedule: Literal["constant", "cosine"] = (
        "constant"  # cosine: one epoch of warm-up, then down to 0 at `epochs`
    )
    weight_decay: float = 0.0  # decoupled (AdamW) when positive; III.A names none
    batch_size: int = 32  # segments, III.A
    epochs: int = 100  # upper limit (released)
    patience: int = 10  # epochs without a better validation score, III.A
    spec_norm: Literal["standard", "minmax", "none"] = (
        "standard"  # per bin, over training speakers (ours; released: minmax)
    )
    ssl_norm: Literal["none", "standard"] = "none"  # per dimension, over training speakers
    class_weights: bool = False  # cross-entropy weighted by inverse class frequency (ours)
    precision: Literal["float32", "bfloat16"] = "float32"  # bfloat16: autocast of the forward pass
    validation_speakers: int = 2  # strict protocol, corpora without sessions
    groups: int = 5  # k of the group-k protocol


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
        group, _, key = name.partition(".")
        known = {
            f"{g}.{f.name}"
            for g, c in (("model", ModelConfig), ("train", TrainConfig))
            for f in dataclasses.fields(c)
        }
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(sorted(known))}"
            raise MfhcaError(f"no setting is called {name!r}{hint}")
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
        kind = (
            annotation.__name__
            if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias)
            else "list of whole numbers"
        )
        raise MfhcaError(f"{name} = {text!r} is not a {kind}") from error


def _check(config: Config, given: set[str]) -> None:
    """Refuses values out of range, and settings that would be ignored."""
    model, train = config.model, config.train
    ranges = {
        "model.grf_channels (at least one block, positive)": bool(model.grf_channels)
        and min(model.grf_channels) > 0,
        "model.grf_rate (at least 1)": model.grf_rate >= 1,
        "model.ssl_layer (-1 or more)": isinstance(model.ssl_layer, str) or model.ssl_layer >= -1,
        "model.width (at least 1)": model.width >= 1,
        "model.dropout (0 to below 1)": 0 <= model.dropout < 1,
        "train.lr (above 0, at most 10)": 0 < train.lr <= 10,
        "train.weight_decay (0 or more)": train.weight_decay >= 0,
        "train.batch_size (at least 2, for batch normalisation)": train.batch_size >= 2,
        "train.epochs (at least 1)": train.epochs >= 1,
        "train.patience (at least 1)": train.patience >= 1,
        "train.validation_speakers (at least 1)": train.validation_speakers >= 1,
        "train.groups (at least 3)": train.groups >= 3,
    }
    for what, holds in ranges.items():
        if not holds:
            raise MfhcaError(f"setting out of range: {what}")
    unread = {"model.hca", "model.hca_scale"} if model.fusion != "hca" else set()
    if model.hca in ("channel", "released"):
        unread = unread | {"model.hca_scale"}
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
        "both": unread,
    }[model.inputs]
    if model.spec_encoder == "alexnet":
        ignored = ignored | {"model.grf", "model.grf_channels", "model.grf_rate"}
    else:
        ignored = ignored | {"model.alexnet_weights"}
    for name in sorted(given & ignored):
        raise MfhcaError(
            f"{name} would be ignored with model.inputs={model.inputs}, model.fusion={model.fusion}, "
            f"model.spec_encoder={model.spec_encoder}; leave it out"
        )
    if model.mfcc and (model.inputs != "both" or model.fusion == "hca"):
        raise MfhcaError(
            "model.mfcc=true belongs to the baseline: it needs model.inputs=both and "
            f"model.fusion=coattention or concat, not {model.inputs} and {model.fusion}"
        )
