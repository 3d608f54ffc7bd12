"""A trained network on disk: weights, and the shapes and scaling of its inputs, so that it runs without its cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from mfhca_cache.errors import MfhcaError
from mfhca_cache.files import canonical_json, write_atomically
from mfhca_train.config import ModelConfig
from mfhca_train.data import Normaliser
from mfhca_train.model import MFHCA

BEST, INPUTS = "best.safetensors", "inputs.safetensors"


@dataclass(frozen=True)
class Inputs:
    """What a network reads, by side ("spec", "ssl", "mfcc").

    Attributes:
        shapes: (frames, bins) of a segment, or (layers, frames, bins) where a sum over layers is learned.
        recipes: how its features were made, the fields of a recipe (see `mfhca_cache.recipe.from_dict`).
        normalisers: what a side is scaled by; None leaves it as it is stored.
    """

    shapes: Mapping[str, tuple[int, ...]]
    recipes: Mapping[str, Mapping[str, Any]]
    normalisers: Mapping[str, Normaliser | None]


def build_network(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], classes: int) -> MFHCA:
    """The network for inputs of these shapes, with fresh weights.

    Args:
        config: the readings.
        shapes: of "spec", "ssl" and/or "mfcc", see `Inputs`: read from the cache, never assumed.
        classes: K.

    Raises:
        MfhcaError: a setting does not fit the shapes.
    """
    *layers, frames, width = shapes.get("ssl", (0, 0))
    if "spec" in shapes:
        cells = [(size - 4) // 2 + 1 for size in shapes["spec"]]  # after MF's convolutions and pooling
        rate = config.grf_rate
        if rate > min(cells):
            raise MfhcaError(f"model.grf_rate is {rate}, too much for a map of {cells[0]} x {cells[1]} cells")
    mfcc = shapes.get("mfcc", (0, 0))
    return MFHCA(
        config, classes, frames, width, mfcc_shape=(mfcc[0], mfcc[1]), ssl_layers=layers[0] if layers else 0
    )


def save_inputs(folder: Path, inputs: Inputs) -> None:
    """Writes inputs.safetensors: scale and shift of every side that is scaled, shapes and recipes beside them."""
    tensors = {
        f"{side}.{name}": torch.from_numpy(getattr(normaliser, name))
        for side, normaliser in inputs.normalisers.items()
        if normaliser is not None
        for name in ("scale", "shift")
    }
    sides = {
        side: {"shape": list(shape), "recipe": dict(inputs.recipes[side])}
        for side, shape in inputs.shapes.items()
    }
    write_atomically(folder / INPUTS, save(tensors, {"sides": canonical_json(sides)}))


def load_inputs(folder: Path) -> Inputs:
    """What `save_inputs` wrote.

    Raises:
        MfhcaError: it is missing or damaged.
    """
    path = folder / INPUTS
    try:
        with safe_open(path, "np") as file:
            sides = json.loads(file.metadata()["sides"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        shapes = {side: tuple(int(size) for size in about["shape"]) for side, about in sides.items()}
        if any(len(shape) not in ((2, 3) if side == "ssl" else (2,)) for side, shape in shapes.items()):
            raise ValueError(f"shapes {shapes}")
        recipes = {side: dict(about["recipe"]) for side, about in sides.items()}
        normalisers = {
            side: Normaliser(tensors[f"{side}.scale"], tensors[f"{side}.shift"])
            if f"{side}.scale" in tensors
            else None
            for side in shapes
        }
        for side, normaliser in normalisers.items():
            parts = () if normaliser is None else (normaliser.scale, normaliser.shift)
            *layers, _, bins = shapes[side]
            if any(part.shape != (*layers, bins) or part.dtype != np.float32 for part in parts):
                raise ValueError(f"the scaling of {side} does not fit its {bins} bins")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise MfhcaError(f"{path}: cannot be read ({error}); delete {folder} and run cv again") from error
    return Inputs(shapes, recipes, normalisers)


def load_network(
    folder: Path, config: ModelConfig, classes: int, device: str = "cpu"
) -> tuple[MFHCA, Inputs]:
    """The selected network of a finished unit, in evaluation mode, and what it reads.

    Args:
        folder: the unit's, or any other with best.safetensors and inputs.safetensors.
        config: the readings it was trained with (run.json).
        classes: K.
        device: cpu, cuda or mps.

    Raises:
        MfhcaError: a file is missing or damaged, or does not fit the settings.
    """
    inputs = load_inputs(folder)
    model = build_network(config, inputs.shapes, classes)
    path = folder / BEST
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise MfhcaError(f"{path}: cannot be loaded ({reason}); delete {folder} and run cv again") from error
    return model.to(device).eval(), inputs
