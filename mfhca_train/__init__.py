"""Stage two: folds, the MFHCA model and its training from the cache.

What is offered here is loaded when it is first asked for, so importing the package costs nothing.

>>> import mfhca_train
>>> sorted(mfhca_train.__all__)[:3]
['Config', 'Fold', 'MFHCA']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfhca_train.config import Config, ModelConfig, TrainConfig, with_settings
    from mfhca_train.crossval import Request, cross_validate
    from mfhca_train.folds import Fold, make_folds
    from mfhca_train.metrics import Scores, confusion_matrix, scores
    from mfhca_train.model import MFHCA

__all__ = [
    "MFHCA",
    "Config",
    "Fold",
    "ModelConfig",
    "Request",
    "Scores",
    "TrainConfig",
    "confusion_matrix",
    "cross_validate",
    "make_folds",
    "scores",
    "with_settings",
]

_HOMES = {
    "config": ("Config", "ModelConfig", "TrainConfig", "with_settings"),
    "crossval": ("Request", "cross_validate"),
    "folds": ("Fold", "make_folds"),
    "metrics": ("Scores", "confusion_matrix", "scores"),
    "model": ("MFHCA",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
