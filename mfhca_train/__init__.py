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
    from mfhca_train.config.parse import with_settings
    from mfhca_train.config.settings import Config, ModelConfig, TrainConfig
    from mfhca_train.data.folds import Fold, make_folds
    from mfhca_train.inference.predictor import Predictor
    from mfhca_train.model.network import MFHCA
    from mfhca_train.results.metrics import Scores, confusion_matrix, scores
    from mfhca_train.runs.crossval import Request, cross_validate

__all__ = [
    "MFHCA",
    "Config",
    "Fold",
    "ModelConfig",
    "Predictor",
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
    "config.parse": ("with_settings",),
    "config.settings": ("Config", "ModelConfig", "TrainConfig"),
    "runs.crossval": ("Request", "cross_validate"),
    "data.folds": ("Fold", "make_folds"),
    "results.metrics": ("Scores", "confusion_matrix", "scores"),
    "model.network": ("MFHCA",),
    "inference.predictor": ("Predictor",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
