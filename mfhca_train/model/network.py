"""The MFHCA network (II.A): its parts are in `mf` (II.B), `hca` (II.D) and, for comparison, `baseline`.

Shape letters, used throughout:
    B  batch (segments)            T  spectrogram frames (300)     F  frequency bins (200)
    C  channels                    H, W  a feature map's time and frequency extent
    L  encoder frames (149)        D  encoder width (768 for HuBERT base)
    M  encoder layers, if several  N  width of both sides (128)    K  classes

Where the paper leaves a choice, each reading is a named option (README,
"Departures and readings"). Nothing here reads files; normalisation of the
inputs is data.py's business.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.data.batch import Layers
from mfhca_train.model.baseline import AlexNet, CoAttention, MfccBranch
from mfhca_train.model.cpu import fused
from mfhca_train.model.cpu.lstm import bilstm
from mfhca_train.model.hca import HierarchicalCooperativeAttention
from mfhca_train.model.layer_sum import WeightedSum
from mfhca_train.model.mf import MultiSpatialFusion
from mfhca_train.model.pooling import mean_over_time, pool_cells, valid_mask


class Output(NamedTuple):
    """What the network gives for a batch.

    Attributes:
        logits: (B, K).
        features: (B, N, 2N or 3N), f''_att of eq. 11, what Fig. 3 shows.
        attention: weights of the fusion, (B, L) or (B, D) or (B, H, L) by reading; None where there are none.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor | None


class MFHCA(nn.Module):
    """The trainable network (Fig. 1) on a spectrogram and the frozen encoder's hidden states.

    Args:
        config: the readings.
        classes: K.
        ssl_frames, ssl_width: L and D of the cached hidden states; unused for `inputs="spec"`.
        in_channels: spectrogram channels.
        mfcc_shape: frames and coefficients of the MFCCs; unused without `mfcc`.
        ssl_layers: M, where the hidden states of several layers come in and their weighted sum is learned;
            0 where one layer comes in.
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
        self.has_spec, self.has_ssl = config.inputs != "ssl", config.inputs != "spec"
        fusion = config.fusion if config.inputs == "both" else None
        self.fusion_name = fusion
        self.per_frame = fusion == "hca" and config.hca == "frames"
        self.dropout = nn.Dropout(config.dropout)
        if self.has_spec:
            if config.spec_encoder == "alexnet":
                self.alexnet = AlexNet(config.alexnet_weights, in_channels)
            else:
                self.mf = MultiSpatialFusion(config, in_channels)
            encoder = self.spec_encoder
            cells = encoder.cells[1] if self.per_frame else encoder.cells[0] * encoder.cells[1]
            spec_width = cells * encoder.out_channels
            self.spec_out = nn.Linear(spec_width, n)  # 6C -> N: f_spec
        if config.mfcc:
            self.mfcc = MfccBranch(config, *mfcc_shape)
        if self.has_ssl:
            if ssl_layers:
                self.layers = WeightedSum(ssl_layers, config.ssl_layer == "weighted-norm")
            if config.bilstm:
                if ssl_width % 2:
                    raise MfhcaError(
                        f"the BiLSTM needs an even encoder width, found {ssl_width}; use model.bilstm=false"
                    )
                self.bilstm = nn.LSTM(ssl_width, ssl_width // 2, batch_first=True, bidirectional=True)
            if fusion == "hca":
                self.fusion: nn.Module = HierarchicalCooperativeAttention(
                    config, ssl_frames, ssl_width, spec_width
                )
            elif fusion == "coattention":
                self.fusion = CoAttention(config, ssl_frames, ssl_width, 2 * n if config.mfcc else n)
            else:
                self.ssl_out = nn.Linear(ssl_width, n)
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
    def layer_shares(self) -> list[float]:
        """The weight of each layer in the sum, (M,), adding up to 1; empty where one layer comes in."""
        return self.layers.shares.detach().tolist() if hasattr(self, "layers") else []

    @property
    def spec_encoder(self) -> MultiSpatialFusion | AlexNet:
        """What reads the spectrogram."""
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
            spec: (B, 1, T, F) or None for `inputs="ssl"`.
            ssl: f_hubert, (B, L, D), of several layers (B, M, L, D) or `Layers`; None for `inputs="spec"`.
            spec_valid, ssl_valid, mfcc_valid: (B,) real frames of each; read only with `mask_padding`,
                otherwise padding is treated like speech, as in the paper.
            mfcc: (B, T, 40) with the setting `mfcc`.
        """
        masked = self.config.mask_padding
        spec_valid, ssl_valid = (spec_valid, ssl_valid) if masked else (None, None)
        sides: list[Tensor] = []
        f_spec = pooled = attention = None
        if self.has_spec:
            if spec is None or (masked and spec_valid is None):
                raise ValueError("this model reads spectrograms (and, with mask_padding, their valid frames)")
            pooled, f_spec = self.spec_side(spec, spec_valid)
            sides.append(f_spec)
        if self.config.mfcc:
            if mfcc is None or (masked and mfcc_valid is None):
                raise ValueError("this model reads MFCCs (and, with mask_padding, their valid frames)")
            sides.append(self.mfcc(mfcc, mfcc_valid if masked else None))
        if self.has_ssl:
            if ssl is None or (masked and ssl_valid is None):
                raise ValueError(
                    "this model reads hidden states (and, with mask_padding, their valid frames)"
                )
            guide = torch.cat(sides, dim=-1) if self.config.mfcc else f_spec
            side, attention = self.ssl_side(self.one_layer(ssl), ssl_valid, pooled, guide)
            sides.append(side)
        features = torch.cat(sides, dim=-1)  # f''_att, eq. 11
        if self.per_frame:
            features = self.mean_over_map(features, spec, spec_valid)
        return Output(self.classifier(features), features, attention)

    def spec_side(self, spec: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pooled map (B, 6C) and f_spec (B, N); with the `frames` reading (B, H, 3C) and (B, H, N).

        AlexNet's cells are 6 x 6: 36C and, for `frames`, 6C with H = 8, a time step each 0.4 s.
        """
        x = self.spec_encoder(spec)  # (B, C, H, W)
        cells = (x.shape[2], self.spec_encoder.cells[1]) if self.per_frame else self.spec_encoder.cells
        pooled = pool_cells(x, cells, None if valid is None else valid / spec.shape[2])  # (B, C, h, w)
        pooled = pooled.permute(0, 2, 1, 3).flatten(2) if self.per_frame else pooled.flatten(1)
        return pooled, functional.relu(self.spec_out(self.dropout(pooled)))

    def one_layer(self, ssl: Tensor | Layers) -> Tensor:
        """f_hubert, (B, L, D): what comes in, or the weighted sum of the layers that do."""
        if hasattr(self, "layers"):
            summed: Tensor = self.layers(ssl)
            return summed
        if isinstance(ssl, Layers) or ssl.ndim != 3:
            raise ValueError("this model reads one layer, (B, L, D)")
        return ssl

    def ssl_side(
        self, ssl: Tensor, valid: Tensor | None, pooled: Tensor | None, guide: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The encoder's side after fusion, (B, N) or (B, H, N), and the weights of the attention.

        The guide is f_spec (B, N) or (B, H, N), or with `mfcc` that and the MFCCs' side (B, 2N).
        """
        mask = None if valid is None else valid_mask(valid, ssl.shape[1])
        context = self.with_context(ssl) if self.config.bilstm else ssl  # f'_hubert, (B, L, D)
        side: tuple[Tensor, Tensor | None]
        if self.fusion_name == "hca":
            side = self.fusion(pooled if self.config.hca == "released" else guide, ssl, context, mask)
        elif self.fusion_name == "coattention":
            side = self.fusion(guide, context, mask)
        else:
            side = functional.relu(self.ssl_out(self.dropout(mean_over_time(context, mask)))), None
        return side

    def with_context(self, ssl: Tensor) -> Tensor:
        """The BiLSTM, (B, L, D) to (B, L, D)."""
        if fused.pays_for(ssl):
            halved = torch.is_autocast_enabled("cpu")
            return bilstm(ssl, self.bilstm, torch.get_autocast_dtype("cpu") if halved else None)
        return cast(Tensor, self.bilstm(ssl)[0])

    @staticmethod
    def mean_over_map(features: Tensor, spec: Tensor | None, valid: Tensor | None) -> Tensor:
        """(B, H, 2N) to (B, 2N): the mean over the map's frames, those that hold audio if `valid` is given."""
        if spec is None or valid is None:
            return features.mean(dim=1)
        frames = features.shape[1]
        return mean_over_time(features, valid_mask(valid * frames // spec.shape[2], frames))


def parameter_counts(model: MFHCA) -> dict[str, int]:
    """Trainable parameters of each top-level module, and their `total`."""
    counts = {
        name: sum(p.numel() for p in module.parameters() if p.requires_grad)
        for name, module in model.named_children()
    }
    counts = {name: count for name, count in counts.items() if count}
    return counts | {"total": sum(counts.values())}
