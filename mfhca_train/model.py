"""The MFHCA network, in the order of the paper (section II).

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

from mfhca_cache.errors import MfhcaError
from mfhca_train import fused
from mfhca_train.baseline import AlexNet, CoAttention, MfccBranch
from mfhca_train.config import ModelConfig
from mfhca_train.layers import Layers, WeightedSum
from mfhca_train.lstm import bilstm
from mfhca_train.pooling import mean_over_time, pool_cells, softmax_over_time, valid_mask

POOLED = (2, 3)  # time x frequency cells that MF's map is averaged to (released code)


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


# --- II.B Multi-Spatial Fusion -------------------------------------------------------------------


class GlobalReceptiveField(nn.Module):
    """GRF block (II.B, Fig. 2): Y = X + Y_a + Y_b.

    Args:
        channels: C of input and output.
        rate: r of eq. 7.
        released: the released code's block: 3x3 convolutions inside Y_a, a dilated F,
            nearest interpolation, a final ReLU and hard-swish, instead of eq. 3-8 as written.
    """

    def __init__(self, channels: int, rate: int, released: bool = False) -> None:
        super().__init__()
        middle = max(8, channels // 32)
        self.rate = rate
        self.released = released
        self.squeeze = nn.Conv2d(channels, middle, 1)  # F of eq. 3
        self.squeeze_norm = nn.BatchNorm2d(middle)
        self.excite_h = nn.Conv2d(middle, channels, 1)  # F_h of eq. 4
        self.excite_w = nn.Conv2d(middle, channels, 1)  # F_w of eq. 5
        dilation = 2 if released else 1
        self.context = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)  # F of eq. 7
        self.context_norm = nn.BatchNorm2d(channels)
        self.refine: nn.Module = nn.Identity()
        if released:
            self.refine = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
            )

    def gates(self, z_h: Tensor, z_w: Tensor) -> tuple[Tensor, Tensor]:
        """g_h and g_w, eq. 3-5.

        Args:
            z_h: (B, C, H, 1), the means over frequency of eq. 1.
            z_w: (B, C, 1, W), the means over time of eq. 2.

        Returns:
            (B, C, H, 1) and (B, C, 1, W), each in (0, 1).
        """
        z = torch.cat([z_h, z_w.transpose(2, 3)], dim=2)  # (B, C, H + W, 1)
        swish = functional.hardswish if self.released else functional.silu
        f = swish(self.squeeze_norm(self.squeeze(z)))  # eq. 3
        f_h, f_w = f.split([z_h.shape[2], z_w.shape[3]], dim=2)
        g_h = torch.sigmoid(self.excite_h(f_h))  # eq. 4
        g_w = torch.sigmoid(self.excite_w(f_w)).transpose(2, 3)  # (B, C, 1, W), eq. 5
        return g_h, g_w

    def forward(self, x: Tensor | fused.Normed) -> Tensor:
        """(B, C, H, W) to the same shape; padded frames are treated like any other."""
        if isinstance(x, fused.Normed):
            z_h, z_w, low = fused.PositionalPools.apply(*x, self.rate)
            g_h, g_w = self.gates(z_h, z_w)
            y: Tensor = fused.GatedSum.apply(*x, g_h, g_w, self.context_norm(self.context(low)))
            return y
        g_h, g_w = self.gates(x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True))  # eq. 1, 2
        low = self.context_norm(self.context(functional.avg_pool2d(x, self.rate)))  # (B, C, H/r, W/r)
        y_a = x * g_h * g_w  # eq. 6
        if self.released:
            y_b = x + functional.interpolate(low, size=x.shape[2:], mode="nearest")
            return functional.relu(x + self.refine(y_a) + y_b)
        y_b = x + functional.interpolate(low, size=x.shape[2:], mode="bilinear", align_corners=False)  # eq. 7
        return x + y_a + y_b  # eq. 8


class MultiSpatialFusion(nn.Module):
    """MF (II.B, Fig. 1): two parallel convolutions, pooling, GRF blocks with 3x3 convolutions between.

    Args:
        config: `grf`, `grf_channels` and `grf_rate` are read.
        in_channels: 1; the released code feeds three equal channels.
    """

    cells = POOLED

    def __init__(self, config: ModelConfig, in_channels: int = 1) -> None:
        super().__init__()
        channels = config.grf_channels
        if channels[0] % 2:
            raise MfhcaError(f"model.grf_channels: the first width must be even, found {channels[0]}")
        half = channels[0] // 2
        self.time_conv = nn.Conv2d(in_channels, half, (10, 2), padding=(4, 0))
        self.time_norm = nn.BatchNorm2d(half)
        self.frequency_conv = nn.Conv2d(in_channels, half, (2, 8), padding=(0, 3))
        self.frequency_norm = nn.BatchNorm2d(half)
        self.grfs, self.convs, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for index, width in enumerate(channels):
            if index:
                self.convs.append(nn.Conv2d(channels[index - 1], width, 3, padding=1))
                self.norms.append(nn.BatchNorm2d(width))
            self.grfs.append(GlobalReceptiveField(width, config.grf_rate, released=config.grf == "released"))
        self.out_channels = channels[-1]
        self.released = config.grf == "released"

    def forward(self, spec: Tensor) -> Tensor:
        """(B, 1, T, F) to a map (B, C, H, W), H and W about half of T and F."""
        if fused.pays_for(spec) and not self.released:
            x: Tensor = self.grfs[0](
                fused.norm_relu(self.both(spec), (self.time_norm, self.frequency_norm), pool=True)
            )
            for conv, norm, grf in zip(self.convs, self.norms, self.grfs[1:], strict=True):
                x = grf(fused.norm_relu(conv(x), (cast(nn.BatchNorm2d, norm),)))
            return x
        branches = (self.time_conv, self.time_norm), (self.frequency_conv, self.frequency_norm)
        x = torch.cat(
            [functional.relu(norm(conv(spec))) for conv, norm in branches], dim=1
        )  # (B, C, T-1, F-1)
        x = self.grfs[0](functional.max_pool2d(x, 3, stride=2))
        for conv, norm, grf in zip(self.convs, self.norms, self.grfs[1:], strict=True):
            x = grf(functional.relu(norm(conv(x))))
        return x

    def both(self, spec: Tensor) -> Tensor:
        """The two parallel convolutions as one of (10, 8), most of whose weights are zero: four times as fast."""
        weight = torch.cat(
            [
                functional.pad(self.time_conv.weight, (3, 3, 0, 0)),
                functional.pad(self.frequency_conv.weight, (0, 0, 4, 4)),
            ]
        )
        bias = torch.cat([self.time_conv.bias, self.frequency_conv.bias])  # type: ignore[list-item]
        return functional.conv2d(fused.channels_last(spec), weight, bias, padding=(4, 3))


# --- II.D Hierarchical Cooperative Attention -----------------------------------------------------


class HierarchicalCooperativeAttention(nn.Module):
    """HCA, eq. 9 and 10, in four readings (`config.hca`); eq. 11 is the concatenation in `MFHCA`.

    temporal: a query from f_spec attends over time, the weights pool f_hubert.
    channel:  f_spec weighs the frames of f', softmax over the D channels, f_hubert times those.
    frames:   as temporal, with a query for every frame of MF's map.
    released: no softmax; a 32 x 32 product of the two, as the released code has it.
    """

    def __init__(self, config: ModelConfig, frames: int, width: int, spec_width: int) -> None:
        super().__init__()
        self.reading = config.hca
        self.scale = width**-0.5 if config.hca_scale == "sqrt" else 1.0  # keeps the softmax from saturating
        self.dropout = nn.Dropout(config.dropout)
        n = config.width
        if self.reading in ("temporal", "frames"):
            self.query = nn.Linear(n, width)
            self.out = nn.Linear(width, n)
        elif self.reading == "channel":
            self.query = nn.Linear(n, frames)
            self.out = nn.Linear(frames, n)
        else:
            if width % 32:
                raise MfhcaError(
                    f"model.hca=released needs an encoder width divisible by 32, found {width}; choose another reading"
                )
            self.query = nn.Linear(spec_width, frames)
            self.mix = nn.Linear(32 * 32, width)
            self.out = nn.Linear(width, n)

    def forward(
        self, f_spec: Tensor, hidden: Tensor, context: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Eq. 9 and 10, then a fully connected layer.

        Args:
            f_spec: (B, N); (B, H, N) for `frames`; the pooled map (B, 6C) for `released`.
            hidden: f_hubert, (B, L, D).
            context: f'_hubert, (B, L, D).
            mask: (B, L), true at real frames, or None to treat padding like any frame.

        Returns:
            f'_att after its layer, (B, N) or (B, H, N), and f_att.
        """
        query = self.query(self.dropout(f_spec))
        if self.reading == "temporal":
            scores = self.scale * torch.einsum("bd,bld->bl", query, context)  # (B, L)
            f_att = softmax_over_time(scores, mask)  # eq. 9
            pooled = torch.einsum("bl,bld->bd", f_att, hidden)  # (B, D), eq. 10
        elif self.reading == "frames":
            scores = self.scale * torch.einsum("bhd,bld->bhl", query, context)  # (B, H, L)
            f_att = softmax_over_time(scores, None if mask is None else mask[:, None])
            pooled = torch.einsum("bhl,bld->bhd", f_att, hidden)  # (B, H, D)
        elif self.reading == "channel":
            weights = query if mask is None else query * mask
            f_att = torch.softmax(torch.einsum("bl,bld->bd", weights, context), dim=-1)  # (B, D)
            pooled = torch.einsum("bld,bd->bl", hidden, f_att)  # (B, L)
            pooled = pooled if mask is None else pooled * mask
        else:
            f_att = functional.relu(query if mask is None else query * mask)  # (B, L), no softmax
            summed = torch.einsum("bl,bld->bd", f_att, context)  # (B, D)
            low = functional.adaptive_avg_pool2d(hidden, (32, hidden.shape[2] // 32))  # (B, 32, D/32)
            product = low @ summed.reshape(len(summed), -1, 32)  # (B, 32, 32)
            pooled = self.mix(product.flatten(1))  # (B, D)
        return functional.relu(self.out(self.dropout(pooled))), f_att


# --- II.A Overall architecture -------------------------------------------------------------------


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
