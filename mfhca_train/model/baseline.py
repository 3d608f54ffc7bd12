"""The parts of the paper's baseline, "co-attention [13]": Zou et al. 2022, CA-MSER. Shape letters as in `model`.

Complete it is `spec_encoder=alexnet`, `mfcc=true`, `fusion=coattention` and
`bilstm=false`: AlexNet's features of the spectrogram (9,216) and a BiLSTM's of
the MFCCs (153,600) become N values each; both together weigh the L encoder
frames; the weighted sum becomes N values more; three fully connected layers
judge the 3 N. What the paper leaves open follows the code its authors published.

With D = 768, L = 149, K = 4 it has 25,685,209 trainable parameters where that
code has 25,700,697 (25.7 M, its own encoder and AlexNet's unused classifier not
counted). The 15,488 fewer are the first layer's: our spectrogram has one
channel, theirs three equal ones.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.pooling import valid_mask

MFCC_UNITS, MFCC_LAYERS = 256, 2  # of the BiLSTM over the MFCCs
MFCC_DROPOUT = 0.5  # between its layers (the baseline's code)
SMALLEST = 63  # frames and bins of a spectrogram, of which AlexNet's last pooling leaves one cell


class AlexNet(nn.Module):
    """The convolutions of torchvision's AlexNet, with its names, on a spectrogram of any size from 63 x 63.

    From scratch the weights are Xavier-uniform and the biases zero, as in the baseline's code.

    Args:
        weights: "none", or "imagenet" for torchvision's trained ones. These stand for an image of three
            channels; one channel in their place gets their sum, which is the same as three equal channels.
        in_channels: of the spectrogram.
    """

    cells = (6, 6)  # that the map is averaged to: 256 x 6 x 6 = 9,216 values

    def __init__(self, weights: str = "none", in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.out_channels = 256
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if weights == "imagenet":
            state = imagenet_weights()
            first = state["features.0.weight"]  # (64, 3, 11, 11)
            if in_channels == 1:
                state["features.0.weight"] = first.sum(dim=1, keepdim=True)
            self.load_state_dict(state)

    def forward(self, spec: Tensor) -> Tensor:
        """(B, 1, T, F) to a map (B, 256, H, W), H and W about 1/32 of T and F: 8 x 5 for 300 x 200."""
        if min(spec.shape[2:]) < SMALLEST:
            size = " x ".join(str(n) for n in spec.shape[2:])
            raise MfhcaError(
                f"model.spec_encoder=alexnet needs spectrograms of at least {SMALLEST} x {SMALLEST}, "
                f"these are {size}; use model.spec_encoder=mf"
            )
        features: Tensor = self.features(spec)
        return features


def imagenet_weights() -> dict[str, Tensor]:
    """torchvision's trained AlexNet, the convolutions alone; downloaded where torch has not got it yet.

    Raises:
        MfhcaError: torchvision is not installed, or the weights can be neither found nor downloaded.
    """
    setting = "model.alexnet_weights=imagenet"
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise MfhcaError(
            f"{setting} needs torchvision ({error}); run `pip install torchvision`, or leave the setting out"
        ) from error
    try:
        state = models.AlexNet_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise MfhcaError(
            f"{setting}: torchvision's weights cannot be had ({error}); put alexnet-owt-7be5be79.pth into "
            f"{torch.hub.get_dir()}/checkpoints, or leave the setting out"
        ) from error
    return {name: tensor for name, tensor in state.items() if name.startswith("features.")}


class MfccBranch(nn.Module):
    """The baseline's third input: a two-layer BiLSTM over the MFCCs, flattened, and a fully connected layer.

    Args:
        config: `width` and `dropout` are read.
        frames, coefficients: T and the number of values of a frame (300 and 40).
    """

    def __init__(self, config: ModelConfig, frames: int, coefficients: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            coefficients, MFCC_UNITS, MFCC_LAYERS, batch_first=True, dropout=MFCC_DROPOUT, bidirectional=True
        )
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(frames * 2 * MFCC_UNITS, config.width)

    def forward(self, mfcc: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, 40) to (B, N); with `valid` (B,) the outputs at padded frames become zero."""
        if mfcc.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):  # many processors have no LSTM in bfloat16
                x = self.lstm(mfcc.float())[0]
        else:
            x = self.lstm(mfcc)[0]  # (B, T, 512)
        if valid is not None:
            x = x * valid_mask(valid, x.shape[1])[..., None]
        return functional.relu(self.out(self.dropout(x.flatten(1))))


class CoAttention(nn.Module):
    """The baseline's fusion: a guide gives a weight per encoder frame, without softmax.

    Args:
        config: `width` and `dropout` are read.
        frames, width: L and D.
        guide: G, values of the guide: N of f_spec, or 2 N of f_spec and the MFCCs' side.
    """

    def __init__(self, config: ModelConfig, frames: int, width: int, guide: int) -> None:
        super().__init__()
        self.weights = nn.Linear(guide, frames)
        self.out = nn.Linear(width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, guide: Tensor, context: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, G) and (B, L, D) to (B, N) and the weights (B, L)."""
        weights = functional.relu(self.weights(self.dropout(guide)))
        weights = weights if mask is None else weights * mask
        pooled = torch.einsum("bl,bld->bd", weights, context)
        return functional.relu(self.out(self.dropout(pooled))), weights
