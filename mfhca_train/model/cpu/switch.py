"""When the functions of this folder replace the plain equations."""

from __future__ import annotations

import os

from torch import Tensor

PLAIN = "MFHCA_PLAIN"  # environment variable: 1 runs the plain equations everywhere


DISABLE_JIT = "NUMBA_DISABLE_JIT"  # Numba's own variable: without its compiler the loops cannot run


def is_faster(x: Tensor) -> bool:
    """Whether the fast version of an operation on x runs: on a CPU, unless MFHCA_PLAIN=1 or Numba is disabled."""
    plain = os.environ.get(PLAIN) == "1" or os.environ.get(DISABLE_JIT, "0") not in ("", "0")
    return x.device.type == "cpu" and not plain
