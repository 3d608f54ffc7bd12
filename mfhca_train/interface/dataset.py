"""Cached features as PyTorch Datasets, for models of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.batch import Array, Normaliser, scaled
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.coverage import check_classes
from mfhca_train.data.folds import SIDES, make_folds
from mfhca_train.interface.opening import SharedCorpus, open_corpus
from mfhca_train.runs.plan import select_folds

NORMS = ("none", "standard", "minmax")
Norm = str | Mapping[str, str]


class FeatureItem(NamedTuple):
    """One segment.

    Attributes:
        features: by input ("spec", "ssl", "mfcc"), (T, F) float32: T frames of F values, padding included; (M, T, F) of
            an encoder's M layers if the cache has all of them.
        valid: by input, the number of frames that are not padding; they come first.
        label: index of the class in `FeatureDataset.classes`.
        speaker: id of the speaker.
        utterance: id of the utterance, which all its segments share.
    """

    features: dict[str, Tensor]
    valid: dict[str, int]
    label: int
    speaker: str
    utterance: str


class FeatureBatch(NamedTuple):
    """B segments; the fields are those of `FeatureItem`.

    Attributes:
        features: by input, (B, T, F) float32.
        valid: by input, (B,) int64.
        label: (B,) int64.
        speaker: B ids.
        utterance: B ids.
    """

    features: dict[str, Tensor]
    valid: dict[str, Tensor]
    label: Tensor
    speaker: list[str]
    utterance: list[str]


class _Items(tuple[FeatureItem, ...]):
    """Items that are views of one batch, which `collate` then does not copy again."""

    batch: FeatureBatch


class FeatureDataset(Dataset[FeatureItem]):
    """The segments of a corpus, read from the cache item by item. A map-style Dataset for any DataLoader.

    Pass `collate_fn=collate`. Worker processes may be started by fork, spawn or forkserver. Features stay on disk: the
    operating system keeps what was read in memory, for all processes together.

    Args:
        manifest: the CSV file.
        cache: the cache folder.
        speakers: whose segments to read; by default all.
        inputs: "both", "spec" (spectrogram) or "ssl" (hidden states).
        norm: scaling per bin over `norm_speakers`: "none" (as stored), "standard" (zero mean, unit deviation) or
            "minmax" (0 to 1), for all inputs or by input, e.g. {"spec": "standard", "ssl": "none"}.
        norm_speakers: the training speakers; required unless norm is "none".
        label_set: a mapping from labels to classes; by default the corpus card's.
        spec, ssl: beginning of the name of a recipe, if the cache has several spectrograms or encoders.
        ssl_layer: one layer of the encoder, if the cache has all; "auto" for what the cache has.
        mfcc: also read the MFCCs.
        accept_copies: accept identical recordings under several speakers.

    Attributes:
        classes: names of the classes, in the order of the labels.
        labels: (N,) int64, of all items, for samplers and class weights.
        speakers, utterances: ids of all items.
        shapes: shape of an item by input.

    Raises:
        MfhcaError: features are missing or do not fit the manifest, two speakers have the same recording, or an
            argument is wrong.
    """

    def __init__(
        self,
        manifest: str | Path,
        cache: str | Path,
        *,
        speakers: Iterable[str] | None = None,
        inputs: str = "both",
        norm: Norm = "none",
        norm_speakers: Iterable[str] = (),
        label_set: str | None = None,
        spec: str | None = None,
        ssl: str | None = None,
        ssl_layer: int | str = "auto",
        mfcc: bool = False,
        accept_copies: bool = False,
    ) -> None:
        labelled, corpus = open_corpus(
            manifest, cache, inputs, label_set, spec, ssl, ssl_layer, mfcc, accept_copies
        )
        known = sorted({u.speaker for u in corpus.utterances})
        wanted, scaling = (known if speakers is None else list(speakers)), list(norm_speakers)
        for speaker in (*wanted, *scaling):
            if speaker not in known:
                raise MfhcaError(f"{manifest}: no speaker {speaker!r}; {did_you_mean(str(speaker), known)}")
        if not wanted:
            raise MfhcaError("speakers is empty; leave it out for all speakers")
        shared = SharedCorpus(corpus, labelled.label_set)
        self._set_up(shared, corpus.of_speakers(wanted), norm, corpus.of_speakers(scaling))

    def _set_up(self, shared: SharedCorpus, utterances: Array, norm: Norm, scaling: Array) -> None:
        """Args: the corpus, the utterances of the items, and those that are scaled over, as indices."""
        corpus = shared.get()
        self._shared = shared
        self._segments = corpus.segments(utterances)
        self._normalisers = _normalisers(corpus, norm, scaling)
        self.classes = corpus.classes
        self.labels = self._segments.label
        every = [corpus.utterances[index] for index in utterances[self._segments.utterance]]
        self.speakers = [u.speaker for u in every]
        self.utterances = [u.utterance for u in every]
        self.shapes = {side: corpus.shape(side) for side in corpus.features}

    def __len__(self) -> int:
        return len(self._segments)

    def __getitem__(self, index: int) -> FeatureItem:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[FeatureItem]:
        """Several items with one call, as a DataLoader asks for them; the segments are read in one go."""
        at = np.asarray(indices, np.int64)
        features: dict[str, Tensor] = {}
        for side, reader in self._shared.get().features.items():
            rows = self._segments.rows[side][at]
            stored = torch.from_numpy(reader.gather(rows[:, 0], rows[:, 1]))
            features[side] = scaled(stored, self._scaling(side))
        batch = FeatureBatch(
            features,
            {side: torch.from_numpy(valid[at]) for side, valid in self._segments.valid.items()},
            torch.from_numpy(self.labels[at]),
            [self.speakers[index] for index in at],
            [self.utterances[index] for index in at],
        )
        valid = {side: frames.tolist() for side, frames in batch.valid.items()}
        items = _Items(
            FeatureItem(
                {side: values[k] for side, values in features.items()},
                {side: frames[k] for side, frames in valid.items()},
                label,
                batch.speaker[k],
                batch.utterance[k],
            )
            for k, label in enumerate(batch.label.tolist())
        )
        items.batch = batch
        return items

    def _scaling(self, side: str) -> tuple[Tensor, Tensor] | None:
        normaliser = self._normalisers[side]
        if normaliser is None:
            return None
        scale, shift = torch.from_numpy(normaliser.scale), torch.from_numpy(normaliser.shift)
        return (scale, shift) if scale.ndim == 1 else (scale.unsqueeze(1), shift.unsqueeze(1))


def collate(items: Sequence[FeatureItem]) -> FeatureBatch:
    """Makes a batch of items, for `DataLoader(..., collate_fn=collate)`.

    Args:
        items: B items of a `FeatureDataset`, unchanged or changed.
    """
    if isinstance(items, _Items):
        return items.batch
    sides = items[0].features
    return FeatureBatch(
        {side: torch.stack([item.features[side] for item in items]) for side in sides},
        {side: torch.tensor([item.valid[side] for item in items]) for side in sides},
        torch.tensor([item.label for item in items]),
        [item.speaker for item in items],
        [item.utterance for item in items],
    )


class FoldDatasets(NamedTuple):
    """The three sides of a fold. No speaker is on two of them, except in the oracle protocols and where an official
    split is accepted as it is.

    Attributes:
        train, validation, test: Datasets.
    """

    train: FeatureDataset
    validation: FeatureDataset
    test: FeatureDataset


def fold_datasets(
    manifest: str | Path,
    cache: str | Path,
    protocol: str,
    fold: str,
    *,
    config: TrainConfig | None = None,
    inputs: str = "both",
    norm: Norm = "standard",
    label_set: str | None = None,
    spec: str | None = None,
    ssl: str | None = None,
    ssl_layer: int | str = "auto",
    mfcc: bool = False,
    accept_copies: bool = False,
) -> FoldDatasets:
    """The training, validation and test segments of one fold, scaled over its training utterances alone.

    Args:
        manifest, cache: paths, as of `FeatureDataset`.
        protocol: how speakers are divided, e.g. "strict".
        fold: id of the fold; `make_folds` lists them, in the protocol strict they are the speakers.
        config: `validation_speakers`, `groups` and `shared_speakers` are read; None for the defaults.
        norm: as of `FeatureDataset`. {"spec": "standard", "ssl": "none"} is what the trainer does by default.
        inputs, label_set, spec, ssl, ssl_layer, mfcc, accept_copies: as of `FeatureDataset`.

    Raises:
        MfhcaError: see `FeatureDataset`; or the protocol or fold does not exist.
    """
    labelled, corpus = open_corpus(
        manifest, cache, inputs, label_set, spec, ssl, ssl_layer, mfcc, accept_copies
    )
    (chosen,) = select_folds(make_folds(labelled.utterances, protocol, config), [fold])
    check_classes(labelled.utterances, labelled.label_set, [chosen], accept=True)  # logs what is missing
    shared, train = SharedCorpus(corpus, labelled.label_set), corpus.of_fold(chosen, "train")

    def side(utterances: Array) -> FeatureDataset:
        dataset = FeatureDataset.__new__(FeatureDataset)
        dataset._set_up(shared, utterances, norm, train)
        return dataset

    return FoldDatasets(*(side(corpus.of_fold(chosen, name)) for name in SIDES))


def _normalisers(corpus: Corpus, norm: Norm, utterances: Array) -> dict[str, Normaliser | None]:
    """The scaling of each input over some utterances (indices).

    Raises:
        MfhcaError: an unknown input or method, or no utterances to scale over.
    """
    methods: dict[str, Any] = dict.fromkeys(corpus.features, norm) if isinstance(norm, str) else dict(norm)
    for name, method in methods.items():
        if name not in corpus.features:
            raise MfhcaError(f"norm: no input {name!r} is read; {did_you_mean(name, corpus.features)}")
        if method not in NORMS:
            raise MfhcaError(f"norm: {method!r} does not exist; {did_you_mean(str(method), NORMS)}")
        if method != "none" and not len(utterances):
            raise MfhcaError(f"norm={method!r} needs norm_speakers, the training speakers to scale over")
    return {side: corpus.normaliser(side, methods.get(side, "none"), utterances) for side in corpus.features}
