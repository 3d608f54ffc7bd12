"""The demo's encoder: a very small HuBERT with seeded weights, in the transformers format.

It has never seen speech. Weights that are random throughout lose nearly all that
tells the demo's emotions apart (a linear probe is at chance: the first
normalisation removes the spectrum's mean, the layers after it blur the rest), so
the convolutions are set up as a bank of filters: the first layer splits the
bands, the later ones hand a quarter of the channels on, smoothed, and fill the
others with random differences in time. The transformer layers are random.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfhca_cache.files import write_atomically, write_json

if TYPE_CHECKING:
    import torch

SEED = 1
# The convolutions' kernels and strides are HuBERT base's, so that 48,000 samples give 149 frames here too.
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
# The last normalisation. Utterances differ by little beside what all have in common; larger values let a head
# learn in fewer steps.
OUTPUT = "encoder.layers.1.final_layer_norm.weight"
OUTPUT_SCALE = 3.0
# As HuBERT base's: each input to mean 0 and variance 1, and no attention mask.
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
    from safetensors.torch import save

    write_json(folder / "config.json", CONFIG)
    write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    write_atomically(folder / "model.safetensors", save(weights(), metadata={"format": "pt"}))


def weights() -> dict[str, torch.Tensor]:
    """The seeded weights, drawn here and not by transformers, whose initialisation may change.

    Returns:
        Parameter name -> float32 tensor, as `transformers.HubertModel` names them.
    """
    import torch
    from transformers import HubertConfig, HubertModel

    with torch.device("meta"):  # names and shapes alone
        model = HubertModel(HubertConfig(**CONFIG))
    generator = torch.Generator().manual_seed(SEED)
    state = {}
    for name, value in sorted(model.state_dict().items()):
        shape = tuple(value.shape)
        if name.endswith("bias"):
            state[name] = torch.zeros(shape)
        elif "norm" in name or name.endswith("original0"):  # original0: the scale of a normalised kernel
            state[name] = torch.ones(shape) * (OUTPUT_SCALE if name == OUTPUT else 1.0)
        elif name == "feature_extractor.conv_layers.0.conv.weight":
            state[name] = _bands(shape, generator)
        elif name.startswith("feature_extractor"):
            state[name] = _differences(shape, generator)
        else:
            # The residual path dominates, so that two random layers do not undo what the convolutions found.
            scale = 1.0 if name.startswith("feature_projection") else 0.15
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
            state[name] = scale * fan_in**-0.5 * torch.randn(shape, generator=generator)
    return state


def _bands(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Windowed cosines, 0 to half the sample rate, random phase, norm 1: float32 (channels, 1, kernel)."""
    import torch

    channels, _, kernel = shape
    cycles = torch.linspace(0.0, 0.5, channels)[:, None] * torch.arange(kernel)  # (channels, kernel)
    phase = torch.rand(channels, 1, generator=generator)
    filters = torch.cos(2 * torch.pi * (cycles + phase)) * torch.hann_window(kernel + 2, periodic=False)[1:-1]
    return (filters / filters.norm(dim=1, keepdim=True))[:, None]


def _differences(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A quarter of the channels smoothed and handed on, the others random filters whose taps sum to zero.

    Args:
        shape: (channels out, channels in, kernel of 2 or 3).
        generator: the chance in the filters.

    Returns:
        float32 of that shape.
    """
    import torch

    out, into, kernel = shape
    # Small values keep the activation near a square law, so that its output follows the energy in each band
    # (with ten times the scale a linear probe on the demo loses 15 to 20 points).
    filters = torch.randn(shape, generator=generator)
    filters = 0.5 * (into * kernel) ** -0.5 * (filters - filters.mean(dim=2, keepdim=True))
    smoothing = torch.tensor([0.25, 0.5, 0.25] if kernel == 3 else [0.5, 0.5])
    kept = torch.arange(out // 4)
    filters[kept] = 0.0
    filters[kept, kept] = smoothing
    return filters
