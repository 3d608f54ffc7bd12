"""Batch norms over groups of channels, and comparisons of values and gradients with torch's."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def leaf(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def norms(scales: list[float], training: bool = True) -> list[nn.BatchNorm2d]:
    """Two norms over three channels in all, with these scales."""
    found = [nn.BatchNorm2d(1), nn.BatchNorm2d(2)]
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for norm, part in zip(found, torch.tensor(scales).split([1, 2]), strict=True):
            norm.weight.copy_(part)
            for other in (norm.bias, norm.running_mean):
                other.copy_(torch.randn(len(part), generator=generator))
            norm.running_var.copy_(torch.rand(len(part), generator=generator) + 0.5)
    return [norm.double().train(training) for norm in found]


def plainly(x: torch.Tensor, layers: list[nn.BatchNorm2d]) -> torch.Tensor:
    """The same norms and ReLU by torch."""
    return functional.relu(
        torch.cat([norm(part) for norm, part in zip(layers, x.split([1, 2], 1), strict=True)], 1)
    )


def assert_alike(
    found: torch.Tensor, expected: torch.Tensor, *pairs: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Equal values, and equal gradients of a random weighting of them, for each pair of leaves."""
    torch.testing.assert_close(found, expected)
    weights = leaf(*found.shape, seed=5).detach()
    mine = torch.autograd.grad((found * weights).sum(), [a for a, _ in pairs])
    theirs = torch.autograd.grad((expected * weights).sum(), [b for _, b in pairs])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def parameters(
    mine: list[nn.BatchNorm2d], theirs: list[nn.BatchNorm2d]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Corresponding parameters of two lists of norms."""
    return [
        (a, b)
        for p, q in zip(mine, theirs, strict=True)
        for a, b in zip(p.parameters(), q.parameters(), strict=True)
    ]
