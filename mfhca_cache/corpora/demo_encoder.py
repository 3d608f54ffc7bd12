"""The demo's encoder: a very small HuBERT with seeded weights, in the transformers format.

It was never trained. With random weights throughout, nearly all information on the
demo's emotions is lost (a linear probe is at chance: the first normalisation removes
the mean of the spectrum, later layers blur the rest). Therefore the convolutions are
initialised as a filter bank: the first layer splits the signal into bands, the later
ones pass on a quarter of the channels, smoothed, and fill the others with random
differences in time. The transformer layers are random.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfhca_cache.common.files import write_atomically, write_json

SEED = 1
# Kernels and strides of the convolutions are those of HuBERT base, so that 48,000 samples give 149 frames here too.
CONFIG: dict[str, Any] = {
    "architectures": ["HubertModel"],
    "model_type": "hubert",
    "conv_dim": [64] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_bias": False,
    "feat_extract_norm": "group",
    "feat_extract_activation": "gelu",
    "feat_proj_layer_norm": True,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "hidden_act": "gelu",
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
    "do_stable_layer_norm": False,
    "vocab_size": 32,
}
# The last normalisation. The differences between utterances are small compared to what they have in common; with
# larger values a head learns in fewer steps.
OUTPUT = "encoder.layers.1.final_layer_norm.weight"
OUTPUT_SCALE = 3.0
# As in HuBERT base: inputs normalised to mean 0 and variance 1, no attention mask.
PREPROCESSOR: dict[str, Any] = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 16000,
    "padding_side": "right",
    "padding_value": 0.0,
    "do_normalize": True,
    "return_attention_mask": False,
}


def write(folder: Path) -> None:
    """Writes config.json, preprocessor_config.json and model.safetensors; the same bytes each time.

    Args:
        folder: an existing folder.

    Raises:
        MfhcaError: the folder cannot be written.
    """
    from safetensors.numpy import save

    write_json(folder / "config.json", CONFIG)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    write_atomically(folder / "model.safetensors", save(weights(), metadata={"format": "pt"}))


def weights() -> dict[str, NDArray[np.float32]]:
    """The seeded weights. They are drawn without transformers, whose import would take longer than everything else.

    Returns:
        Parameter name -> float32 array, as `transformers.HubertModel` names and shapes them.
    """
    generator = np.random.default_rng(SEED)
    state = {}
    for name, shape in sorted(_shapes()):
        if name.endswith("bias"):
            values = np.zeros(shape)
        elif "norm" in name or name.endswith(
            "original0"
        ):  # original0: the scale of a weight-normalised kernel
            values = np.ones(shape) * (OUTPUT_SCALE if name == OUTPUT else 1.0)
        elif name == "feature_extractor.conv_layers.0.conv.weight":
            values = _bands(shape, generator)
        elif name.startswith("feature_extractor"):
            values = _differences(shape, generator)
        else:
            # The residual path dominates, so that two random layers do not destroy the output of the convolutions.
            scale = 1.0 if name.startswith("feature_projection") else 0.15
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
            values = scale * fan_in**-0.5 * generator.standard_normal(shape)
        state[name] = values.astype(np.float32)
    return state


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of HuBERT's parameters with the settings above."""
    width, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]

    def affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]

    channels_in = 1
    for layer, (channels, kernel) in enumerate(zip(CONFIG["conv_dim"], CONFIG["conv_kernel"], strict=True)):
        yield f"feature_extractor.conv_layers.{layer}.conv.weight", (channels, channels_in, kernel)
        channels_in = channels
    yield from affine("feature_extractor.conv_layers.0.layer_norm", CONFIG["conv_dim"][0])
    yield from affine("feature_projection.layer_norm", channels_in)
    yield from affine("feature_projection.projection", width, channels_in)
    yield "masked_spec_embed", (width,)
    position, kernel = "encoder.pos_conv_embed.conv", CONFIG["num_conv_pos_embeddings"]
    yield f"{position}.bias", (width,)
    yield f"{position}.parametrizations.weight.original0", (1, 1, kernel)
    yield (
        f"{position}.parametrizations.weight.original1",
        (
            width,
            width // CONFIG["num_conv_pos_embedding_groups"],
            kernel,
        ),
    )
    yield from affine("encoder.layer_norm", width)
    for layer in range(CONFIG["num_hidden_layers"]):
        block = f"encoder.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from affine(f"{block}.attention.{name}", width, width)
        yield from affine(f"{block}.feed_forward.intermediate_dense", inner, width)
        yield from affine(f"{block}.feed_forward.output_dense", width, inner)
        yield from affine(f"{block}.layer_norm", width)
        yield from affine(f"{block}.final_layer_norm", width)


def _bands(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Windowed cosines from 0 to half the sample rate, with random phase and norm 1: (channels, 1, kernel)."""
    channels, _, kernel = shape
    cycles = np.linspace(0.0, 0.5, channels)[:, None] * np.arange(kernel)  # (channels, kernel)
    phase = generator.random((channels, 1))
    filters = np.cos(2 * np.pi * (cycles + phase)) * np.hanning(kernel + 2)[1:-1]
    normed: NDArray[np.float64] = filters / np.linalg.norm(filters, axis=1, keepdims=True)
    return normed[:, None]


def _differences(shape: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Smoothing filters in a quarter of the channels, random filters whose taps sum to zero in the others.

    Args:
        shape: (channels out, channels in, kernel of 2 or 3).
        generator: draws the filters.

    Returns:
        float64 of that shape.
    """
    out, channels_in, kernel = shape
    # With small values the activation is close to a square, so that its output follows the energy in each band
    # (at ten times the scale a linear probe on the demo loses 15 to 20 points).
    filters: NDArray[np.float64] = generator.standard_normal(shape)
    filters = 0.5 * (channels_in * kernel) ** -0.5 * (filters - filters.mean(axis=2, keepdims=True))
    smoothing = np.arange(out // 4)
    filters[smoothing] = 0.0
    filters[smoothing, smoothing] = [0.25, 0.5, 0.25] if kernel == 3 else [0.5, 0.5]
    return filters
