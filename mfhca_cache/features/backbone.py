"""A speech encoder's checkpoint: HuBERT, wav2vec 2.0, WavLM and encoders with the same interface.

`resolve` reads everything about a checkpoint that a recipe needs from its own
files, without importing torch or transformers. `encoder` loads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import sha256_file
from mfhca_cache.features import hub
from mfhca_cache.features.checkpoint import (
    CONFIG,
    read_config,
    read_preprocessor,
    weight_files,
    weights_digest,
)
from mfhca_cache.recipe.kinds import ALL_LAYERS, Ssl

MOST_LAYERS: Final = 1000
WIDEST: Final = 1 << 16  # values per frame
MOST_SAMPLES_PER_FRAME: Final = 1 << 20


class Architecture(NamedTuple):
    """A kind of encoder: its class in transformers, and how it computes attention.

    The attention implementation is part of the recipe because it changes the last bits.
    """

    class_name: str
    attention: str = "sdpa"


ARCHITECTURES: Final = {
    "hubert": Architecture("HubertModel"),
    "wav2vec2": Architecture("Wav2Vec2Model"),
    # WavLM's gated relative position bias exists only in transformers' "eager" attention.
    "wavlm": Architecture("WavLMModel", "eager"),
    "data2vec-audio": Architecture("Data2VecAudioModel"),
    # Its relative position embeddings likewise.
    "wav2vec2-conformer": Architecture("Wav2Vec2ConformerModel", "eager"),
    "unispeech": Architecture("UniSpeechModel"),
    "unispeech-sat": Architecture("UniSpeechSatModel"),
}
SPECTROGRAM_ENCODERS: Final = ("whisper", "wav2vec2-bert", "speech_to_text", "audio-spectrogram-transformer")


@dataclass(frozen=True)
class Backbone:
    """A checkpoint, described by its own files.

    Attributes:
        folder: the folder with all its files.
        name: last part of its path or hub name; cosmetic.
        weights_sha256, config_sha256: digests of the weights and of config.json.
        model_type: a key of ARCHITECTURES.
        width: D, values per frame.
        layers: number of transformer layers.
        kernels, strides: of the convolutions, which decide the number of frames.
        sample_rate: Hz.
        normalise: its preprocessor scales each input to zero mean and unit variance.
        attention_mask: its preprocessor masks the padding.
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
        """The attention implementation of this kind of model."""
        return ARCHITECTURES[self.model_type].attention

    def frames(self, samples: int) -> int:
        """Number of frames that the convolutions compute from so many samples (149 from 48,000 for HuBERT base)."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def valid_frames(self, lengths: np.ndarray) -> np.ndarray:
        """Number of frames without padding, at least 1.

        Args:
            lengths: int (S,), samples of each segment without its padding.

        Returns:
            int32 (S,).
        """
        return np.array([max(1, self.frames(int(samples))) for samples in lengths], dtype=np.int32)

    @property
    def receptive_samples(self) -> int:
        """Number of samples from which one frame is computed (400 for HuBERT base)."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


def resolve(backbone: str) -> Backbone:
    """Finds a checkpoint and reads what a recipe needs, without torch or transformers.

    Args:
        backbone: a folder in the transformers format, or a name on the Hugging Face hub
            ("facebook/hubert-base-ls960").

    Returns:
        The checkpoint. Its weights are hashed every time: a stored digest could be stale.

    Raises:
        MfhcaError: the folder does not exist, cannot be downloaded, lacks a file, or holds a model that is not
            supported.
    """
    folder, name = _find(backbone)
    config = read_config(folder, backbone)
    model_type = _model_type(config, backbone)
    preprocessor = read_preprocessor(folder, backbone)
    weights = weight_files(folder, backbone)
    # The defaults are those that transformers assumes for missing fields.
    kernels = _whole_numbers(config, "conv_kernel", (10, 3, 3, 3, 3, 2, 2), backbone)
    strides = _whole_numbers(config, "conv_stride", (5, 2, 2, 2, 2, 2, 2), backbone)
    (width,) = _whole_numbers(config, "hidden_size", 768, backbone, WIDEST)
    (layers,) = _whole_numbers(config, "num_hidden_layers", 12, backbone, MOST_LAYERS)
    if len(kernels) != len(strides):
        raise MfhcaError(
            f"backbone {backbone}: {CONFIG} is malformed (conv_kernel has {len(kernels)} entries, conv_stride "
            f"{len(strides)}); download it again"
        )
    try:
        return Backbone(
            folder=folder,
            name=name,
            weights_sha256=weights_digest(weights),
            config_sha256=sha256_file(folder / CONFIG),
            model_type=model_type,
            width=width,
            layers=layers,
            kernels=kernels,
            strides=strides,
            sample_rate=preprocessor.sample_rate,
            normalise=preprocessor.normalise,
            attention_mask=preprocessor.attention_mask,
        )
    except OSError as error:
        raise MfhcaError(
            f"backbone {backbone}: cannot be read ({error.strerror}); download it again"
        ) from error


def _find(backbone: str) -> tuple[Path, str]:
    """The folder of a checkpoint and its cosmetic name."""
    folder = Path(backbone).expanduser()
    if backbone.strip() and folder.is_dir():
        return folder, folder.resolve().name
    if hub.NAME.fullmatch(backbone) and not folder.exists():
        return hub.download(backbone), backbone.rsplit("/", 1)[-1]
    raise MfhcaError(
        f"backbone {backbone}: no such folder; pass a folder with {CONFIG} and the weights, or a hub name"
    )


def _model_type(config: dict[str, Any], backbone: str) -> str:
    model_type = config.get("model_type")
    if model_type in SPECTROGRAM_ENCODERS:
        raise MfhcaError(
            f"backbone {backbone}: the input of a {model_type} model is a spectrogram, not samples, so it is not "
            f"supported; use one of {', '.join(ARCHITECTURES)}"
        )
    if model_type not in ARCHITECTURES:
        raise MfhcaError(
            f"backbone {backbone}: model type {model_type!r} is not supported; use one of {', '.join(ARCHITECTURES)}"
        )
    if config.get("add_adapter"):
        raise MfhcaError(
            f"backbone {backbone}: its adapter changes the frame rate; use the checkpoint without add_adapter"
        )
    return str(model_type)


def _whole_numbers(
    config: dict[str, Any],
    field: str,
    default: int | tuple[int, ...],
    backbone: str,
    most: int = MOST_SAMPLES_PER_FRAME,
) -> tuple[int, ...]:
    """A field of config.json with one or more whole numbers from 1 to `most`."""
    value = config.get(field, default)
    numbers = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not numbers or not all(type(number) is int and 1 <= number <= most for number in numbers):
        raise MfhcaError(
            f"backbone {backbone}: {CONFIG} is malformed ({field} is {value!r}, expected whole numbers from 1 to "
            f"{most}); download it again"
        )
    return numbers


def check(backbone: Backbone, recipe: Ssl) -> None:
    """Refuses a recipe that does not fit the checkpoint, without loading it.

    Raises:
        MfhcaError: another sample rate, a layer it does not have, or segments too short for one frame.
    """
    if backbone.sample_rate != recipe.sample_rate:
        raise MfhcaError(
            f"backbone {backbone.name}: expects {backbone.sample_rate} Hz, "
            f"the recipe has {recipe.sample_rate} Hz; use another encoder"
        )
    if isinstance(recipe.layer, int) and not -1 <= recipe.layer <= backbone.layers:
        raise MfhcaError(
            f"backbone {backbone.name}: has no layer {recipe.layer}; choose 0 (input of the first layer) to "
            f"{backbone.layers}, -1 for the final output, or {ALL_LAYERS}"
        )
    if backbone.frames(recipe.segment_samples) < 1:
        raise MfhcaError(
            f"backbone {backbone.name}: segments of {recipe.segment_samples} samples are too short for it"
        )


def frame_shape(backbone: Backbone, recipe: Ssl) -> tuple[int, ...]:
    """Shape of one segment's features: (T, D), or (M, T, D) for all M layers, the input of the first included."""
    shape = (backbone.frames(recipe.segment_samples), backbone.width)
    return (backbone.layers + 1, *shape) if recipe.layer == ALL_LAYERS else shape
