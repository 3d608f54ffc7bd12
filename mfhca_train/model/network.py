"""The MFHCA network (II.A, Fig. 1). Its parts: `mf` (II.B), `hca` (II.D), and for comparison `baseline` and others.

Shape letters, used in all modules of this folder:
    B  batch (segments)            T  spectrogram frames (300)     F  frequency bins (200)
    C  channels                    H, W  time and frequency extent of a feature map
    L  encoder frames (149)        D  encoder width (768 for HuBERT base)
    M  encoder layers              N  width of both sides (128)    K  classes

Where the paper leaves a choice, each variant is a named setting (docs/paper.md,
"Departures and variants"). Nothing here reads files; inputs arrive normalised.

The modules show the plain equations. On a CPU, `mfhca_train.model.cpu` replaces
some of them by faster code with equal results up to rounding.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.batch import Layers
from mfhca_train.model import cpu
from mfhca_train.model.baseline import AlexNet, MfccBranch
from mfhca_train.model.fusion import FusionInputs, Sizes, fusion_class
from mfhca_train.model.layer_sum import WeightedSum
from mfhca_train.model.mf import MultiSpatialFusion
from mfhca_train.model.pooling import (
    PoolNorm,
    mean_over_time,
    pool_cells,
    pooled_width,
    valid_mask,
    weighted_statistics,
)
from mfhca_train.model.recurrent import run_lstm


class Output(NamedTuple):
    """What the network returns for a batch.

    Attributes:
        logits: (B, K).
        features: f''_att of eq. 11, (B, 2N) or (B, 3N), what Fig. 3 shows.
        attention: weights of the fusion, (B, L), (B, D) or (B, H, L) by variant; None without attention.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor | None


class MFHCA(nn.Module):
    """The trainable network (Fig. 1) on a spectrogram and the frozen encoder's hidden states.

    Args:
        config: the network's settings.
        classes: K.
        ssl_frames, ssl_width: L and D of the cached hidden states; ignored for `inputs="spec"`.
        in_channels: channels of the spectrogram.
        mfcc_shape: frames and coefficients of the MFCCs; ignored without `mfcc`.
        ssl_layers: M, if the network learns a weighted sum of several layers; 0 for a single layer.
    """

    def __init__(
        self,
        config: ModelConfig,
        classes: int,
        ssl_frames: int = 149,
        ssl_width: int = 768,
        in_channels: int = 1,
        mfcc_shape: tuple[int, int] = (300, 40),
        ssl_layers: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        n = config.width
        fusion = fusion_class(config)
        self.has_spec, self.has_ssl = config.inputs != "ssl", config.inputs != "spec"
        self.has_fusion, self.has_layers = fusion is not None, ssl_layers > 0
        self.per_frame = self.has_fusion and config.fusion == "hca" and config.hca == "frames"
        self.dropout = nn.Dropout(config.dropout)
        spec_map = 0
        if self.has_spec:
            if config.spec_encoder == "alexnet":
                self.alexnet = AlexNet(config.alexnet_weights, in_channels)
            else:
                self.mf = MultiSpatialFusion(config, in_channels)
            rows, columns = self.spec_encoder.cells
            spec_map = self.spec_encoder.out_channels * (columns if self.per_frame else rows * columns)
            self.spec_out = nn.Linear(spec_map, n)  # 6C -> N: f_spec
        if config.mfcc:
            self.mfcc = MfccBranch(config, *mfcc_shape)
        if self.has_ssl:
            if self.has_layers:
                self.layers = WeightedSum(ssl_layers, config.ssl_layer == "weighted-norm")
            if config.bilstm:
                if ssl_width % 2:
                    raise MfhcaError(
                        f"the BiLSTM needs an even encoder width, found {ssl_width}; use model.bilstm=false"
                    )
                self.bilstm = nn.LSTM(ssl_width, ssl_width // 2, batch_first=True, bidirectional=True)
            if fusion is not None:
                guide = 2 * n if config.mfcc else n
                self.fusion = fusion(config, Sizes(ssl_frames, ssl_width, guide, spec_map))
            else:
                pooled = pooled_width(config, ssl_width)
                if config.pool_norm:
                    self.pool_norm = PoolNorm(pooled)
                self.ssl_out = nn.Linear(pooled, n)
        sides = int(self.has_spec) + int(self.has_ssl) + int(config.mfcc)
        self.classifier = nn.Sequential(  # three fully connected layers (II.A)
            nn.Dropout(config.dropout),
            nn.Linear(sides * n, n),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(n, n),
            nn.ReLU(),
            nn.Linear(n, classes),
        )

    @property
    def layer_weights(self) -> list[float]:
        """The weight of each layer in the learned sum, (M,), adding up to 1; empty for a single layer."""
        return self.layers.softmax_weights.detach().tolist() if self.has_layers else []

    @property
    def spec_encoder(self) -> MultiSpatialFusion | AlexNet:
        """The spectrogram's encoder."""
        return self.alexnet if self.config.spec_encoder == "alexnet" else self.mf

    def forward(
        self,
        spec: Tensor | None = None,
        ssl: Tensor | Layers | None = None,
        spec_valid: Tensor | None = None,
        ssl_valid: Tensor | None = None,
        mfcc: Tensor | None = None,
        mfcc_valid: Tensor | None = None,
    ) -> Output:
        """A batch of segments to logits.

        Args:
            spec: (B, 1, T, F), or None for `inputs="ssl"`.
            ssl: f_hubert, (B, L, D); several layers as (B, M, L, D) or `Layers`; None for `inputs="spec"`.
            spec_valid, ssl_valid, mfcc_valid: (B,) real frames of each. Used only with `mask_padding`;
                otherwise padding is treated like speech, as in the paper.
            mfcc: (B, T, 40) with the setting `mfcc`.
        """
        masked = self.config.mask_padding
        if not masked:
            spec_valid = ssl_valid = mfcc_valid = None
        sides: list[Tensor] = []
        spec_map = attention = None
        if self.has_spec:
            if spec is None or (masked and spec_valid is None):
                raise ValueError("this model needs spectrograms (and, with mask_padding, their valid frames)")
            spec_map, f_spec = self.spec_side(spec, spec_valid)  # II.B
            sides.append(f_spec)
        if self.config.mfcc:
            if mfcc is None or (masked and mfcc_valid is None):
                raise ValueError("this model needs MFCCs (and, with mask_padding, their valid frames)")
            sides.append(self.mfcc(mfcc, mfcc_valid))
        if self.has_ssl:
            if ssl is None or (masked and ssl_valid is None):
                raise ValueError(
                    "this model needs hidden states (and, with mask_padding, their valid frames)"
                )
            guide = torch.cat(sides, dim=-1) if sides else None
            rows = map_rows(self.config, spec_valid)
            side, attention = self.ssl_side(self.hidden_states(ssl), ssl_valid, spec_map, guide, rows)  # II.D
            sides.append(side)
        if self.training and self.config.modality_dropout and len(sides) > 1:
            sides[0] = self.drop_modality(sides[0])
        features = torch.cat(sides, dim=-1)  # f''_att, eq. 11
        if self.per_frame:
            features = mean_over_map(features, map_rows(self.config, spec_valid))
        return Output(self.classifier(features), features, attention)

    def spec_side(self, spec: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pooled map (B, 6C) and f_spec (B, N); for `hca=frames` (B, H, 3C) and (B, H, N).

        AlexNet's map has 6 x 6 cells: 36C, and 6C with H = 8 for `frames`, one time step per 0.4 s.
        """
        x = self.spec_encoder(spec, valid)  # (B, C, H, W)
        rows, columns = self.spec_encoder.cells
        cells = (x.shape[2] if self.per_frame else rows, columns)
        pooled = pool_cells(x, cells, map_rows(self.config, valid))  # (B, C, h, w)
        pooled = pooled.permute(0, 2, 1, 3).flatten(2) if self.per_frame else pooled.flatten(1)
        return pooled, functional.relu(self.spec_out(self.dropout(pooled)))

    def hidden_states(self, ssl: Tensor | Layers) -> Tensor:
        """f_hubert, (B, L, D): the input, or the learned weighted sum of its layers."""
        if self.has_layers:
            return cast(Tensor, self.layers(ssl))
        if isinstance(ssl, Layers) or ssl.ndim != 3:
            raise ValueError("this model needs hidden states of one layer, (B, L, D)")
        return ssl

    def ssl_side(
        self,
        hidden: Tensor,
        valid: Tensor | None,
        spec_map: Tensor | None,
        guide: Tensor | None,
        rows: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The encoder's side after fusion, (B, N) or (B, H, N), and the attention weights.

        Args:
            hidden, valid: f_hubert (B, L, D) and its real frames (B,); None treats padding like speech.
            spec_map, guide: see `FusionInputs`; None without a spectrogram.
            rows: (B,) real rows of the spectrogram's map.
        """
        mask = None if valid is None else valid_mask(valid, hidden.shape[1])
        if mask is not None:
            hidden = hidden.masked_fill(~mask[..., None], 0)
        context = self.with_context(hidden, valid) if self.config.bilstm else hidden  # f'_hubert, (B, L, D)
        if mask is not None:
            context = context.masked_fill(~mask[..., None], 0)
        if self.has_fusion and guide is not None and spec_map is not None:
            map_mask = valid_mask(rows, guide.shape[1]) if self.per_frame and rows is not None else None
            inputs = FusionInputs(guide, spec_map, hidden, context, mask, map_mask)
            output: tuple[Tensor, Tensor] = self.fusion(inputs)
            return output
        return functional.relu(self.ssl_out(self.dropout(self.pool_over_time(context, mask)))), None

    def pool_over_time(self, context: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, D) to the mean over time (B, D), or with `pooling=statistics` mean and deviation (B, 2D)."""
        if self.config.pooling == "statistics":
            real = torch.ones_like(context[..., 0], dtype=torch.float32) if mask is None else mask.float()
            pooled = weighted_statistics(context, real / real.sum(dim=1, keepdim=True))
        else:
            pooled = mean_over_time(context, mask)
        return cast(Tensor, self.pool_norm(pooled)) if self.config.pool_norm else pooled

    def drop_modality(self, f_spec: Tensor) -> Tensor:
        """f_spec, zeroed for some samples of the batch, so that the classifier does not rely on it alone."""
        keep = torch.rand(len(f_spec), device=f_spec.device) >= self.config.modality_dropout
        return f_spec * keep.view(-1, *[1] * (f_spec.ndim - 1))

    def with_context(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        """f'_hubert: the BiLSTM over f_hubert, (B, L, D) to (B, L, D); with `valid` over the real frames."""
        if cpu.is_faster(hidden):
            return cpu.bilstm(self.bilstm, hidden, valid)
        return run_lstm(self.bilstm, hidden, valid)


def map_rows(config: ModelConfig, valid: Tensor | None) -> Tensor | None:
    """Real rows of the spectrogram's map, (B,), for real frames (B,); None for None."""
    if valid is None:
        return None
    return (AlexNet if config.spec_encoder == "alexnet" else MultiSpatialFusion).map_rows(valid)


def mean_over_map(x: Tensor, rows: Tensor | None) -> Tensor:
    """(B, H, D), with a value for each row of the spectrogram's map, to the mean over the real rows (B, D)."""
    return mean_over_time(x, None if rows is None else valid_mask(rows, x.shape[1]))


def parameter_counts(model: MFHCA) -> dict[str, int]:
    """Trainable parameters of each top-level module, and their `total`."""
    counts = {
        name: sum(p.numel() for p in module.parameters() if p.requires_grad)
        for name, module in model.named_children()
    }
    counts = {name: count for name, count in counts.items() if count}
    return counts | {"total": sum(counts.values())}
