"""Finding a speech encoder's checkpoint: HuBERT, wav2vec2 or WavLM in the transformers format.

`resolve` says everything about a checkpoint that a recipe needs, from its own
files and without importing torch or transformers. `encoder` loads it.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_json, sha256_file
from mfhca_cache.recipe.kinds import ALL_LAYERS

if TYPE_CHECKING:
    from mfhca_cache.recipe.kinds import Ssl

CONFIG: Final = "config.json"
PREPROCESSOR: Final = "preprocessor_config.json"
WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")

# How each kind of model computes attention; part of the recipe because it moves the last bits.
# WavLM's gated relative position bias exists in transformers' "eager" form alone.
ATTENTION: Final = {"hubert": "sdpa", "wav2vec2": "sdpa", "wavlm": "eager"}


@dataclass(frozen=True)
class Backbone:
    """A checkpoint that was found, and what its own files say about it.

    Attributes:
        folder: the folder with all its files.
        name: last part of its path or hub name; cosmetic.
        weights_sha256, config_sha256: digests of the weight file and of config.json.
        model_type: "hubert", "wav2vec2" or "wavlm".
        width: D, values per frame.
        layers: transformer layers.
        kernels, strides: of the convolutions, which decide the number of frames.
        sample_rate: Hz.
        normalise: its preprocessor scales each input to zero mean and unit variance.
        attention_mask: its preprocessor asks for a mask over padding.
    """

    folder: Path
    name: str
    weights_sha256: str
    config_sha256: str
    model_type: str
    width: int
    layers: int
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    sample_rate: int
    normalise: bool
    attention_mask: bool

    @property
    def attention(self) -> str:
        """The attention implementation this kind of model runs with."""
        return ATTENTION[self.model_type]

    def frames(self, samples: int) -> int:
        """Frames that the convolutions make of so many samples (149 of 48,000 for HuBERT base), perhaps 0."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def valid_frames(self, real: np.ndarray) -> np.ndarray:
        """Frames made of real samples alone, at least 1.

        Args:
            real: int (S,), real samples per segment.

        Returns:
            int32 (S,).
        """
        return np.array([max(1, self.frames(int(samples))) for samples in real], dtype=np.int32)

    @property
    def receptive_samples(self) -> int:
        """Samples that one frame sees (400 for HuBERT base)."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


def resolve(backbone: str) -> Backbone:
    """Finds a checkpoint and reads what a recipe needs, without torch or transformers.

    Args:
        backbone: a folder in the transformers format, or a name on the Hugging Face hub
            ("facebook/hubert-base-ls960"). A name is looked for in the local hub cache first, so
            that the network is asked only once.

    Returns:
        The checkpoint. Its weights are hashed anew every time: a remembered digest could be stale.

    Raises:
        MfhcaError: no such folder, out of reach, a file missing, or a kind of model that is not supported.
    """
    folder = Path(backbone).expanduser()
    if backbone.strip() and folder.is_dir():
        name = folder.resolve().name
    elif re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", backbone) and not folder.exists():
        folder = _from_hub(backbone)
        name = backbone.rsplit("/", 1)[-1]
    else:
        raise MfhcaError(
            f"backbone {backbone}: no such folder; pass a folder with {CONFIG} and the weights, or a hub name"
        )
    weights = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if weights is None:
        raise MfhcaError(f"backbone {backbone}: has neither {' nor '.join(WEIGHTS)}; download it again")
    config = _json_of(folder, CONFIG, backbone)
    preprocessor = _json_of(folder, PREPROCESSOR, backbone)
    model_type = config.get("model_type")
    if model_type not in ATTENTION:
        raise MfhcaError(
            f"backbone {backbone}: model type {model_type!r} is not supported; "
            f"use one of {', '.join(ATTENTION)}"
        )
    if config.get("add_adapter"):
        raise MfhcaError(
            f"backbone {backbone}: its adapter changes the frame rate; use the checkpoint without add_adapter"
        )
    if preprocessor.get("padding_value", 0.0) != 0.0 or preprocessor.get("feature_size", 1) != 1:
        raise MfhcaError(
            f"backbone {backbone}: {PREPROCESSOR} is not that of a waveform encoder padded with zeros"
        )
    try:
        # The defaults are those that transformers itself assumes where a configuration is silent.
        return Backbone(
            folder=folder,
            name=name,
            weights_sha256=sha256_file(weights),
            config_sha256=sha256_file(folder / CONFIG),
            model_type=model_type,
            width=int(config.get("hidden_size", 768)),
            layers=int(config.get("num_hidden_layers", 12)),
            kernels=tuple(int(k) for k in config.get("conv_kernel", (10, 3, 3, 3, 3, 2, 2))),
            strides=tuple(int(s) for s in config.get("conv_stride", (5, 2, 2, 2, 2, 2, 2))),
            sample_rate=int(preprocessor.get("sampling_rate", 16_000)),
            normalise=bool(preprocessor.get("do_normalize", True)),
            attention_mask=bool(preprocessor.get("return_attention_mask", False)),
        )
    except (TypeError, ValueError) as error:
        raise MfhcaError(f"backbone {backbone}: {CONFIG} or {PREPROCESSOR} is malformed ({error})") from error
    except OSError as error:
        raise MfhcaError(
            f"backbone {backbone}: cannot be read ({error.strerror}); download it again"
        ) from error


def _json_of(folder: Path, file: str, backbone: str) -> dict[str, Any]:
    if not (folder / file).is_file():
        raise MfhcaError(
            f"backbone {backbone}: {file} is missing; download it from the checkpoint's page into {folder}"
        )
    value = read_json(folder / file)
    if not isinstance(value, dict):
        raise MfhcaError(f"backbone {backbone}: {file} is not a JSON object; download it again")
    return value


def _from_hub(name: str) -> Path:
    """The local folder of a hub checkpoint, downloaded where need be (HF_HUB_OFFLINE is respected)."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # each retry would be two lines on the terminal

    def fetch(file: str, local: bool) -> Path | None:
        try:
            return Path(hf_hub_download(name, file, local_files_only=local))
        except LocalEntryNotFoundError:
            if local:
                return None
            raise
        except EntryNotFoundError:
            return None

    for local in (True, False):
        try:
            if not local:
                _find_hub()
            weights = fetch(WEIGHTS[0], local) or fetch(WEIGHTS[1], local)
            for file in (CONFIG, PREPROCESSOR):
                fetch(file, local)
        except (OSError, ValueError) as error:
            if constants.HF_HUB_OFFLINE:
                why = f"HF_HUB_OFFLINE is set, and the hub's cache {constants.HF_HUB_CACHE} has no copy"
            else:
                why = one_line(error)
            raise MfhcaError(
                f"backbone {name}: no such folder, and not to be had from the hub ({why}); download it elsewhere "
                f"(`hf download {name} --local-dir FOLDER`) and pass the folder as --backbone"
            ) from error
        if weights is not None and all((weights.parent / file).is_file() for file in (CONFIG, PREPROCESSOR)):
            return weights.parent
    raise MfhcaError(
        f"backbone {name}: the hub's copy lacks one of {CONFIG}, {PREPROCESSOR}, {' or '.join(WEIGHTS)}; "
        "complete it in a folder and pass the folder"
    )


def _find_hub() -> None:
    """Fails at once, and not after half a minute of retries, on a machine that has no network.

    Raises:
        OSError: the hub's address cannot be found.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not getproxies():  # a proxy looks addresses up itself
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)


def one_line(error: BaseException) -> str:
    """The kind of an error and the first sentence of what it says."""
    text = re.sub(r"\s+", " ", str(error)).strip().split(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check(backbone: Backbone, recipe: Ssl) -> None:
    """Refuses a recipe that the checkpoint cannot fulfil, without loading it.

    Raises:
        MfhcaError: another sample rate, a layer it does not have, or segments too short for one frame.
    """
    if backbone.sample_rate != recipe.sample_rate:
        raise MfhcaError(
            f"backbone {backbone.name}: wants {backbone.sample_rate} Hz, "
            f"the recipe has {recipe.sample_rate} Hz; use another"
        )
    if isinstance(recipe.layer, int) and not -1 <= recipe.layer <= backbone.layers:
        raise MfhcaError(
            f"backbone {backbone.name}: has no layer {recipe.layer}; choose 0 (before the first layer) to "
            f"{backbone.layers}, -1 for the final output, or {ALL_LAYERS}"
        )
    if backbone.frames(recipe.segment_samples) < 1:
        raise MfhcaError(
            f"backbone {backbone.name}: segments of {recipe.segment_samples} samples are too short for it"
        )


def frame_shape(backbone: Backbone, recipe: Ssl) -> tuple[int, ...]:
    """Of one segment's features: (T, D), or (M, T, D) of all M layers, the one before the first included."""
    one = (backbone.frames(recipe.segment_samples), backbone.width)
    return (backbone.layers + 1, *one) if recipe.layer == ALL_LAYERS else one
