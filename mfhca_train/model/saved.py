"""A trained network on disk: weights, and the shapes and scaling of its inputs, so that it runs without its cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, write_atomically
from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.batch import Normaliser
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.model.network import MFHCA
from mfhca_train.results.checksums import RESULT, read_unit

BEST, INPUTS = "best.safetensors", "inputs.safetensors"
MALFORMED = (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
LARGEST = 1 << 16  # frames, bins or layers: more would ask for memory that no network of ours needs
HEARD, HEARD_DIGITS = "heard", 16  # 64 bits: two of a million recordings agree by chance once in 10^7 corpora


@dataclass(frozen=True)
class Inputs:
    """What a network reads, by side ("spec", "ssl", "mfcc").

    Attributes:
        shapes: (frames, bins) of a segment, or (layers, frames, bins) where a sum over layers is learned.
        recipes: how its features were made, the fields of a recipe (see `mfhca_cache.recipe.folder.from_dict`).
        normalisers: what a side is scaled by; None leaves it as it is stored.
        names: how the recipes' folders were called; cosmetic.
        heard: the first HEARD_DIGITS digits of the digest (see `mfhca_cache.features.audio`) of every utterance that
            trained the weights or selected the epoch.
    """

    shapes: Mapping[str, tuple[int, ...]]
    recipes: Mapping[str, Mapping[str, Any]]
    normalisers: Mapping[str, Normaliser | None]
    names: Mapping[str, str] = field(default_factory=dict)
    heard: frozenset[str] = frozenset()

    def has_heard(self, digest: str) -> bool:
        """Whether the network was trained or selected on this audio."""
        return digest[:HEARD_DIGITS] in self.heard


def build_network(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], classes: int) -> MFHCA:
    """The network for inputs of these shapes, with fresh weights.

    Args:
        config: the readings.
        shapes: of "spec", "ssl" and/or "mfcc", see `Inputs`: read from the cache, never assumed.
        classes: K.

    Raises:
        MfhcaError: a setting does not fit the shapes.
    """
    wanted = {"spec", "ssl"} if config.inputs == "both" else {config.inputs}
    if set(shapes) != wanted | ({"mfcc"} if config.mfcc else set()):
        raise MfhcaError(
            f"the settings read {', '.join(sorted(wanted))}, the inputs are {', '.join(shapes) or 'none'}"
        )
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


def inputs_of(corpus: Corpus, fold: Fold, normalisers: Mapping[str, Normaliser | None]) -> Inputs:
    """What the network of a fold reads and has heard.

    Args:
        corpus: the open features.
        fold: its speakers.
        normalisers: by side.
    """
    heard = corpus.audio(corpus.of_speakers((*fold.train, *fold.validation)))
    return Inputs(
        {side: corpus.shape(side) for side in corpus.features},
        {side: recipe.read_as for side, recipe in corpus.recipes.items()},
        normalisers,
        {side: recipe.name for side, recipe in corpus.recipes.items()},
        frozenset(digest[:HEARD_DIGITS] for digest in heard),
    )


def pack_inputs(inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors that say what a network reads, and the JSON value that goes with them."""
    tensors = {
        f"{side}.{name}": torch.from_numpy(getattr(normaliser, name))
        for side, normaliser in inputs.normalisers.items()
        if normaliser is not None
        for name in ("scale", "shift")
    }
    if inputs.heard:
        digits = b"".join(bytes.fromhex(digest) for digest in sorted(inputs.heard))
        tensors[HEARD] = torch.tensor(list(digits), dtype=torch.uint8).reshape(-1, HEARD_DIGITS // 2)
    sides = {
        side: {
            "shape": list(shape),
            "recipe": dict(inputs.recipes[side]),
            "name": inputs.names.get(side, ""),
        }
        for side, shape in inputs.shapes.items()
    }
    return tensors, sides


def unpack_inputs(tensors: Mapping[str, Tensor], sides: Mapping[str, Any]) -> Inputs:
    """What `pack_inputs` was given.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: they are not what it returned.
    """
    shapes = {side: tuple(int(size) for size in about["shape"]) for side, about in sides.items()}
    if any(len(shape) not in ((2, 3) if side == "ssl" else (2,)) for side, shape in shapes.items()):
        raise ValueError(f"shapes {shapes}")
    if not all(1 <= size <= LARGEST for shape in shapes.values() for size in shape):
        raise ValueError(f"shapes {shapes}, expected 1 to {LARGEST}")
    recipes = {side: dict(about["recipe"]) for side, about in sides.items()}
    normalisers = {
        side: Normaliser(tensors[f"{side}.scale"].numpy(), tensors[f"{side}.shift"].numpy())
        if f"{side}.scale" in tensors
        else None
        for side in shapes
    }
    for side, normaliser in normalisers.items():
        parts = () if normaliser is None else (normaliser.scale, normaliser.shift)
        *layers, _, bins = shapes[side]
        if any(part.shape != (*layers, bins) or part.dtype != np.float32 for part in parts):
            raise ValueError(f"the scaling of {side} does not fit its {bins} bins")
    digests = tensors[HEARD].numpy() if HEARD in tensors else np.empty((0, HEARD_DIGITS // 2), np.uint8)
    heard = frozenset(row.tobytes().hex() for row in digests)
    return Inputs(
        shapes,
        recipes,
        normalisers,
        {side: str(about.get("name", "")) for side, about in sides.items()},
        heard,
    )


def save_inputs(folder: Path, inputs: Inputs) -> None:
    """Writes inputs.safetensors: scale and shift of every side that is scaled, shapes and recipes beside them."""
    tensors, sides = pack_inputs(inputs)
    write_atomically(folder / INPUTS, save(tensors, {"sides": canonical_json(sides)}))


def load_inputs(folder: Path) -> Inputs:
    """What `save_inputs` wrote.

    Raises:
        MfhcaError: it is missing or damaged.
    """
    path = folder / INPUTS
    try:
        with safe_open(path, "pt") as file:
            sides = json.loads(file.metadata()["sides"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        return unpack_inputs(tensors, sides)
    except (*MALFORMED, AttributeError) as error:
        raise MfhcaError(f"{path}: cannot be read ({error}); delete {folder} and run cv again") from error


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
    if (folder / RESULT).exists():
        read_unit(folder)
    inputs, path = load_inputs(folder), folder / BEST
    try:
        return network_of(inputs, load_file(path), config, classes, device), inputs
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise MfhcaError(f"{path}: cannot be loaded ({reason}); delete {folder} and run cv again") from error


def network_of(
    inputs: Inputs, state: Mapping[str, Tensor], config: ModelConfig, classes: int, device: str = "cpu"
) -> MFHCA:
    """A trained network in evaluation mode.

    Args:
        inputs: what it reads.
        state: its weights and running statistics.
        config, classes, device: see `load_network`.

    Raises:
        MfhcaError: a setting does not fit the shapes.
        RuntimeError: the weights do not fit the settings.
    """
    # All weights come from `state`; nothing is to be downloaded that they would replace.
    model = build_network(replace(config, alexnet_weights="none"), inputs.shapes, classes)
    model.load_state_dict(state)
    return model.to(device).eval()
