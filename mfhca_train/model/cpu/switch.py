"""When the functions of this folder replace the plain equations."""

from __future__ import annotations

import os

from torch import Tensor

PLAIN = "MFHCA_PLAIN"  # environment variable: 1 runs the plain equations everywhere


def is_faster(x: Tensor) -> bool:
    """Whether the fast version of an operation on x runs: on a CPU, unless MFHCA_PLAIN=1 is set."""
    return x.device.type == "cpu" and os.environ.get(PLAIN) != "1"
