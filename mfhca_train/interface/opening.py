"""The corpus of a Dataset: opened with the checks of a run, and again in every process that gets a copy."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import LabelSet
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.plan import Request, read_labels


def open_corpus(
    manifest: str | Path,
    cache: str | Path,
    inputs: str,
    label_set: str | None,
    spec: str | None,
    ssl: str | None,
    ssl_layer: int | str,
    mfcc: bool,
    accept_copies: bool,
) -> tuple[LabelledCorpus, Corpus]:
    """The manifest and the features of its utterances. The files are closed when nothing refers to the corpus.

    Args:
        manifest, cache: paths.
        inputs: "both", "spec" or "ssl".
        label_set, spec, ssl, ssl_layer, mfcc, accept_copies: see `FeatureDataset`.

    Raises:
        MfhcaError: features are missing or do not fit the manifest, or two speakers have the same recording.
    """
    config = with_settings(Config(), {"model.inputs": inputs})  # checks the name
    # Absolute: a process that opens the corpus again may have another working directory.
    places = Path(manifest), Path(cache).absolute(), Path()
    request = Request(*places, config, label_set=label_set, accept_copies=accept_copies)
    labelled = read_labels(request)
    recipes = choose_recipes(request.cache, inputs, spec, ssl, mfcc, ssl_layer)
    return labelled, _closed_at_end(OpenFeatures(labelled).of(recipes))


class SharedCorpus:
    """An open corpus that can be sent to other processes, which open its files themselves."""

    def __init__(self, corpus: Corpus, label_set: LabelSet) -> None:
        self._arguments = corpus.recipes, corpus.utterances, label_set
        self._stats = {shard.path: shard.stat for shard in corpus.shards}
        self._corpus: Corpus | None = corpus

    def get(self) -> Corpus:
        """The open corpus of this process.

        Raises:
            MfhcaError: its files are not those that were opened first.
        """
        if self._corpus is None:
            corpus = _closed_at_end(Corpus(*self._arguments))
            for shard in corpus.shards:
                if self._stats.get(shard.path) != shard.stat:
                    raise MfhcaError(f"{shard.path}: changed since the Dataset was made; make it again")
            self._corpus = corpus
        return self._corpus

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_corpus": None}


def _closed_at_end(corpus: Corpus) -> Corpus:
    for features in corpus.features.values():
        weakref.finalize(corpus, features.close)
    return corpus
