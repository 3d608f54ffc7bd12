"""The head as the paper's authors released it, written again to compare speed: eager, float32, NCHW.

Sizes and order of operations are theirs; names are ours. It shares nothing with
`mfhca_train.model.network`, so that improvements there do not change it. Parameter
counts are checked by `tests/test_bench.py`: MF 119,592, BiLSTM 3,545,088, the rest
1,053,902, of which the released code never uses 38,293 (left out here).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT = (3, 256, 384)  # a grey image three times, frequency by time
RATE = 16  # average pooling of the GRF block's second branch
DROPOUT = 0.1
LEARNING_RATE = 1e-5  # AdamW


class Block(nn.Module):
    """Their global receptive field block, (B, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = max(8, channels // 32)
        self.squeeze = nn.Conv2d(channels, middle, 1)
        self.squeeze_norm = nn.BatchNorm2d(middle)
        self.excite_h = nn.Conv2d(middle, channels, 1)
        self.excite_w = nn.Conv2d(middle, channels, 1)
        self.refine = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.context = nn.Sequential(
            nn.AvgPool2d(RATE),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        z = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], dim=2)
        f = functional.hardswish(self.squeeze_norm(self.squeeze(z)))
        f_h, f_w = f.split([height, width], dim=2)
        gated = x * torch.sigmoid(self.excite_h(f_h)) * torch.sigmoid(self.excite_w(f_w)).transpose(2, 3)
        low = functional.interpolate(self.context(x), size=(height, width), mode="nearest")
        return functional.relu(x + self.refine(gated) + (x + low))


class Fusion(nn.Module):
    """Their MF, (B, 3, 256, 384) to (B, 288)."""

    def __init__(self) -> None:
        super().__init__()
        self.tall = nn.Sequential(nn.Conv2d(3, 8, (10, 2), padding=(4, 0)), nn.BatchNorm2d(8), nn.ReLU())
        self.wide = nn.Sequential(nn.Conv2d(3, 8, (2, 8), padding=(0, 3)), nn.BatchNorm2d(8), nn.ReLU())
        layers: list[nn.Module] = [nn.MaxPool2d(3, 2), Block(16)]
        for before, after in ((16, 32), (32, 48)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), Block(after)]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten())

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = self.layers(torch.cat([self.tall(image), self.wide(image)], dim=1))
        return pooled


class Released(nn.Module):
    """Their trained network without its encoder: images and hidden states (B, 149, 768) to (B, 4) logits."""

    def __init__(self, frames: int = 149, width: int = 768, classes: int = 4) -> None:
        super().__init__()
        self.mf = Fusion()
        self.bilstm = nn.LSTM(width, width // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(DROPOUT)
        self.spec_out = nn.Linear(288, 128)
        self.attend = nn.Linear(288, frames)
        self.mix = nn.Linear(32 * 32, width)
        self.ssl_out = nn.Linear(width, 128)
        self.hidden = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.out = nn.Linear(128, classes)

    def forward(self, image: Tensor, states: Tensor) -> Tensor:
        pooled = self.mf(image)
        spec = functional.relu(self.spec_out(self.dropout(pooled)))  # (B, 128)
        weights = functional.relu(self.attend(self.dropout(pooled)))  # (B, L), no softmax
        context, _ = self.bilstm(states)
        guide = torch.bmm(weights[:, None], context).reshape(len(states), -1, 32)  # (B, D / 32, 32)
        low = functional.adaptive_avg_pool2d(states, (32, guide.shape[1]))  # (B, 32, D / 32)
        mixed = self.dropout(self.mix(torch.bmm(low, guide).flatten(1)))  # (B, D)
        x = torch.cat([spec, functional.relu(self.ssl_out(mixed))], dim=1)
        for layer in self.hidden:
            x = functional.relu(layer(self.dropout(x)))
        logits: Tensor = self.out(x)
        return logits


def counts(model: Released) -> tuple[int, int, int]:
    """Parameters of MF, of the BiLSTM, and of the rest."""
    parts = [sum(p.numel() for p in m.parameters()) for m in (model.mf, model.bilstm, model)]
    return parts[0], parts[1], parts[2] - parts[0] - parts[1]
