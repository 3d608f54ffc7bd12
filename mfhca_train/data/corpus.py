"""From the cache to normalised batches: the only place of stage two that knows what a cache looks like.

Labels come from the manifest, features from the cache; utterances outside the
label set are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.reader import Features
from mfhca_cache.store.shard import Shard, verify_shard
from mfhca_train.data.batch import Array as Array
from mfhca_train.data.batch import Batch as Batch
from mfhca_train.data.batch import Normaliser as Normaliser
from mfhca_train.data.batch import as_batch, on_device
from mfhca_train.data.inputs import choose_recipes as choose_recipes
from mfhca_train.data.on_device import Resident

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_DEVIATION = 1e-5  # of a bin, below which it counts as constant


@dataclass(frozen=True)
class Segments:
    """The segments of some utterances, in the order of the utterances and of time. N segments.

    Attributes:
        utterance: (N,) index into the utterances asked for.
        label: (N,) class index.
        rows: per kind of feature (N, 2): shard and row.
        valid: per kind of feature (N,): real frames.
    """

    utterance: Array
    label: Array
    rows: Mapping[str, Array]
    valid: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.utterance)


class Corpus:
    """The features and labels of the utterances of one label set. A context manager; holds open files.

    Args:
        recipes: "spec", "ssl" and/or "mfcc" -> recipe folder.
        utterances: those of the label set.
        label_set: maps their raw labels to classes.

    Raises:
        MfhcaError: features are missing, or the kinds disagree on audio or segments.
    """

    def __init__(
        self, recipes: Mapping[str, RecipeFolder], utterances: Sequence[Utterance], label_set: LabelSet
    ) -> None:
        self.utterances = tuple(utterances)
        self.classes = label_set.classes
        self.recipes = dict(recipes)
        index = {name: k for k, name in enumerate(self.classes)}
        self.labels = np.array([index[label_set.mapping[u.emotion]] for u in utterances], np.int64)
        speakers = sorted({u.speaker for u in utterances})
        self.features: dict[str, Features] = {}
        self._resident: dict[str, Resident] = {}
        try:
            for side, recipe in recipes.items():
                self.features[side] = Features.open(recipe, speakers)
            self._spans = {side: self._locate(side) for side in self.features}
            self._agree()
        except BaseException:
            self.close()
            raise

    def _locate(self, side: str) -> Array:
        """(U, 4): shard, first row, number of segments, position in the shard's own table of utterances."""
        features = self.features[side]
        position = [{name: i for i, name in enumerate(shard.utterance_ids)} for shard in features.shards]
        found, missing = [], []
        for u in self.utterances:
            try:
                shard, first, count = features.rows(u.utterance)
            except MfhcaError:
                missing.append(u.utterance)
                continue
            if features.shards[shard].speaker != u.speaker:
                raise MfhcaError(
                    f"utterance {u.utterance}: the manifest says speaker {u.speaker}, the cache "
                    f"{features.shards[shard].speaker}; run `mfhca-cache features` with this manifest"
                )
            if count == 0:
                raise MfhcaError(
                    f"utterance {u.utterance}: the cache holds no segment of it; strike it from the manifest"
                )
            found.append((shard, first, count, position[shard][u.utterance]))
        if missing:
            folder = features.shards[0].path.parent
            raise MfhcaError(
                f"{folder}: {len(missing)} of {len(self.utterances)} utterances have no features; run "
                f"`mfhca-cache features` and mend what it names, or strike them from the manifest:\n{listing(missing)}"
            )
        return np.array(found, np.int64).reshape(-1, 4)

    def _agree(self) -> None:
        """All features of an utterance must come from the same audio, cut the same way."""
        if len(self._spans) < 2:
            return
        for i, u in enumerate(self.utterances):
            found = {
                self.features[side].shards[span[i, 0]].path: (
                    self.features[side].shards[span[i, 0]].audio_sha256[span[i, 3]],
                    int(span[i, 2]),
                )
                for side, span in self._spans.items()
            }
            if len(set(found.values())) > 1:
                told = "; ".join(
                    f"{path} from audio with SHA-256 {digest[:16]}, {count} segments"
                    for path, (digest, count) in found.items()
                )
                raise MfhcaError(
                    f"utterance {u.utterance} ({u.path}): its features come from different audio or segments: {told}; "
                    "run `mfhca-cache features` for all of these kinds (--kind ... --kind ...)"
                )

    @property
    def shards(self) -> list[Shard]:
        """All open shards."""
        return [shard for features in self.features.values() for shard in features.shards]

    def verify(self) -> None:
        """Recomputes the digest of every shard in use.

        Raises:
            MfhcaError: a byte differs from what was written.
        """
        for shard in self.shards:
            verify_shard(shard)

    def expect_unchanged(self, stats: Mapping[str, Sequence[int]]) -> None:
        """Compares the open shards with what the parent process has verified (path -> inode, size, mtime).

        Raises:
            MfhcaError: a file was replaced meanwhile.
        """
        for shard in self.shards:
            if tuple(stats.get(str(shard.path), ())) != shard.stat:
                raise MfhcaError(f"{shard.path}: changed while the run was starting; run the command again")

    def digest(self) -> str:
        """Identity of the data in use: audio and segments of each utterance. Other rows of a shard do not count."""
        audio = []
        for side, span in sorted(self._spans.items()):
            shards = self.features[side].shards
            audio += [
                [side, u.utterance, shards[at].audio_sha256[row], int(count)]
                for u, (at, _, count, row) in zip(self.utterances, span, strict=True)
            ]
        return sha256_text(canonical_json(audio))

    def audio(self, chosen: Array) -> list[str]:
        """The digests of the audio of the chosen utterances (indices), in this order."""
        side, span = next(iter(self._spans.items()))
        shards = self.features[side].shards
        return [shards[at].audio_sha256[row] for at, row in span[chosen][:, (0, 3)]]

    def shape(self, side: str) -> tuple[int, ...]:
        """(frames, bins) of "spec", "ssl" or "mfcc"; (layers, frames, bins) where all layers are read."""
        return self.features[side].frame_shape

    def of_speakers(self, speakers: Iterable[str]) -> Array:
        """Indices of the utterances of some speakers, in manifest order."""
        wanted = set(speakers)
        return np.array([i for i, u in enumerate(self.utterances) if u.speaker in wanted], np.int64)

    def segments(self, chosen: Array) -> Segments:
        """The segments of the chosen utterances (indices); `Segments.utterance` counts within `chosen`."""
        counts = next(iter(self._spans.values()))[chosen, 2]
        utterance = np.repeat(np.arange(len(chosen)), counts)
        step = np.arange(len(utterance)) - np.repeat(np.cumsum(counts) - counts, counts)
        rows, valid = {}, {}
        for side, span in self._spans.items():
            place = span[chosen][utterance]
            rows[side] = np.stack([place[:, 0], place[:, 1] + step], axis=1)
            tables = [shard.valid_frames for shard in self.features[side].shards]
            valid[side] = np.array([tables[shard][row] for shard, row in rows[side]], np.int64)
        return Segments(utterance, self.labels[chosen][utterance], rows, valid)

    def normaliser(self, side: str, how: str, chosen: Array) -> Normaliser | None:
        """Statistics per bin over the valid frames of the chosen utterances, summed from the shards' moments.

        Args:
            side: "spec", "ssl" or "mfcc".
            how: "standard" (zero mean, unit deviation), "minmax" (0 to 1) or "none".
            chosen: utterance indices, the training speakers' alone.
        """
        if how == "none":
            return None
        features, span = self.features[side], self._spans[side][chosen]

        def tables(name: str) -> Iterator[Array]:
            """The chosen rows, a shard at a time: all of them might be larger than memory."""
            for at in np.unique(span[:, 0]):
                yield features.moments(at, name)[span[span[:, 0] == at, 3]]

        if how == "minmax":
            low = np.min([table.min(axis=0) for table in tables("minimum")], axis=0)
            high = np.max([table.max(axis=0) for table in tables("maximum")], axis=0)
            return _normaliser(low, high - low)
        count = sum(int(features.shards[at].count[row]) for at, row in span[:, (0, 3)])
        mean = np.sum([table.sum(axis=0) for table in tables("sum")], axis=0) / count
        variance = np.sum([table.sum(axis=0) for table in tables("sum_squares")], axis=0) / count - mean**2
        return _normaliser(mean, np.sqrt(np.maximum(variance, 0)))

    def stored_bytes(self) -> int:
        """Bytes of all segments of these utterances, as they are stored."""
        return sum(
            int(span[:, 2].sum()) * self.features[side].row_bytes for side, span in self._spans.items()
        )

    def make_resident(self, device: str) -> None:
        """Copies all segments of these utterances to a device; `batches` then reads them there and not from files."""
        everything = self.segments(np.arange(len(self.utterances)))
        for side, features in self.features.items():
            self._resident[side] = Resident(features, everything.rows[side], device)

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
            size: segments a batch.
            normalisers: per side; None leaves the stored values as they are.
            device: where the tensors shall be.
        """
        import torch  # here, so that looking at a finished run does not wait for it

        affine = on_device(normalisers, device)
        # Once for all batches: each copy to an accelerator lets the processor wait for it.
        label = torch.from_numpy(segments.label[order]).to(device)
        real = {side: torch.from_numpy(v[order]).to(device) for side, v in segments.valid.items()}
        places = {side: kept.places(segments.rows[side][order]) for side, kept in self._resident.items()}
        for start in range(0, len(order), size):
            now = slice(start, start + size)
            values: dict[str, Tensor] = {}
            for side, features in self.features.items():
                if side in self._resident:
                    values[side] = self._resident[side].gather(places[side][now])
                else:
                    rows = segments.rows[side][order[now]]
                    values[side] = torch.from_numpy(features.gather(rows[:, 0], rows[:, 1])).to(device)
            valid = {side: counts[now] for side, counts in real.items()}
            yield as_batch(values, affine, valid, label[now])

    def close(self) -> None:
        """Closes the shards."""
        for features in self.features.values():
            features.close()

    def __enter__(self) -> Corpus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _normaliser(centre: Array, width: Array) -> Normaliser:
    """(x - centre) / width; a bin that does not vary over the training speakers becomes zero for everyone."""
    varies = width >= SMALLEST_DEVIATION
    scale = np.where(varies, 1 / np.maximum(width, SMALLEST_DEVIATION), 0.0)
    return Normaliser(scale.astype(np.float32), (-centre * scale).astype(np.float32))
