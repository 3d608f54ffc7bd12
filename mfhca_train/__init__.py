"""Stage two: folds, the MFHCA model and its training from the cache.

The public names are imported on first use, so importing the package is quick.

>>> import mfhca_train
>>> sorted(mfhca_train.__all__)[:3]
['Config', 'Epoch', 'FeatureBatch']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfhca_train.config.parse import with_settings
    from mfhca_train.config.settings import Config, ModelConfig, TrainConfig
    from mfhca_train.data.folds import Fold, make_folds
    from mfhca_train.inference.predictor import Predictor
    from mfhca_train.interface.dataset import (
        FeatureBatch,
        FeatureDataset,
        FeatureItem,
        FoldDatasets,
        collate,
        fold_datasets,
    )
    from mfhca_train.interface.functions import ablate, cross_validate
    from mfhca_train.interface.run import Run, RunRow, load_run
    from mfhca_train.interface.table import Table
    from mfhca_train.interface.utterances import UtteranceFeatures, utterance_features
    from mfhca_train.model.network import MFHCA
    from mfhca_train.results.metrics import Scores, confusion_matrix, scores
    from mfhca_train.training.epochs import Epoch

__all__ = [
    "MFHCA",
    "Config",
    "Epoch",
    "FeatureBatch",
    "FeatureDataset",
    "FeatureItem",
    "Fold",
    "FoldDatasets",
    "ModelConfig",
    "Predictor",
    "Run",
    "RunRow",
    "Scores",
    "Table",
    "TrainConfig",
    "UtteranceFeatures",
    "ablate",
    "collate",
    "confusion_matrix",
    "cross_validate",
    "fold_datasets",
    "load_run",
    "make_folds",
    "scores",
    "utterance_features",
    "with_settings",
]

_HOMES = {
    "config.parse": ("with_settings",),
    "config.settings": ("Config", "ModelConfig", "TrainConfig"),
    "data.folds": ("Fold", "make_folds"),
    "inference.predictor": ("Predictor",),
    "interface.dataset": (
        "FeatureBatch",
        "FeatureDataset",
        "FeatureItem",
        "FoldDatasets",
        "collate",
        "fold_datasets",
    ),
    "interface.functions": ("ablate", "cross_validate"),
    "interface.run": ("Run", "RunRow", "load_run"),
    "interface.table": ("Table",),
    "interface.utterances": ("UtteranceFeatures", "utterance_features"),
    "model.network": ("MFHCA",),
    "results.metrics": ("Scores", "confusion_matrix", "scores"),
    "training.epochs": ("Epoch",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
