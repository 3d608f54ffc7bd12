"""When the functions of this folder replace the plain equations."""

from __future__ import annotations

from torch import Tensor

from mfhca_train.config.variables import PLAIN as PLAIN
from mfhca_train.config.variables import plain_equations


def is_faster(x: Tensor) -> bool:
    """Whether the fast version of an operation on x runs: on a CPU, unless MFHCA_PLAIN=1 or Numba is disabled."""
    return x.device.type == "cpu" and not plain_equations()
