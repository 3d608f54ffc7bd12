"""Which rows of shards are features of one and the same recording, whatever files the recordings are in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from mfhca_cache.store.shard import Shard

MOMENTS = ("sum", "sum_squares", "minimum", "maximum")


def recording_identities(shards: Iterable[Shard]) -> dict[str, str]:
    """A digest for each utterance, equal for equal features.

    The same samples in another container (WAV and FLAC) give the same features and so the same moments, to the last
    bit. Utterances with constant features, as of digital silence, are left out.

    Args:
        shards: of one recipe.

    Returns:
        Utterance id -> hexadecimal digest of its number of frames and its moments.
    """
    identities: dict[str, str] = {}
    for shard in shards:
        if not shard.utterance_ids:
            continue
        tables = [shard.moments(name) for name in MOMENTS]
        constant = (tables[2] == tables[3]).reshape(len(shard.utterance_ids), -1).all(axis=1)
        for row, name in enumerate(shard.utterance_ids):
            if shard.count[row] and not constant[row]:
                parts = [np.int64(shard.count[row]).tobytes(), *(table[row].tobytes() for table in tables)]
                identities[name] = hashlib.sha256(b"".join(parts)).hexdigest()
    return identities
