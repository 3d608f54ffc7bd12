"""The open features of a run, checked against each other, the manifest and the audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.progress import phase
from mfhca_cache.manifest.copies import check_copies, find_copies
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.conditions import mixture
from mfhca_cache.store.recordings import recording_identities
from mfhca_cache.store.shard import verify_shards
from mfhca_train.data.corpus import Corpus, MissingUtterancesError
from mfhca_train.data.origin import check_audio, hash_audio
from mfhca_train.runs.plan import LabelledCorpus, Row


class OpenFeatures:
    """The features of a run's rows; each set of recipes is opened once. A context manager.

    Args:
        labelled: manifest and label set.
        root: folder of the audio, which is compared with the features; None compares nothing.

    Attributes:
        mixed: by folder of a recipe whose features were computed under different conditions: in what they differ.
    """

    def __init__(self, labelled: LabelledCorpus, root: Path | None = None) -> None:
        self._labelled, self._root = labelled, root
        self._audio: dict[str, str] = {}  # digest by utterance: of the files, or else of the first features
        self.mixed: dict[str, list[str]] = {}
        self._open: dict[tuple[tuple[str, Path, int | None], ...], Corpus] = {}

    def of(self, recipes: Mapping[str, RecipeFolder]) -> Corpus:
        """The corpus with these features.

        Raises:
            MfhcaError: features are missing or do not belong together, their audio is not that of other features or
                of the files, or two speakers have the same recording.
        """
        key = tuple((side, recipe.path, recipe.layer) for side, recipe in sorted(recipes.items()))
        if key not in self._open:
            labelled = self._labelled
            try:
                corpus = Corpus(recipes, labelled.utterances, labelled.label_set)
            except MissingUtterancesError as error:
                sets = labelled.manifest.card.label_sets if labelled.manifest.card else {}
                fitting = [
                    name
                    for name in sets
                    if not any(u.utterance in error.missing for u in labelled.manifest.select(name))
                ]
                if not fitting:
                    raise
                raise MfhcaError(
                    f"the cache has all features of label set {' and '.join(fitting)}, not of "
                    f"{labelled.label_set.name}; pass --label-set {quote(fitting[0])}, or compute the rest: {error}"
                ) from error
            self._open[key] = corpus
            self._check_audio(corpus)
            for side, features in corpus.features.items():
                found = mixture(features.shards)
                if found and recipes[side].path.name not in self.mixed:
                    self.mixed[recipes[side].path.name] = found
                    log.LOG.warning(
                        "%s: its features were computed under different conditions (%s); the last digits of scores may "
                        "differ from those on features of one computation",
                        recipes[side].path,
                        ", ".join(found),
                    )
            if len(self._open) == 1:  # one kind of features is enough
                identities = recording_identities(next(iter(corpus.features.values())).shards)
                copies = find_copies(labelled.utterances, identities)
                check_copies(copies, str(labelled.manifest.path), labelled.accept_copies)
        return self._open[key]

    def _check_audio(self, corpus: Corpus) -> None:
        """Compares the audio of features with the files, without `root` with the features opened first."""
        utterances = self._labelled.utterances
        digests = corpus.audio_digests(np.arange(len(utterances)))
        if self._audio:
            check_audio(self._audio, digests, utterances, self._root)
        elif self._root is not None:
            with phase("comparing the audio with the features"):
                self._audio = hash_audio(self._root, utterances)
                check_audio(self._audio, digests, utterances, self._root)
        else:
            self._audio = dict(zip((u.utterance for u in utterances), digests, strict=True))

    def verify(self, rows: Sequence[Row]) -> None:
        """Recomputes the digest of every shard of these rows, once.

        Raises:
            MfhcaError: a byte differs from what was written.
        """
        verify_shards({s.path: s for row in rows for s in self.of(row.recipes).shards}.values())

    def __enter__(self) -> OpenFeatures:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()
