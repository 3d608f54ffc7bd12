"""Whether features were computed from the audio files that the manifest names."""

from __future__ import annotations

from collections.abc import Sequence

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.reader import Features
from mfhca_cache.store.schema import Origin


def check_origins(features: Features, utterances: Sequence[Utterance]) -> None:
    """Compares the path and the span of every utterance with those its features were computed from.

    After an edit of the manifest the ids alone would still match, and a run would use the features of another
    recording.

    Args:
        features: opened shards.
        utterances: rows of the manifest that have features.

    Raises:
        MfhcaError: paths or spans differ; the utterances are listed.
    """
    origins: dict[str, Origin] = {}
    for shard in features.shards:
        origins |= shard.origins()
    different = []
    for u in utterances:
        origin = origins[u.utterance]
        if (origin.path, origin.start_s, origin.end_s) != (u.path, u.start_s, u.end_s):
            manifest, cache = (_describe(o.path, o.start_s, o.end_s) for o in (u, origin))
            different.append(f"{u.utterance}: {manifest} in the manifest, {cache} in the cache")
    if different:
        folder = features.shards[0].path.parent
        raise MfhcaError(
            f"{folder}: the features of {len(different)} of {len(utterances)} utterances were computed from other "
            "files, or other parts of files, than those in the manifest; run `mfhca-cache features` with this "
            f"manifest:\n{listing(different)}"
        )


def _describe(path: str, start_s: float | None, end_s: float | None) -> str:
    """An audio file, or a part of it.

    >>> _describe("a.wav", None, None), _describe("a.wav", None, 1.5), _describe("a.wav", 1.5, None)
    ('a.wav', 'a.wav (0 s to 1.5 s)', 'a.wav (1.5 s to the end)')
    """
    if start_s is None and end_s is None:
        return path
    return f"{path} ({start_s or 0:g} s to {'the end' if end_s is None else f'{end_s:g} s'})"
