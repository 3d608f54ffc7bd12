"""Environment variables that choose between equal computations with other last digits."""

from __future__ import annotations

import os

PLAIN = "MFHCA_PLAIN"  # 1 runs the plain equations everywhere
DISABLE_JIT = "NUMBA_DISABLE_JIT"  # Numba's own variable: without its compiler the fast loops cannot run


def plain_equations() -> bool:
    """Whether the network's plain equations run instead of the fast CPU code."""
    return os.environ.get(PLAIN) == "1" or os.environ.get(DISABLE_JIT, "0") not in ("", "0")
