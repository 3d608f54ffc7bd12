"""Encoders of the paper's baseline, "co-attention [13]" (CA-MSER, Zou et al. 2022). Shape letters as in `network`.

The complete baseline is `spec_encoder=alexnet`, `mfcc=true`, `fusion=coattention`
(see `coattention`) and `bilstm=false`. AlexNet's features of the spectrogram (9,216)
and a BiLSTM's of the MFCCs (153,600) become N values each; both together weight the
L encoder frames; their weighted sum becomes another N values; three fully connected
layers classify the 3 N. Where the paper gives no details, the code its authors
published is followed.

With D = 768, L = 149, K = 4 it has 25,685,209 trainable parameters where that
code has 25,700,697 (25.7 M, without its own encoder and AlexNet's unused
classifier). The difference of 15,488 is in the first layer: our spectrogram has one
channel, theirs three equal ones.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import sha256_file
from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.masking import masked, row_mask
from mfhca_train.model.recurrent import run_lstm

# Of torchvision's weights: the file and the first digits of its SHA-256.
ALEXNET_FILE, ALEXNET_SHA256 = "alexnet-owt-7be5be79.pth", "7be5be79"
MFCC_UNITS, MFCC_LAYERS = 256, 2  # of the BiLSTM over the MFCCs
MFCC_DROPOUT = 0.5  # between its layers (the baseline's code)
MINIMUM_SIZE = (
    63  # frames and bins of the smallest spectrogram for which AlexNet's last pooling leaves a cell
)


class AlexNet(nn.Module):
    """The convolutions of torchvision's AlexNet, with its parameter names, for spectrograms of at least 63 x 63.

    Weights trained from scratch start Xavier-uniform and biases zero, as in the baseline's code.

    Args:
        weights: "none", or "imagenet" for torchvision's pretrained weights. These expect an image of three
            channels; for a single channel they are summed, which equals three equal channels.
        in_channels: channels of the spectrogram.
    """

    cells = (6, 6)  # time x frequency cells that the map is averaged to: 256 x 6 x 6 = 9,216 values

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

    @staticmethod
    def map_rows(frames: Tensor) -> Tensor:
        """Rows of the map of a spectrogram with these many frames, at least one."""
        rows = ((frames - 7) // 4 + 1).clamp(min=1)  # the first convolution; the others keep the size
        for _ in range(3):
            rows = ((rows - 3) // 2 + 1).clamp(min=1)  # pooling
        return rows

    def forward(self, spec: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, 1, T, F) to a map (B, 256, H, W), H and W about 1/32 of T and F: 8 x 5 for 300 x 200.

        With `valid` (B,), real frames, padding has no influence: the map is zero there after every layer.
        """
        if min(spec.shape[2:]) < MINIMUM_SIZE:
            size = " x ".join(str(n) for n in spec.shape[2:])
            raise MfhcaError(
                f"model.spec_encoder=alexnet needs spectrograms of at least {MINIMUM_SIZE} x {MINIMUM_SIZE}, "
                f"these are {size}; use model.spec_encoder=mf"
            )
        if valid is None:
            features: Tensor = self.features(spec)
            return features
        x, rows = masked(spec, row_mask(valid, spec.shape[2])), valid
        for layer in self.features:
            x, rows = layer(x), output_rows(layer, rows)
            x = masked(x, row_mask(rows, x.shape[2]))
        return x


def output_rows(layer: nn.Module, rows: Tensor) -> Tensor:
    """Real rows after a layer of AlexNet, of windows within the real rows of its input; at least one."""
    if isinstance(layer, nn.Conv2d):
        window, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
    elif isinstance(layer, nn.MaxPool2d):
        window, stride, padding = 3, 2, 0
    else:
        return rows
    return ((rows + 2 * padding - window) // stride + 1).clamp(min=1)


def imagenet_weights() -> dict[str, Tensor]:
    """The convolutions of torchvision's pretrained AlexNet; downloaded unless torch's cache has them.

    Raises:
        MfhcaError: torchvision is not installed, the weights could not be downloaded, or torch's cache has others.
    """
    setting = "model.alexnet_weights=imagenet"
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise MfhcaError(
            f"{setting} needs torchvision ({error}); run `pip install torchvision`, or remove the setting"
        ) from error
    file = Path(torch.hub.get_dir(), "checkpoints", ALEXNET_FILE)
    # The setting stands for these weights alone, and torch compares a file with its digest only when it downloads it.
    if file.exists() and not sha256_file(file).startswith(ALEXNET_SHA256):
        raise MfhcaError(
            f"{setting}: {file} has other content than torchvision's file of that name; remove it"
        )
    try:
        state = models.AlexNet_Weights.IMAGENET1K_V1.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise MfhcaError(
            f"{setting}: torchvision's weights could not be downloaded ({error}); put {file.name} into "
            f"{file.parent}, or remove the setting"
        ) from error
    return {name: tensor for name, tensor in state.items() if name.startswith("features.")}


class MfccBranch(nn.Module):
    """The baseline's third input: a two-layer BiLSTM over the MFCCs, flattened, and a fully connected layer.

    Args:
        config: `width` and `dropout` are used.
        frames, coefficients: T and the number of coefficients per frame (300 and 40).
    """

    def __init__(self, config: ModelConfig, frames: int, coefficients: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            coefficients, MFCC_UNITS, MFCC_LAYERS, batch_first=True, dropout=MFCC_DROPOUT, bidirectional=True
        )
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(frames * 2 * MFCC_UNITS, config.width)

    def forward(self, mfcc: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, 40) to (B, N); with `valid` (B,), over the real frames only, and outputs at padding are zero."""
        x = run_lstm(self.lstm, mfcc, valid)  # (B, T, 512)
        return functional.relu(self.out(self.dropout(x.flatten(1))))
