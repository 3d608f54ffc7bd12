"""Tools for the loops of `kernels`: threads over samples, and bfloat16 in Numba."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor


def over_samples(kernel: Callable[..., None], samples: int, *arguments: Any) -> None:
    """Runs a kernel over all samples, divided among as many threads as torch uses.

    Args:
        kernel: is called with the first sample, the one after the last, and the arguments.
        samples: B.
        arguments: numbers, and tensors, which the kernel gets as arrays that share their memory.
    """
    plain = [array(a) if isinstance(a, Tensor) else a for a in arguments]
    threads = min(torch.get_num_threads(), samples)
    if threads == 1:
        kernel(0, samples, *plain)
        return
    edges = [samples * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first, last: kernel(first, last, *plain), edges[:-1], edges[1:]))


def array(x: Tensor) -> np.ndarray[Any, Any]:
    """A tensor's memory as an array: bfloat16 as 16-bit integers, a channels-last (B, C, H, W) as (B, H, W, C)."""
    x = x.detach()
    if x.dim() == 4:
        x = x.permute(0, 2, 3, 1)
    if not x.is_contiguous():
        raise ValueError("a map must be stored with its channels last")
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(np.uint16)
    return x.numpy()


def tiled(x: Tensor, width: int) -> Tensor:
    """A per-channel array (C,) repeated along a row of a map: (W C,)."""
    return x.detach().repeat(width)


def widen(stored: Any) -> Any:
    """A stored value as a number. Only for compiled code, where Numba replaces it by `_widen`."""
    raise TypeError(f"{stored!r}: for compiled code only")


def narrow(number: Any, like: Any) -> Any:
    """A number as the array `like` stores it; bfloat16 rounds to nearest, ties to even. Replaced by `_narrow`."""
    raise TypeError(f"{number!r}, {like!r}: for compiled code only")


@overload(widen, inline="always", strict=False)
def _widen(stored: Any) -> Any:
    if stored == types.uint16:
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@overload(narrow, inline="always", strict=False)
def _narrow(number: Any, like: Any) -> Any:  # noqa: ARG001
    if like.dtype == types.uint16:

        def rounded(number: Any, like: Any) -> Any:  # noqa: ARG001
            bits = np.float32(number).view(np.uint32)
            return np.uint16(
                (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            )

        return rounded
    return lambda number, like: number  # noqa: ARG005
