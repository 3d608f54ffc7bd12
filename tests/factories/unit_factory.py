"""One unit (a fold with a seed) trained for real on a tiny corpus."""

from __future__ import annotations

from pathlib import Path

import torch
from corpus_factory import manifest_of, request

from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import make_folds
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.training.fit import fit


def train_fold(
    folder: Path, rows: list[Utterance], protocol: str = "strict", out: str = "unit", **settings: str
) -> tuple[dict, Path]:
    """Trains the fold of speaker s0 on the corpus in `folder`."""
    wanted = request(folder, rows, {name.replace("__", "."): value for name, value in settings.items()})
    manifest = manifest_of(folder)
    label_set = manifest.label_set()
    fold = make_folds(manifest.utterances, protocol, wanted.config.train)[0]
    torch.set_num_threads(1)
    with Corpus(choose_recipes(wanted.cache, "both"), manifest.utterances, label_set) as corpus:
        result = fit(corpus, fold, 0, wanted.config, folder / out)
    return result, folder / out
