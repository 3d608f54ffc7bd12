"""The corpus that a run trains on: labels from the manifest, features from the cache, normalised batches.

No other module of stage two reads features from a cache. Utterances outside the label set are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.joined import open_corpora
from mfhca_cache.store.reader import Features
from mfhca_cache.store.shard import Shard, verify_shards
from mfhca_train.data.batch import PER_SPEAKER, Array, Batch, Normaliser, as_batch, on_device
from mfhca_train.data.folds import Fold, Side
from mfhca_train.data.inputs import recipes_in
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.data.normalise import (
    estimate,
    estimate_per_corpus,
    estimate_per_speaker,
    scaling_of_shards,
)
from mfhca_train.data.on_device import DeviceFeatures
from mfhca_train.data.origin import check_origins, check_same_audio, features_digest
from mfhca_train.data.segments import Segments, locate

if TYPE_CHECKING:
    from torch import Tensor


class Corpus:
    """The features and labels of the utterances of one label set. A context manager: it keeps files open.

    Args:
        recipes: "spec", "ssl" and/or "mfcc" -> recipe folder.
        utterances: those of the label set.
        label_set: maps their raw labels to classes.
        of_corpus: the recipe folders of each of several corpora, by name; empty for one corpus. Those in `recipes` have
            the same keys.

    Raises:
        MfhcaError: features are missing, or the inputs of an utterance come from different audio or segments.
    """

    def __init__(
        self,
        recipes: Mapping[str, RecipeFolder],
        utterances: Sequence[Utterance],
        label_set: LabelSet,
        of_corpus: Mapping[str, Mapping[str, RecipeFolder]] | None = None,
    ) -> None:
        self.utterances = tuple(utterances)
        self.classes = label_set.classes
        self.recipes = dict(recipes)
        index = {name: k for k, name in enumerate(self.classes)}
        self.labels = np.array([index[label_set.mapping[u.emotion]] for u in utterances], np.int64)
        speakers = sorted({(u.corpus, u.speaker) for u in utterances})
        self._corpus_of = {speaker: corpus for corpus, speaker in speakers}
        self.features: dict[str, Features] = {}
        self._on_device: dict[str, DeviceFeatures] = {}
        try:
            for side, recipe in recipes.items():
                if of_corpus:
                    own = {
                        name: (
                            of_corpus[name][side],
                            [s.removeprefix(f"{name}/") for c, s in speakers if c == name],
                        )
                        for name in dict.fromkeys(corpus for corpus, _ in speakers)
                    }
                    self.features[side] = open_corpora(own)
                else:
                    self.features[side] = Features.open(recipe, [speaker for _, speaker in speakers])
            self._spans = {
                side: locate(features, recipes[side], self.utterances)
                for side, features in self.features.items()
            }
            for features in self.features.values():
                check_origins(features, self.utterances)
            check_same_audio(self.features, self._spans, self.utterances)
        except BaseException:
            self.close()
            raise

    @property
    def shards(self) -> list[Shard]:
        """All open shards."""
        return [shard for features in self.features.values() for shard in features.shards]

    def verify(self) -> None:
        """Recomputes the digest of every shard in use.

        Raises:
            MfhcaError: a byte differs from what was written.
        """
        verify_shards(self.shards)

    def expect_unchanged(self, stats: Mapping[str, Sequence[int]]) -> None:
        """Compares the open shards with those that the parent process verified (path -> inode, size, mtime).

        Raises:
            MfhcaError: a file was replaced since then.
        """
        for shard in self.shards:
            if tuple(stats.get(str(shard.path), ())) != shard.stat:
                raise MfhcaError(f"{shard.path}: changed while the run was starting; run the command again")

    def digest(self) -> str:
        """SHA-256 of the audio digest and segment count of each utterance; other rows of a shard do not count."""
        audio = []
        for side, span in sorted(self._spans.items()):
            shards = self.features[side].shards
            audio += [
                [side, u.utterance, shards[shard].audio_sha256[row], int(count)]
                for u, (shard, _, count, row) in zip(self.utterances, span, strict=True)
            ]
        return sha256_text(canonical_json(audio))

    def features_digest(self) -> str:
        """See `origin.features_digest`."""
        return features_digest(self.features, self._spans)

    def label_digest(self) -> str:
        """SHA-256 of speaker, session and class of each utterance, in manifest order."""
        rows = [
            [u.utterance, u.speaker, u.session, self.classes[label]]
            for u, label in zip(self.utterances, self.labels, strict=True)
        ]
        return sha256_text(canonical_json(rows))

    def audio_digests(self, utterances: Array) -> list[str]:
        """SHA-256 of the audio of some utterances (indices), in this order."""
        return [shard.audio_sha256[row] for shard, row in self._places(utterances)]

    def samples_digests(self, utterances: Array) -> list[str]:
        """SHA-256 of the decoded samples of some utterances (indices), in this order; empty if unknown."""
        return [shard.samples_sha256[row] for shard, row in self._places(utterances)]

    def _places(self, utterances: Array) -> Iterator[tuple[Shard, int]]:
        """A shard of each utterance, and its position in the shard's table of utterances."""
        side, span = next(iter(self._spans.items()))
        for shard, row in span[utterances][:, (0, 3)].tolist():
            yield self.features[side].shards[shard], row

    def shape(self, side: str) -> tuple[int, ...]:
        """(frames, bins) of "spec", "ssl" or "mfcc"; (layers, frames, bins) where all layers are read."""
        return self.features[side].frame_shape

    def of_speakers(self, speakers: Iterable[str]) -> Array:
        """Indices of the utterances of some speakers, in manifest order."""
        wanted = set(speakers)
        return np.flatnonzero([u.speaker in wanted for u in self.utterances])

    def of_fold(self, fold: Fold, *sides: Side) -> Array:
        """Indices of the utterances on some sides of a fold, in manifest order."""
        if fold.utterances is None:
            return self.of_speakers(fold.speakers(*sides))
        ids = fold.ids(*sides)
        return np.flatnonzero([u.utterance in ids for u in self.utterances])

    def segments(self, utterances: Array) -> Segments:
        """The segments of some utterances (indices); `Segments.utterance` counts within `utterances`."""
        counts = next(iter(self._spans.values()))[utterances, 2]
        utterance = np.repeat(np.arange(len(utterances)), counts)
        step = np.arange(len(utterance)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows, valid = {}, {}
        for side, span in self._spans.items():
            of_segment = span[utterances][utterance]
            rows[side] = np.stack([of_segment[:, 0], of_segment[:, 1] + step], axis=1)
            tables = [shard.valid_frames for shard in self.features[side].shards]
            valid[side] = np.array([tables[shard][row] for shard, row in rows[side]], np.int64)
        return Segments(utterance, self.labels[utterances][utterance], rows, valid)

    def normaliser(self, side: str, method: str, utterances: Array) -> Normaliser | None:
        """Scaling per bin from the valid frames of some utterances, summed from the shards' moments.

        Args:
            side: "spec", "ssl" or "mfcc".
            method: "standard" (zero mean, unit deviation), "minmax" (0 to 1), "none", "speaker" (standard, each
                speaker over all its own utterances), or "corpus" (standard, see `estimate_per_corpus`).
            utterances: indices; of training speakers.
        """
        if method == "none":
            return None
        if method == "speaker":
            return PER_SPEAKER
        if method == "corpus":
            return estimate_per_corpus(
                self.features[side], self._spans[side], [u.corpus for u in self.utterances], utterances
            )
        return estimate(self.features[side], self._spans[side][utterances], method)

    def scaling_of_shards(self, side: str, normaliser: Normaliser = PER_SPEAKER) -> tuple[Array, Array]:
        """Scale and shift (S, F) of each shard, so of each speaker: of the speaker or of its corpus.

        Args:
            side: "spec", "ssl" or "mfcc".
            normaliser: per speaker or per corpus. A corpus that it does not know is scaled by all its utterances here.
        """
        features, spans = self.features[side], self._spans[side]
        if normaliser.per_speaker:
            return estimate_per_speaker(features, spans)
        return scaling_of_shards(
            normaliser, features, spans, [self._corpus_of[shard.speaker] for shard in features.shards]
        )

    def stored_bytes(self) -> int:
        """Bytes of all segments of these utterances, as they are stored."""
        return sum(
            int(span[:, 2].sum()) * self.features[side].row_bytes for side, span in self._spans.items()
        )

    def copy_to(self, device: str) -> None:
        """Copies all segments of these utterances to a device; `batches` then takes them from there."""
        segments = self.segments(np.arange(len(self.utterances)))
        for side, features in self.features.items():
            self._on_device[side] = DeviceFeatures(features, segments.rows[side], device)

    def batches(
        self,
        segments: Segments,
        order: Array,
        size: int,
        normalisers: Mapping[str, Normaliser | None],
        device: str = "cpu",
    ) -> Iterator[Batch]:
        """Batches of segments in the given order; the last may be smaller.

        Args:
            segments: from `segments`.
            order: indices into it.
            size: segments per batch.
            normalisers: per input; None keeps the stored values.
            device: of the tensors.
        """
        import torch  # not at the top: commands that only read finished runs do not load torch

        own = {side: n for side, n in normalisers.items() if n is not None and n.per_shard}
        affine = dict(on_device({side: n for side, n in normalisers.items() if side not in own}, device))
        of_speaker = {
            side: [torch.from_numpy(part).to(device) for part in self.scaling_of_shards(side, n)]
            for side, n in own.items()
        }
        # Copied once for all batches: the processor waits for each copy to an accelerator.
        labels = torch.from_numpy(segments.label[order]).to(device)
        valid = {side: torch.from_numpy(v[order]).to(device) for side, v in segments.valid.items()}
        copied = {side: kept.indices(segments.rows[side][order]) for side, kept in self._on_device.items()}
        for start in range(0, len(order), size):
            batch = slice(start, start + size)
            stored: dict[str, Tensor] = {}
            for side, features in self.features.items():
                if side in copied:
                    stored[side] = self._on_device[side].gather(copied[side][batch])
                else:
                    rows = segments.rows[side][order[batch]]
                    stored[side] = torch.from_numpy(features.gather(rows[:, 0], rows[:, 1])).to(device)
            for side, (scale, shift) in of_speaker.items():
                speaker = torch.from_numpy(segments.rows[side][order[batch], 0]).to(device)
                affine[side] = scale[speaker].unsqueeze(-2), shift[speaker].unsqueeze(-2)
            yield as_batch(stored, affine, {side: v[batch] for side, v in valid.items()}, labels[batch])

    def close(self) -> None:
        """Closes the shards."""
        for features in self.features.values():
            features.close()

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_labelled(labelled: LabelledCorpus, recipes: Mapping[str, RecipeFolder]) -> Corpus:
    """The features of a run's utterances.

    Args:
        labelled: one corpus, or several.
        recipes: "spec", "ssl" and/or "mfcc" -> recipe folder in the cache of one of the corpora.

    Raises:
        MfhcaError: see `Corpus`; the cache of another corpus lacks a recipe.
    """
    of_corpus = {
        part.name: recipes_in(part.source.cache, recipes) for part in labelled.parts if labelled.is_several
    }
    return Corpus(recipes, labelled.utterances, labelled.label_set, of_corpus)
