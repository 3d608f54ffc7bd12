"""The same equations as in model.py with fewer passes over memory.

On a CPU the head is bound by memory, not arithmetic: a batch's feature maps are
hundreds of megabytes, and autograd's own formulas read and write each of them a
dozen times. The functions here compute the identical quantities sample by
sample, so that what one step writes the next still finds in the processor's
cache. `tests/test_fused.py` holds each against the plain form and against
finite differences.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


def pays_for(x: Tensor) -> bool:
    """True where these forms are the faster ones: float32 on a CPU. Elsewhere the plain form runs."""
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


@functools.lru_cache(maxsize=32)
def bilinear_matrix(low: int, high: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The (high, low) matrix of one-dimensional bilinear interpolation with half-pixel centres.

    Equal to `interpolate(mode="bilinear", align_corners=False)` along one axis; as a
    matrix product its gradient is deterministic.
    """
    with torch.inference_mode(False):  # the cached matrix may be made by an evaluation and used in training
        identity = torch.eye(low, dtype=torch.float64)[None]
        matrix = functional.interpolate(identity, size=high, mode="linear", align_corners=False)[0].T
        return matrix.contiguous().to(dtype=dtype, device=device)


class Origin(NamedTuple):
    """What a map is made of, x = ReLU(source * scale + shift): enough to make it again instead of keeping it."""

    source: Tensor  # (B, C, H, W)
    scale: Tensor  # (C, 1, 1)
    shift: Tensor  # (C, 1, 1)


def affine_relu(sample: Tensor, scale: Tensor, shift: Tensor, out: Tensor | None = None) -> Tensor:
    """ReLU(sample * scale + shift) of one sample (C, H, W)."""
    return torch.addcmul(shift, sample, scale, out=out).relu_()


class PositionalPools(Function):
    """z_h, z_w (eq. 1, 2) and AvgPool_r (eq. 7) of one map; their three gradients in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: int) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) to (B, C, H, 1), (B, C, 1, W) and (B, C, H // r, W // r)."""
        ctx.shape, ctx.rate = x.shape, rate
        samples = [
            (s.mean(dim=2, keepdim=True), s.mean(dim=1, keepdim=True), functional.avg_pool2d(s, rate))
            for s in x
        ]
        z_h, z_w, low = (torch.stack(parts) for parts in zip(*samples, strict=True))
        return z_h, z_w, low

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_h: Tensor, d_w: Tensor, d_low: Tensor) -> tuple[Tensor, None]:
        _, _, height, width = ctx.shape
        rate = ctx.rate
        d_x = d_h.new_empty(ctx.shape)
        rows, columns = d_low.shape[2] * rate, d_low.shape[3] * rate
        for d, h, w, low in zip(d_x, d_h / width, d_w / height, d_low / rate**2, strict=True):
            torch.add(h, w, out=d)
            spread = low.repeat_interleave(rate, dim=2)  # (C, h, W')
            d[:, :rows, :columns].unflatten(1, (-1, rate)).add_(spread[:, :, None])
        return d_x, None


class GatedSum(Function):
    """Eq. 6-8 in one function: Y = X + X g_h g_w + (X + Up(low)) = X (2 + g_h g_w) + Up(low)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, g_h: Tensor, g_w: Tensor, low: Tensor, origin: Origin | None = None
    ) -> Tensor:
        """(B, C, H, W), (B, C, H, 1), (B, C, 1, W), (B, C, h, w) to (B, C, H, W).

        With `origin`, what x was made of, x itself is not kept for the backward pass.
        """
        ctx.save_for_backward(g_h, g_w, *((x,) if origin is None else origin))
        ctx.low = low.shape[2:]
        along_h = bilinear_matrix(low.shape[2], x.shape[2], x.dtype, x.device)
        along_w = bilinear_matrix(low.shape[3], x.shape[3], x.dtype, x.device).T
        y = torch.empty_like(x)
        for out, sample, h, w, small in zip(y, x, g_h, g_w, low, strict=True):
            torch.matmul(along_h, small @ along_w, out=out)  # Up
            out.addcmul_(sample, (h * w).add_(2))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        g_h, g_w, source, *affine = ctx.saved_tensors
        along_h = bilinear_matrix(ctx.low[0], source.shape[2], source.dtype, source.device)
        along_w = bilinear_matrix(ctx.low[1], source.shape[3], source.dtype, source.device)
        d_x, d_h, d_w = torch.empty_like(source), torch.empty_like(g_h), torch.empty_like(g_w)
        d_low = source.new_empty(*source.shape[:2], *ctx.low)
        for b, d in enumerate(d_y.contiguous()):
            d_gate = d * (affine_relu(source[b], *affine) if affine else source[b])
            torch.matmul(d_gate, g_w[b].transpose(1, 2), out=d_h[b])
            torch.matmul(g_h[b].transpose(1, 2), d_gate, out=d_w[b])
            torch.mul(d, torch.mul(g_h[b], g_w[b], out=d_gate).add_(2), out=d_x[b])
            torch.matmul(along_h.T @ d, along_w, out=d_low[b])
        return d_x, d_h, d_w, d_low, None


class NormRelu(Function):
    """Batch norm with batch statistics, then ReLU; only the input is kept, and read twice on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
        """(B, C, H, W) and per-channel (C,) to (B, C, H, W).

        `mean` and `inverse`, 1 / sqrt(variance + eps), are of the batch; the gradient through
        them is part of this function, they get none of their own.
        """
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        affine = as_affine(weight, bias, mean, inverse)
        y = torch.empty_like(x)
        for sample, out in zip(x, y, strict=True):
            affine_relu(sample, *affine, out=out)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        affine = as_affine(weight, bias, mean, inverse)
        d_x = torch.empty_like(x)
        along_x, along_1 = (x.new_empty(x.shape[:2]) for _ in range(2))
        for sample, d, out, dot, total in zip(x, d_y, d_x, along_x, along_1, strict=True):
            torch.mul(d, affine_relu(sample, *affine) > 0, out=out)
            torch.linalg.vecdot(out.flatten(1), (sample - mean[:, None, None]).flatten(1), out=dot)
            torch.sum(out, dim=(1, 2), out=total)
        d_weight, d_bias = along_x.sum(dim=0) * inverse, along_1.sum(dim=0)
        scale, slope, offset = through_statistics(x, weight, mean, inverse, d_weight, d_bias)
        for sample, out in zip(x, d_x, strict=True):
            out.mul_(scale).add_(offset).addcmul_(sample, slope)
        return d_x, d_weight, d_bias, None, None


def as_affine(weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Batch norm as one multiplication and one addition: scale and shift, (C, 1, 1)."""
    scale = weight * inverse
    return scale[:, None, None], (bias - mean * scale)[:, None, None]


def through_statistics(
    x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, d_weight: Tensor, d_bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, slope and offset, (C, 1, 1): batch norm sends d back as d scale + x slope + offset."""
    n = x.numel() // x.shape[1]
    scale = weight * inverse
    slope = -scale * inverse * d_weight / n
    offset = -scale * d_bias / n - slope * mean
    return scale[:, None, None], slope[:, None, None], offset[:, None, None]


class NormReluPool(Function):
    """Batch norm with batch statistics, ReLU and a 3 x 3 max-pool of stride 2, applied in the order pool, norm, ReLU.

    ReLU and the affine part of batch norm are monotone, so pooling may come first if a
    negative scale flips the sign before and after; norm and ReLU then touch a quarter
    of the values, and the gradient at full size is written once.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        """(B, C, H, W) and per-channel (C,) to (B, C, (H - 3) // 2 + 1, (W - 3) // 2 + 1).

        `mean` and `variance` are the biased batch statistics of x; the gradient through
        them is part of this function, they get none of their own.
        """
        channel = (slice(None), None, None)
        sign = torch.where(weight < 0, -1.0, 1.0).to(x.dtype)
        flips = bool((sign < 0).any())
        inverse = torch.rsqrt(variance + eps)
        pooled, indices = [], []
        for sample in x:
            best, where = functional.max_pool2d(
                sample * sign[channel] if flips else sample, 3, stride=2, return_indices=True
            )
            pooled.append(best)
            indices.append(where.int())  # half the memory of torch's indices
        picked, where = torch.stack(pooled), torch.stack(indices)
        if flips:
            picked *= sign[channel]
        standard = picked.sub_(mean[channel]).mul_(inverse[channel])
        y = torch.addcmul(bias[channel], standard, weight[channel]).relu_()
        ctx.save_for_backward(x, standard, where, y > 0, weight, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, standard, where, active, weight, mean, inverse = ctx.saved_tensors
        d = d_y * active
        d_bias = d.sum(dim=(0, 2, 3))
        d_weight = (d * standard).sum(dim=(0, 2, 3))
        scale, slope, offset = through_statistics(x, weight, mean, inverse, d_weight, d_bias)
        d_x = x.new_empty(x.shape)
        d.mul_(scale)
        for out, sample, value, index in zip(d_x, x, d, where, strict=True):
            torch.addcmul(offset, sample, slope, out=out)
            out.flatten(1).scatter_add_(1, index.flatten(1).long(), value.flatten(1))
        return d_x, d_weight, d_bias, None, None, None


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of (B, C, H, W) over all but the channels, in two passes: a tenth of torch's time."""
    flat = x.flatten(2)
    mean = flat.mean(dim=2).mean(dim=0)
    squares = torch.empty_like(flat[:, :, 0])
    for sample, out in zip(flat, squares, strict=True):
        centred = sample - mean[:, None]
        torch.linalg.vecdot(centred, centred, out=out)
    return mean, squares.mean(dim=0) / flat.shape[2]


def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Origin]:
    """`relu(norm(x))` for a batch norm in training mode, and what it was made of; running statistics advance."""
    mean, variance = advance(norm, x)
    inverse = torch.rsqrt(variance + norm.eps)
    origin = Origin(x.detach(), *as_affine(norm.weight.detach(), norm.bias.detach(), mean, inverse))
    return NormRelu.apply(x, norm.weight, norm.bias, mean, inverse), origin


def norm_relu_pool(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """`max_pool2d(relu(norm(x)), 3, stride=2)` for a batch norm in training mode; its running statistics advance.

    Args:
        x: (B, C, H, W).
        norm: batch norm over C with affine parameters.
    """
    mean, variance = advance(norm, x)
    return NormReluPool.apply(x, norm.weight, norm.bias, mean, variance, norm.eps)


@torch.no_grad()
def advance(norm: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of the batch; moves the norm's running statistics as its training mode does."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        raise ValueError("norm must track its running statistics")
    if norm.momentum is None:
        raise ValueError("norm must have a momentum")
    mean, variance = batch_statistics(x)
    n = x.numel() // x.shape[1]
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (n / (n - 1)), norm.momentum)
    return mean, variance
