"""Small seeded checkpoints of every kind of encoder, saved by transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.segments import cut
from mfhca_cache.recipe.kinds import Ssl

SMALL: dict[str, Any] = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 8,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_buckets": 32,
    "conv_pos_kernel_size": 5,
    "tdnn_dim": [8] * 5,
    "xvector_output_dim": 8,
}
# Layer norm in the convolutions goes with an attention mask, as in the published large models.
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
VARIANTS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "hubert": ("HubertModel", {}, False),
    "hubert-large": ("HubertModel", LARGE, True),
    "wav2vec2": ("Wav2Vec2ForPreTraining", {}, False),
    "wav2vec2-large": ("Wav2Vec2ForCTC", LARGE, True),
    "wavlm": ("WavLMModel", {}, False),
    "wavlm-large": ("WavLMModel", LARGE, True),
    "data2vec-audio": ("Data2VecAudioModel", {}, True),
    "wav2vec2-conformer": ("Wav2Vec2ConformerModel", {"position_embeddings_type": "relative"}, True),
    "wav2vec2-conformer-rotary": ("Wav2Vec2ConformerForCTC", {"position_embeddings_type": "rotary"}, True),
    "unispeech": ("UniSpeechForPreTraining", {}, False),
    "unispeech-sat": ("UniSpeechSatForPreTraining", {}, False),
    "unispeech-sat-large": ("UniSpeechSatModel", LARGE, True),
}


def preprocessor(mask: bool, normalise: bool = True) -> str:
    return json.dumps(
        {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": 16000,
            "padding_side": "right",
            "padding_value": 0.0,
            "do_normalize": normalise,
            "return_attention_mask": mask,
        }
    )


def save_model(folder: Path, model_class: str, mask: bool = False, **changes: Any) -> Path:
    """A seeded model with random weights and its preprocessor."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    kind = getattr(transformers, model_class)
    kind(kind.config_class(**(SMALL | changes))).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(preprocessor(mask))
    return folder


def save_variants(root: Path) -> dict[str, Path]:
    """All of VARIANTS."""
    return {
        name: save_model(root / name, model_class, mask, **changes)
        for name, (model_class, changes, mask) in VARIANTS.items()
    }


def recipe_of(backbone: Backbone, **changes: Any) -> Ssl:
    values: dict[str, Any] = {
        "weights_sha256": backbone.weights_sha256,
        "config_sha256": backbone.config_sha256,
        "normalise": backbone.normalise,
        "attention_mask": backbone.attention_mask,
        "attention": backbone.attention,
    }
    return Ssl(**(values | changes))


def encoder_of(folder: Path, **changes: Any) -> Encoder:
    backbone = resolve(str(folder))
    return Encoder(backbone, recipe_of(backbone, **changes), device="cpu")


def speech(*seconds: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    cuts = [cut(rng.normal(0.01, 0.1, round(s * 16_000)).astype(np.float32), 48_000) for s in seconds]
    return np.concatenate([c[0] for c in cuts]), np.concatenate([c[1] for c in cuts])


def features(encoder: Encoder, segments: np.ndarray, lengths: np.ndarray, batch: int = 8) -> np.ndarray:
    inputs = encoder.prepare(segments, lengths)
    rows = range(0, len(lengths), batch)
    return np.concatenate([encoder.forward(inputs[i : i + batch], lengths[i : i + batch]) for i in rows])
