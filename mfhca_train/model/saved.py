"""A trained network on disk: its weights, and the shapes and scaling of its inputs, so that no cache is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text, write_atomically
from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.batch import Normaliser
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.model.network import MFHCA
from mfhca_train.results.checksums import read_unit
from mfhca_train.results.schema import BEST, INPUTS, RESULT_FILE

MALFORMED = (OSError, SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
Digests = np.ndarray[Any, np.dtype[np.uint64]]
LARGEST = 1 << 16  # frames, bins or layers; a damaged file must not make torch allocate without limit
# Name of the tensor of these digests, and how many hexadecimal digits of each are kept: with 64 bits, two of a
# million recordings are equal by chance once in 10^7 corpora.
AUDIO_DIGESTS, DIGEST_DIGITS = "heard", 16


@dataclass(frozen=True)
class Inputs:
    """The inputs of a network, by side ("spec", "ssl", "mfcc").

    Attributes:
        shapes: (frames, bins) of a segment, or (layers, frames, bins) if a sum over layers is learned.
        recipes: the fields of the recipe of the features (see `mfhca_cache.recipe.folder.from_dict`).
        normalisers: the scaling of a side; None uses the stored values as they are.
        names: names of the recipes' folders, for messages only.
        training_audio: (n,) uint64, sorted: the first DIGEST_DIGITS digits of three digests of every training and
            validation utterance: of its file and of its samples (see `mfhca_cache.features.audio.Audio`), and of its
            id (`id_digest`), and of the name of the file if it is a part of it. As numbers, because thousands of
            networks may be in memory at once.
    """

    shapes: Mapping[str, tuple[int, ...]]
    recipes: Mapping[str, Mapping[str, Any]]
    normalisers: Mapping[str, Normaliser | None]
    names: Mapping[str, str] = field(default_factory=dict)
    training_audio: Digests = field(default_factory=lambda: np.empty(0, np.uint64))

    def seen_in_training(self, *digests: str) -> bool:
        """Whether an utterance with one of these digests (empty if unknown) was used for training or validation."""
        wanted = _as_numbers(digests)
        places = np.searchsorted(self.training_audio, wanted)
        found = places < len(self.training_audio)
        return bool((self.training_audio[places[found]] == wanted[found]).any())


def _as_numbers(digests: Iterable[str]) -> Digests:
    """The beginnings of hexadecimal digests as sorted numbers, each once; empty ones are left out."""
    return np.array(sorted({int(digest[:DIGEST_DIGITS], 16) for digest in digests if digest}), np.uint64)


def id_digest(utterance: str) -> str:
    """Digest of an utterance's id, in place of the id itself."""
    return sha256_text(f"utterance {utterance}")


class SideCard(TypedDict):
    """The JSON description of one side of `Inputs`."""

    shape: list[int]
    recipe: dict[str, Any]  # depends on the kind of feature
    name: str
    corpora: NotRequired[list[str]]  # of the scaling, if each corpus has its own


def build_network(config: ModelConfig, shapes: Mapping[str, tuple[int, ...]], classes: int) -> MFHCA:
    """The network for inputs of these shapes, with fresh weights.

    Args:
        config: the network's settings.
        shapes: of "spec", "ssl" and/or "mfcc", see `Inputs`; taken from the cache, never assumed.
        classes: K.

    Raises:
        MfhcaError: a setting does not fit the shapes.
    """
    wanted = {"spec", "ssl"} if config.inputs == "both" else {config.inputs}
    if set(shapes) != wanted | ({"mfcc"} if config.mfcc else set()):
        raise MfhcaError(
            f"the settings need {', '.join(sorted(wanted))}, the inputs are {', '.join(shapes) or 'none'}"
        )
    *layers, frames, width = shapes.get("ssl", (0, 0))
    if "spec" in shapes:
        cells = [(size - 4) // 2 + 1 for size in shapes["spec"]]  # of MF's map
        rate = config.grf_rate
        if rate > min(cells):
            raise MfhcaError(
                f"model.grf_rate is {rate}, too large for a map of {cells[0]} x {cells[1]} cells"
            )
    mfcc = shapes.get("mfcc", (0, 0))
    return MFHCA(
        config, classes, frames, width, mfcc_shape=(mfcc[0], mfcc[1]), ssl_layers=layers[0] if layers else 0
    )


def inputs_of(corpus: Corpus, fold: Fold, normalisers: Mapping[str, Normaliser | None]) -> Inputs:
    """The inputs and the training audio of a fold's network.

    Args:
        corpus: the open features.
        fold: whose training and validation speakers are recorded.
        normalisers: by side.
    """
    seen = corpus.of_fold(fold, "train", "validation")
    # Under its own name, by which another manifest or an audio file may call it.
    each = [corpus.utterances[index] for index in seen]
    ids = [id_digest(u.utterance.removeprefix(f"{u.corpus}/" if u.corpus else "")) for u in each]
    # The recording that an utterance was cut out of has neither its digest nor its id.
    ids += [id_digest(PurePosixPath(u.path).stem) for u in each if (u.start_s, u.end_s) != (None, None)]
    digests = (*corpus.audio_digests(seen), *corpus.samples_digests(seen), *ids)
    return Inputs(
        {side: corpus.shape(side) for side in corpus.features},
        {side: recipe.read_as for side, recipe in corpus.recipes.items()},
        normalisers,
        {side: recipe.name for side, recipe in corpus.recipes.items()},
        _as_numbers(digests),
    )


def pack_inputs(inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, SideCard]]:
    """`Inputs` as tensors and a JSON value."""
    tensors = {
        f"{side}.{name}": torch.from_numpy(getattr(normaliser, name))
        for side, normaliser in inputs.normalisers.items()
        if normaliser is not None
        for name in ("scale", "shift")
    }
    if len(inputs.training_audio):
        digits = inputs.training_audio.astype(">u8").view(np.uint8)
        tensors[AUDIO_DIGESTS] = torch.from_numpy(digits.reshape(-1, DIGEST_DIGITS // 2))
    sides: dict[str, SideCard] = {
        side: {
            "shape": list(shape),
            "recipe": dict(inputs.recipes[side]),
            "name": inputs.names.get(side, ""),
        }
        for side, shape in inputs.shapes.items()
    }
    for side, normaliser in inputs.normalisers.items():
        if normaliser is not None and normaliser.corpora:
            sides[side]["corpora"] = list(normaliser.corpora)
    return tensors, sides


def unpack_inputs(tensors: Mapping[str, Tensor], sides: Mapping[str, Any]) -> Inputs:
    """The inverse of `pack_inputs`; `sides` is read from a file and therefore checked.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: the values do not have the form that `pack_inputs` returns.
    """
    shapes = {side: tuple(int(size) for size in card["shape"]) for side, card in sides.items()}
    if any(len(shape) not in ((2, 3) if side == "ssl" else (2,)) for side, shape in shapes.items()):
        raise ValueError(f"shapes {shapes}")
    if not all(1 <= size <= LARGEST for shape in shapes.values() for size in shape):
        raise ValueError(f"shapes {shapes}, expected 1 to {LARGEST}")
    recipes = {side: dict(card["recipe"]) for side, card in sides.items()}
    normalisers = {
        side: Normaliser(
            tensors[f"{side}.scale"].numpy(),
            tensors[f"{side}.shift"].numpy(),
            tuple(map(str, sides[side].get("corpora", ()))),
        )
        if f"{side}.scale" in tensors
        else None
        for side in shapes
    }
    for side, normaliser in normalisers.items():
        parts = () if normaliser is None else (normaliser.scale, normaliser.shift)
        *layers, _, bins = shapes[side]
        sizes: tuple[tuple[int, ...], ...] = ((*layers, bins), (0,))  # nothing where each speaker has its own
        if normaliser is not None and normaliser.corpora:
            sizes = ((len(normaliser.corpora), *layers, bins),)
        if any(part.shape not in sizes or part.dtype != np.float32 for part in parts):
            raise ValueError(f"the scaling of {side} does not match its {bins} bins")
    digests = np.empty((0, DIGEST_DIGITS // 2), np.uint8)
    if AUDIO_DIGESTS in tensors:
        digests = tensors[AUDIO_DIGESTS].numpy()
    if digests.dtype != np.uint8 or digests.ndim != 2 or digests.shape[1] != DIGEST_DIGITS // 2:
        raise ValueError(f"digests of the training audio of shape {digests.shape}")
    # A copy, because the tensor may be a part of the file.
    audio = np.sort(np.frombuffer(digests.tobytes(), ">u8").astype(np.uint64))
    return Inputs(
        shapes,
        recipes,
        normalisers,
        {side: str(card.get("name", "")) for side, card in sides.items()},
        audio,
    )


def save_inputs(folder: Path, inputs: Inputs) -> None:
    """Writes inputs.safetensors: scale and shift of the scaled sides; shapes and recipes in its metadata."""
    tensors, sides = pack_inputs(inputs)
    write_atomically(folder / INPUTS, save(tensors, {"sides": canonical_json(sides)}))


def load_inputs(folder: Path) -> Inputs:
    """Reads what `save_inputs` wrote.

    Raises:
        MfhcaError: the file is missing or damaged.
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
    """The selected network of a finished unit, in evaluation mode, and its inputs.

    Args:
        folder: of a unit, or any other with best.safetensors and inputs.safetensors.
        config: the network's settings, from run.json.
        classes: K.
        device: cpu, cuda or mps.

    Raises:
        MfhcaError: a file is missing or damaged, or does not match the settings.
    """
    if (folder / RESULT_FILE).exists():
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
        inputs: of the network.
        state: its weights and running statistics.
        config, classes, device: see `load_network`.

    Raises:
        MfhcaError: a setting does not fit the shapes.
        RuntimeError: the weights do not match the settings.
    """
    # All weights come from `state`: do not download pretrained ones that they would replace.
    model = build_network(replace(config, alexnet_weights="none"), inputs.shapes, classes)
    model.load_state_dict(state)
    return model.to(device).eval()
