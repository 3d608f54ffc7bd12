"""The open features of a run, checked against each other, the manifest and the audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.progress import phase
from mfhca_cache.manifest.copies import check_copies, check_overlaps, find_copies
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.conditions import mixture
from mfhca_cache.store.recordings import recording_identities
from mfhca_cache.store.shard import verify_shards
from mfhca_cache.store.users import note_other_manifests
from mfhca_train.data.corpus import Corpus, open_labelled
from mfhca_train.data.inputs import recipes_in
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.data.origin import check_audio, hash_audio
from mfhca_train.data.segments import MissingUtterancesError
from mfhca_train.runs.plan import Row


class OpenFeatures:
    """The features of a run's rows; each set of recipes is opened once. A context manager.

    Args:
        labelled: manifests and label set.
        with_audio: whether to compare the audio with the features, of corpora with a folder of the audio.

    Attributes:
        mixed: by folder of a recipe whose features were computed under different conditions: in what they differ.
    """

    def __init__(self, labelled: LabelledCorpus, with_audio: bool = False) -> None:
        self._labelled, self._roots = labelled, labelled.roots if with_audio else {}
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
                corpus = open_labelled(labelled, recipes)
            except MissingUtterancesError as error:
                manifest = labelled.parts[0].manifest
                sets = manifest.card.label_sets if manifest.card else {}
                fitting = [
                    name
                    for name in sets
                    if not any(u.utterance in error.missing for u in manifest.select(name))
                ]
                if labelled.is_several:
                    hint = "features of several caches: pass one --cache for each manifest, in the same order"
                    raise MfhcaError(f"{error}\n({hint})") from error
                if not fitting:
                    raise
                raise MfhcaError(
                    f"the cache has all features of label set {' and '.join(fitting)}, not of "
                    f"{labelled.label_set.name}; pass --label-set {quote(fitting[0])}, or compute the rest: {error}"
                ) from error
            self._open[key] = corpus
            self._check_audio(corpus)
            for part in labelled.parts:
                if part.source.root is None or not self._roots:
                    for recipe in recipes_in(part.source.cache, recipes).values():
                        note_other_manifests(recipe.path, part.manifest.path)
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
                check_copies(copies, labelled.manifests, labelled.accept_copies)
                check_overlaps(labelled.utterances, labelled.manifests, labelled.accept_copies)
        return self._open[key]

    @property
    def compares_audio(self) -> bool:
        """Whether all audio is compared with the features."""
        return len(self._roots) == len(self._labelled.parts)

    def _check_audio(self, corpus: Corpus) -> None:
        """Compares the audio of features with the files, where there is no folder with the features opened first."""
        utterances = self._labelled.utterances
        digests = dict(
            zip(
                (u.utterance for u in utterances),
                corpus.audio_digests(np.arange(len(utterances))),
                strict=True,
            )
        )
        if not self._audio:
            self._audio = dict(digests)
            for name, root in self._roots.items():
                with phase("comparing the audio with the features"):
                    self._audio |= hash_audio(root, [u for u in utterances if u.corpus == name])
        for name in dict.fromkeys(u.corpus for u in utterances):
            own = [u for u in utterances if u.corpus == name]
            check_audio(self._audio, [digests[u.utterance] for u in own], own, self._roots.get(name))

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
