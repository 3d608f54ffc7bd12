"""What the loops of `kernels` are made with: compiling, spreading over threads, and bfloat16 seen from Numba."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

# Sums may be taken in another order and products contracted; that nothing is NaN must not be assumed.
LICENCE = {"reassoc", "contract", "nsz"}


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as machine code, made at its first call and kept on the disk where a folder for it can be written."""
    try:
        made: Callable[..., None] = numba.njit(
            function, cache=True, nogil=True, fastmath=LICENCE, error_model="numpy"
        )
    except RuntimeError:  # neither the package's folder nor the user's can be written
        made = numba.njit(function, nogil=True, fastmath=LICENCE, error_model="numpy")
    return made


def over_samples(kernel: Callable[..., None], samples: int, *arguments: Any) -> None:
    """Runs a kernel over all samples, as many at a time as torch has threads.

    Args:
        kernel: takes the first sample, the one after the last, and the arguments.
        samples: B.
        arguments: tensors, as arrays that share their memory, and numbers.
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
    """The memory of a tensor, bfloat16 as 16-bit integers; (B, C, H, W) in channels-last order as (B, H, W, C)."""
    x = x.detach()
    if x.dim() == 4:
        x = x.permute(0, 2, 3, 1)
    if not x.is_contiguous():
        raise ValueError("a map must lie in memory with its channels last")
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(np.uint16)
    return x.numpy()


def tiled(x: Tensor, width: int) -> Tensor:
    """A per-channel array (C,) repeated along a row of a map: (W C,)."""
    return x.detach().repeat(width)


def widen(stored: Any) -> Any:
    """A stored value as a number. Numba puts `_widen` in its place; nothing else may call it."""
    raise TypeError(f"{stored!r}: for compiled code only")


def narrow(number: Any, like: Any) -> Any:
    """A number as the array `like` stores it, bfloat16 rounded to the nearest, ties to even. As `widen`: `_narrow`."""
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
