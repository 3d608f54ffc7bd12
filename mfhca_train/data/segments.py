"""The segments of some utterances, and where they are in the shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.reader import Features
from mfhca_train.data.batch import Array


@dataclass(frozen=True)
class Segments:
    """The segments of some utterances, in the order of the utterances and of time. N segments.

    Attributes:
        utterance: (N,) index into the utterances asked for.
        label: (N,) class index.
        rows: per input (N, 2): shard and row.
        valid: per input (N,): frames that are not padding.
    """

    utterance: Array
    label: Array
    rows: Mapping[str, Array]
    valid: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.utterance)

    def frames(self) -> Array:
        """(N,) frames that are not padding, of the spectrogram if it is read, else of the hidden states."""
        return self.valid["spec"] if "spec" in self.valid else self.valid["ssl"]


class MissingUtterancesError(MfhcaError):
    """Utterances without features; `missing` has their ids."""

    def __init__(self, message: str, missing: Sequence[str]) -> None:
        super().__init__(f"{message}:\n{listing(missing)}")
        self.missing = frozenset(missing)


def locate(features: Features, recipe: RecipeFolder, utterances: Sequence[Utterance]) -> Array:
    """Where the segments of utterances are.

    Args:
        features: the open shards.
        recipe: theirs, for messages.
        utterances: U rows of the manifest.

    Returns:
        (U, 4): shard, first row, number of segments, position in the shard's own table of utterances.

    Raises:
        MfhcaError: an utterance has no features or no segment, or another speaker than in the manifest.
    """
    position = [{name: i for i, name in enumerate(shard.utterance_ids)} for shard in features.shards]
    spans, missing = [], []
    for u in utterances:
        try:
            shard, first, count = features.rows(u.utterance)
        except MfhcaError:
            missing.append(u.utterance)
            continue
        if features.shards[shard].speaker != u.speaker:
            raise MfhcaError(
                f"utterance {u.utterance}: the manifest says speaker {u.speaker}, the cache "
                f"{features.shards[shard].speaker}; run `{recipe.command}`"
            )
        if count == 0:
            raise MfhcaError(
                f"utterance {u.utterance}: the cache has no segment of it; remove it from the manifest"
            )
        spans.append((shard, first, count, position[shard][u.utterance]))
    if missing:
        raise MissingUtterancesError(
            f"{features.shards[0].path.parent}: no features of {len(missing)} of "
            f"{plural(len(utterances), 'utterance')}; run `{recipe.command}` and fix what it reports, or remove them "
            "from the manifest",
            missing,
        )
    return np.array(spans, np.int64).reshape(-1, 4)
