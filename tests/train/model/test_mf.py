"""MF: eq. 1-8 written out, and the parameters of the released code."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional

from mfhca_train.config.settings import ModelConfig
from mfhca_train.model.mf import GlobalReceptiveField, MultiSpatialFusion
from mfhca_train.model.network import MFHCA, parameter_counts


def test_grf_agrees_with_equations_1_to_8_written_out() -> None:
    """An independent computation in loops, in evaluation mode."""
    torch.manual_seed(1)
    block = GlobalReceptiveField(3, 2).double().eval()
    for norm in (block.squeeze_norm, block.context_norm):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    _, c, h, w = x.shape

    def linear(layer: torch.nn.Conv2d, v: Tensor) -> Tensor:
        return layer.weight[:, :, 0, 0] @ v + layer.bias

    def normed(norm: torch.nn.BatchNorm2d, v: Tensor) -> Tensor:
        return (v - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps) * norm.weight + norm.bias

    def swish(v: Tensor) -> Tensor:
        return v / (1 + torch.exp(-v))

    def gate(layer: torch.nn.Conv2d, z: Tensor) -> Tensor:
        return 1 / (
            1 + torch.exp(-linear(layer, swish(normed(block.squeeze_norm, linear(block.squeeze, z)))))
        )

    g_h = [gate(block.excite_h, sum(x[0, :, j, i] for i in range(w)) / w) for j in range(h)]
    g_w = [gate(block.excite_w, sum(x[0, :, j, i] for j in range(h)) / h) for i in range(w)]
    low = torch.zeros(c, h // 2, w // 2, dtype=torch.float64)
    for j, i in itertools.product(range(h // 2), range(w // 2)):
        low[:, j, i] = x[0, :, 2 * j : 2 * j + 2, 2 * i : 2 * i + 2].mean(dim=(1, 2))
    low = torch.stack(
        [
            normed(
                block.context_norm,
                torch.stack(
                    [
                        sum(
                            (
                                block.context.weight[:, :, a + 1, b + 1] @ low[:, j + a, i + b]
                                for a, b in itertools.product((-1, 0, 1), repeat=2)
                                if 0 <= j + a < h // 2 and 0 <= i + b < w // 2
                            ),
                            start=block.context.bias,
                        )
                    ]
                )[0],
            )
            for j, i in itertools.product(range(h // 2), range(w // 2))
        ],
        dim=1,
    ).reshape(c, h // 2, w // 2)
    up = functional.interpolate(low[None], size=(h, w), mode="bilinear", align_corners=False)[0]
    y = torch.empty(c, h, w, dtype=torch.float64)
    for j, i in itertools.product(range(h), range(w)):
        here = x[0, :, j, i]
        y[:, j, i] = here + here * g_h[j] * g_w[i] + (here + up[:, j, i])
    torch.testing.assert_close(block(x)[0], y)


def test_parameters_of_the_released_modules_are_the_counted_ones() -> None:
    """Counted in the released code: MF 119,592 (its three equal input channels, without the layer behind it)."""
    mf = MultiSpatialFusion(ModelConfig(grf="released"), in_channels=3)
    assert sum(p.numel() for p in mf.parameters()) == 119_592
    counts = parameter_counts(MFHCA(ModelConfig(), 4))
    assert counts["mf"] == 54_120
    assert counts["bilstm"] == 3_545_088
    assert counts["total"] == sum(v for k, v in counts.items() if k != "total")
