"""The frozen speech encoder: from segments to hidden states.

A checkpoint is loaded from the files that were hashed (see `checkpoint`), in eval
mode, and refused unless its weights fit exactly. No code from its folder is executed.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.hardware import resolve_device
from mfhca_cache.features.backbone import ARCHITECTURES, Backbone, check, frame_shape, resolve
from mfhca_cache.features.checkpoint import CONFIG, weight_files
from mfhca_cache.features.hub import one_line
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.kinds import Ssl

# Replaces frames that are masked in training. In eval mode nothing is masked, so it may be missing or unused.
MASK_VECTOR = "masked_spec_embed"


class Encoder:
    """A loaded checkpoint, frozen and in eval mode.

    Args:
        backbone: from `resolve`.
        recipe: layer, normalisation, attention mask, compute dtype and segment length.
        device: "auto", "cpu", "cuda" or "mps".
        batch_size: largest number of segments per forward pass.

    Attributes:
        device: the device it runs on.
        batch_size: as given.
        frame_shape: (T, D) of one segment, or (M, T, D) of all M layers.

    Raises:
        MfhcaError: the weights do not fit the model exactly, or there is no such layer or device.
    """

    def __init__(
        self, backbone: Backbone, recipe: Ssl, device: str = "auto", batch_size: int = BATCH_SIZE
    ) -> None:
        import torch
        from transformers import Wav2Vec2FeatureExtractor

        check(backbone, recipe)
        self.backbone, self.recipe, self.batch_size = backbone, recipe, batch_size
        self.device = resolve_device(device)
        if self.device.startswith("cuda"):
            # By default cuDNN rounds the inputs of float32 convolutions to 10 bits of mantissa.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        self.frame_shape = frame_shape(backbone, recipe)
        self._model = _load(backbone, recipe.attention).float().eval().requires_grad_(False)
        if isinstance(recipe.layer, int) and 0 <= recipe.layer < backbone.layers:
            # Layers above are not computed. One more layer is kept because the last one's output may be normalised.
            self._model.encoder.layers = self._model.encoder.layers[: recipe.layer + 1]
        self._model.to(self.device)
        # Made from the fields in the recipe, not from files, so that no field outside the recipe has an effect.
        self._preprocessor = Wav2Vec2FeatureExtractor(
            feature_size=1,
            sampling_rate=recipe.sample_rate,
            padding_value=0.0,
            do_normalize=recipe.normalise,
            return_attention_mask=recipe.attention_mask,
        )
        # transformers' WavLM combines two types of mask, which torch still accepts.
        warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)

    def prepare(self, segments: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The model's input: each segment without its padding through the preprocessor, then padded with zeros.

        A preprocessor that pads without returning a mask normalises speech and padding together and so raises
        the level by sqrt(3 s / duration). Therefore it is called without padding. Thread-safe.

        Args:
            segments: float32 (S, segment_samples).
            lengths: int (S,), samples of each segment without its padding.

        Returns:
            float32 (S, segment_samples).
        """
        inputs = np.zeros_like(segments)
        for row, length in enumerate(lengths):
            prepared = self._preprocessor(
                [segments[row, :length]], sampling_rate=self.recipe.sample_rate, padding=False
            )
            inputs[row, :length] = prepared["input_values"][0]
        return inputs

    def forward(self, inputs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Hidden states of one layer or of all. Padding is encoded (as in the paper) unless the checkpoint masks it.

        The model always gets `batch_size` segments, at least two, filled up with silence: torch chooses
        kernels by shape, so the last bits would depend on where a run was interrupted. With a fixed batch size
        no value depends on a segment's position or on the other segments. 8 and its multiples gave equal bits;
        some smaller sizes do not (torch has other kernels for a single small input, and for WavLM's attention).

        Args:
            inputs: float32 (B, segment_samples), from `prepare`; B at most `batch_size`.
            lengths: int (B,), samples of each segment without its padding.

        Returns:
            float32 (B, T, D), or (B, M, T, D) for all layers: first the input of the first layer, last the output.
        """
        import torch

        count, silent = len(inputs), max(2, self.batch_size) - len(inputs)
        inputs = np.pad(inputs, ((0, silent), (0, 0)))
        lengths = np.pad(lengths, (0, silent), constant_values=inputs.shape[1])
        samples = torch.from_numpy(inputs).to(self.device)
        mask = None
        if self.recipe.attention_mask:
            # At least one frame must remain unmasked, or attention would have no frame to attend to.
            unmasked = np.maximum(lengths, min(self.backbone.receptive_samples, inputs.shape[1]))
            mask = torch.from_numpy((np.arange(inputs.shape[1]) < unmasked[:, None]).astype(np.int64)).to(
                self.device
            )
        bfloat16, layer = self.recipe.compute_dtype == "bfloat16", self.recipe.layer
        kind = torch.device(self.device).type
        with torch.inference_mode(), torch.autocast(kind, dtype=torch.bfloat16, enabled=bfloat16):
            outputs = self._model(samples, attention_mask=mask, output_hidden_states=layer != -1)
            if isinstance(layer, int):
                states = outputs.last_hidden_state if layer < 0 else outputs.hidden_states[layer]
            else:
                # Large models normalise the output of their last layer; whether the last of `hidden_states` is
                # normalised depends on the version of transformers. SUPERB and layer -1 take the normalised one.
                every = (*outputs.hidden_states[:-1], outputs.last_hidden_state)
                states = torch.stack([state[:count].float() for state in every], dim=1)
        features: np.ndarray = states[:count].float().cpu().numpy()  # (B, T, D) or (B, M, T, D)
        if features.shape != (count, *self.frame_shape):
            raise MfhcaError(
                f"backbone {self.backbone.name}: computed features of shape {features.shape[1:]} per segment, expected "
                f"{self.frame_shape} by {CONFIG}; its files do not belong together"
            )
        return features


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Suppresses transformers' progress bars and loading report; `_check_weights` reports what matters."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _load(backbone: Backbone, attention: str) -> Any:
    import transformers

    # The class itself, not AutoModel: that would also execute classes from the folder.
    model_class = getattr(transformers, ARCHITECTURES[backbone.model_type].class_name)
    try:
        with _quiet_transformers():
            model, report = model_class.from_pretrained(
                backbone.folder,
                local_files_only=True,
                trust_remote_code=False,
                attn_implementation=attention,
                output_loading_info=True,
                weights_only=True,  # of weights in the old form (.bin) only tensors are read
                ignore_mismatched_sizes=True,  # so that they are reported, and refused below
            )
    except Exception as error:  # torch, safetensors and transformers raise their own types for a damaged file
        raise MfhcaError(
            f"backbone {backbone.name}: cannot be loaded ({one_line(error)}); download it again"
        ) from error
    # The recipe's key is made of these digests: the folder may have been replaced since they were computed.
    now = resolve(str(backbone.folder))
    if (now.weights_sha256, now.config_sha256) != (backbone.weights_sha256, backbone.config_sha256):
        raise MfhcaError(
            f"backbone {backbone.folder}: its files are not those that this run began with; run the command again, on "
            "a cluster with a folder that all machines share"
        )
    _check_weights(backbone, model, report)
    return model


def _check_weights(backbone: Backbone, model: Any, report: dict[str, Any]) -> None:
    """Refuses weights that were only partly used or partly initialised at random. Heads are ignored."""
    heads, unknown = _heads(report["unexpected_keys"], backbone, model)
    missing = sorted(key for key in report["missing_keys"] if key.rpartition(".")[2] != MASK_VECTOR)
    problems = [f"missing from the weights: {key}" for key in missing]
    problems += [f"in the weights, unknown to the model: {key}" for key in unknown]
    problems += [
        f"of another shape: {key}, {tuple(actual)} in the weights, {tuple(expected)} in the model"
        for key, actual, expected in sorted(report["mismatched_keys"])
    ]
    if problems:
        raise MfhcaError(
            f"backbone {backbone.name}: weights and {CONFIG} do not fit; download both again\n{listing(problems)}"
        )
    if heads:
        modules = sorted({key.partition(".")[0] for key in heads})
        log.LOG.debug("backbone %s: weights of heads ignored: %s", backbone.name, ", ".join(modules))


def _heads(unexpected: Iterable[str], backbone: Backbone, model: Any) -> tuple[list[str], list[str]]:
    """Splits weights that the model did not use into those of heads and those that may belong to the encoder.

    A checkpoint saved with a head (CTC, classification, speaker verification, pre-training) has the encoder's
    weights under a prefix ("hubert."), and all weights without the prefix are the head's. A checkpoint of the
    encoder alone has no prefix; there a head's name differs from the names of the encoder's own modules.
    """
    prefix = f"{model.base_model_prefix}."
    modules = {key.partition(".")[0] for key in model.state_dict()}
    heads: list[str] = []
    unknown: list[str] = []
    for key in sorted(unexpected):
        if key.rpartition(".")[2] == MASK_VECTOR:
            continue
        named_like_encoder = key.partition(".")[0] in modules and not _has_prefix(backbone, prefix)
        (unknown if key.startswith(prefix) or named_like_encoder else heads).append(key)
    return heads, unknown


def _has_prefix(backbone: Backbone, prefix: str) -> bool:
    """Whether the names of a checkpoint's weights start with a prefix."""
    import torch
    from safetensors import safe_open

    first, *parts = weight_files(backbone.folder, backbone.name)
    names: set[str] = set()
    for file in parts or [first]:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                names |= set(tensors.keys())
        else:
            names |= set(torch.load(file, map_location="meta", weights_only=True))
    return any(name.startswith(prefix) for name in names)
