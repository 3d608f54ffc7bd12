"""The frozen speech encoder at work: from segments to hidden states.

A checkpoint is always loaded from the folder whose files were hashed (see
`backbone`), in eval mode, and refused unless its weights fit exactly.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.hardware import resolve_device
from mfhca_cache.features.backbone import (
    CONFIG,
    PREPROCESSOR,
    Backbone,
    check,
    frame_shape,
    one_line,
    resolve,
)
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.kinds import Ssl

__all__ = ["Backbone", "Encoder", "resolve"]

# What a sound checkpoint may lack, and why that cannot change a feature.
MAY_BE_MISSING: Final = (
    r"(.*\.)?masked_spec_embed",  # replaces frames masked in training; eval mode masks none
)
# What a sound checkpoint may have besides the encoder, and what it is.
MAY_BE_EXTRA: Final = (
    r"(.*\.)?masked_spec_embed",  # as above, where the configuration masks nothing
    r"lm_head\..*",  # CTC head of a checkpoint fine-tuned for recognition
    r"(.*\.)?(quantizer|project_q|project_hid)\..*",  # contrastive pre-training of wav2vec2
    r"(.*\.)?(final_proj|label_embs_concat)(\..*)?",  # masked prediction in HuBERT's and WavLM's pre-training
    r"(projector|classifier)\..*",  # heads of utterance classification
)


class Encoder:
    """A loaded checkpoint, frozen and in eval mode.

    Args:
        backbone: from `resolve`.
        recipe: layer, normalisation, mask rule, compute dtype and segment length.
        device: "auto", "cpu", "cuda" or "mps".
        batch_size: the most segments of one forward pass.

    Attributes:
        device: the device it runs on.
        batch_size: as given.
        frame_shape: (T, D) of one segment, or (M, T, D) of all M layers.

    Raises:
        MfhcaError: weights that do not fit the model exactly, a layer or a device that is not there.
    """

    def __init__(
        self, backbone: Backbone, recipe: Ssl, device: str = "auto", batch_size: int = BATCH_SIZE
    ) -> None:
        import torch

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
            # What lies above is not computed; one layer more stays, for the last one's output may be scaled.
            self._model.encoder.layers = self._model.encoder.layers[: recipe.layer + 1]
        self._model.to(self.device)
        self._preprocessor = _load_preprocessor(backbone)
        # WavLM as transformers writes it mixes two kinds of mask, which torch still takes.
        warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)

    def prepare(self, segments: np.ndarray, real: np.ndarray) -> np.ndarray:
        """The model's input: each segment's REAL samples through the checkpoint's preprocessor, then zeros.

        Asked to pad, a preprocessor that returns no mask scales speech and padding together and so raises the
        level by sqrt(3 s / duration); it is called without padding. Threads may call this at the same time.

        Args:
            segments: float32 (S, segment_samples).
            real: int (S,), real samples per segment.

        Returns:
            float32 (S, segment_samples).
        """
        inputs = np.zeros_like(segments)
        for row, samples in enumerate(real):
            prepared = self._preprocessor(
                [segments[row, :samples]], sampling_rate=self.recipe.sample_rate, padding=False
            )
            inputs[row, :samples] = prepared["input_values"][0]
        return inputs

    def forward(self, inputs: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Hidden states of one layer or all. Padding is encoded like sound (paper), unless the checkpoint masks it.

        The model always sees `batch_size` segments and at least two, silence where there are fewer: kernels
        are chosen by shape, so last bits would depend on where a run was interrupted. At one batch size no
        value depends on a segment's place or company; 8 and its multiples were not seen to differ either, but
        with fewer some do (torch convolves a lone small input, and attends for WavLM, in another way).

        Args:
            inputs: float32 (B, segment_samples), from `prepare`; B at most `batch_size`.
            real: int (B,), real samples per segment.

        Returns:
            float32 (B, T, D), or (B, M, T, D) of all layers: first what enters the first, last the output.
        """
        import torch

        count, silent = len(inputs), max(2, self.batch_size) - len(inputs)
        inputs = np.pad(inputs, ((0, silent), (0, 0)))
        real = np.pad(real, (0, silent), constant_values=inputs.shape[1])
        samples = torch.from_numpy(inputs).to(self.device)
        mask = None
        if self.recipe.attention_mask:
            # A segment shorter than one frame's view would leave attention nothing to attend to.
            seen = np.maximum(real, min(self.backbone.receptive_samples, inputs.shape[1]))
            mask = torch.from_numpy((np.arange(inputs.shape[1]) < seen[:, None]).astype(np.int64)).to(
                self.device
            )
        low, layer = self.recipe.compute_dtype == "bfloat16", self.recipe.layer
        with (
            torch.inference_mode(),
            torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=low),
        ):
            outputs = self._model(samples, attention_mask=mask, output_hidden_states=layer != -1)
            if isinstance(layer, int):
                states = outputs.last_hidden_state if layer < 0 else outputs.hidden_states[layer]
            else:
                # Large models normalise what leaves their last layer; whether that is the last of `hidden_states`
                # depends on the version of transformers. SUPERB takes it, and so does layer -1.
                every = (*outputs.hidden_states[:-1], outputs.last_hidden_state)
                states = torch.stack([state[:count].float() for state in every], dim=1)
        features: np.ndarray = states[:count].float().cpu().numpy()  # (B, T, D) or (B, M, T, D)
        if features.shape != (count, *self.frame_shape):
            raise MfhcaError(
                f"backbone {self.backbone.name}: gave {features.shape[1:]} values per segment where {CONFIG} "
                f"promises {self.frame_shape}; its files do not belong together"
            )
        return features


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps transformers' bars and load report off the terminal; `_refuse` says what matters in them."""
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
    from transformers import AutoModel

    try:
        with _quietly():
            model, report = AutoModel.from_pretrained(
                backbone.folder,
                local_files_only=True,
                attn_implementation=attention,
                output_loading_info=True,
                weights_only=True,  # the default; of weights in the old form (.bin) tensors are read and nothing else
                ignore_mismatched_sizes=True,  # so that they are reported, and refused below
            )
    except Exception as error:  # torch, safetensors and transformers each raise their own for a damaged file
        raise MfhcaError(
            f"backbone {backbone.name}: cannot be loaded ({one_line(error)}); download it again"
        ) from error
    _refuse(backbone.name, report)
    return model


def _refuse(name: str, report: dict[str, Any]) -> None:
    """Refuses weights that were only partly used or partly invented."""

    def others(keys: Any, allowed: tuple[str, ...]) -> list[str]:
        return sorted(key for key in keys if not any(re.fullmatch(pattern, key) for pattern in allowed))

    problems = [f"missing from the weights: {key}" for key in others(report["missing_keys"], MAY_BE_MISSING)]
    problems += [
        f"in the weights, unknown to the model: {key}"
        for key in others(report["unexpected_keys"], MAY_BE_EXTRA)
    ]
    problems += [
        f"of another shape: {key}, {tuple(found)} in the weights, {tuple(expected)} in the model"
        for key, found, expected in sorted(report["mismatched_keys"])
    ]
    if problems:
        raise MfhcaError(
            f"backbone {name}: weights and {CONFIG} do not fit; download both again\n{listing(problems)}"
        )


def _load_preprocessor(backbone: Backbone) -> Any:
    from transformers import AutoFeatureExtractor

    try:
        with _quietly():
            preprocessor = AutoFeatureExtractor.from_pretrained(backbone.folder, local_files_only=True)
    except Exception as error:  # whatever a malformed file makes transformers raise
        raise MfhcaError(
            f"backbone {backbone.name}: {PREPROCESSOR} cannot be used ({one_line(error)})"
        ) from error
    if bool(getattr(preprocessor, "do_normalize", False)) != backbone.normalise:
        raise MfhcaError(
            f"backbone {backbone.name}: {PREPROCESSOR} names a preprocessor without do_normalize"
        )
    return preprocessor
