"""Which audio, and which computation of it, the features of a run come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mfhca_cache.common.audio_digest import file_digest, span_digest
from mfhca_cache.common.errors import MfhcaError, listing, no_folder
from mfhca_cache.common.hardware import cores
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.manifest import resolve_audio
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import command_for
from mfhca_cache.store.reader import Features
from mfhca_cache.store.schema import Origin
from mfhca_cache.store.shard import SHA256, Array


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
    different, count = [], plural(len(utterances), "utterance")
    for u in utterances:
        origin = origins[u.utterance]
        if (origin.path, origin.start_s, origin.end_s) != (u.path, u.start_s, u.end_s):
            manifest, cache = (_describe(o.path, o.start_s, o.end_s) for o in (u, origin))
            different.append(f"{u.utterance}: {manifest} in the manifest, {cache} in the cache")
    if different:
        folder = features.shards[0].path.parent
        raise MfhcaError(
            f"{folder}: the features of {len(different)} of {count} were computed from other files, or other parts of "
            "files, than those in the manifest; run "
            f"`{command_for(features.shards[0].kind, folder.parent)}`:\n{listing(different)}"
        )


def check_same_audio(
    features: Mapping[str, Features], spans: Mapping[str, Array], utterances: Sequence[Utterance]
) -> None:
    """Checks that all inputs of an utterance come from the same audio, cut the same way.

    Args:
        features: opened shards by side.
        spans: by side (U, 4): shard, first row, number of segments, position in the shard's table of utterances.
        utterances: (U,) rows of the manifest.

    Raises:
        MfhcaError: the inputs of an utterance differ.
    """
    for i, u in enumerate(utterances) if len(spans) > 1 else ():
        sources = {
            features[side].shards[span[i, 0]].path: (
                features[side].shards[span[i, 0]].audio_sha256[span[i, 3]],
                int(span[i, 2]),
            )
            for side, span in spans.items()
        }
        if len(set(sources.values())) > 1:
            listed = "; ".join(
                f"{path} from audio with SHA-256 {digest[:16]}, {plural(count, 'segment')}"
                for path, (digest, count) in sources.items()
            )
            raise MfhcaError(
                f"utterance {u.utterance} ({u.path}): its features come from different audio or segments: "
                f"{listed}; run `mfhca-cache features` for all of these kinds (--kind ... --kind ...)"
            )


def hash_audio(root: Path, utterances: Sequence[Utterance]) -> dict[str, str]:
    """The digest of each utterance's audio as it is on the disk, or the error where it cannot be read.

    Args:
        root: the corpus folder.
        utterances: rows of the manifest.

    Returns:
        Utterance id -> 64 hexadecimal digits (see `audio_digest.digest_of`) or an error.

    Raises:
        MfhcaError: the root is not a folder.
    """
    if not root.is_dir():
        raise MfhcaError(f"{no_folder(root)}; pass the corpus folder as --root, or leave --root out")
    of_file: dict[str, list[Utterance]] = {}
    for u in utterances:
        of_file.setdefault(u.path, []).append(u)
    folders: dict[str, Path] = {}

    def read(rows: list[Utterance]) -> list[tuple[str, str]]:
        try:
            # The digest decides, wherever a link leads.
            digest = file_digest(resolve_audio(root, rows[0], allow_outside=True, known=folders))
        except MfhcaError as error:
            return [(u.utterance, str(error)) for u in rows]
        return [(u.utterance, span_digest(digest, u.start_s, u.end_s)) for u in rows]

    with ThreadPoolExecutor(cores(), "hash") as pool:
        return dict(pair for pairs in pool.map(read, of_file.values()) for pair in pairs)


def check_audio(
    expected: Mapping[str, str], cached: Sequence[str], utterances: Sequence[Utterance], root: Path | None
) -> None:
    """Compares the audio of features with that on the disk, or with that of other features.

    Args:
        expected: from `hash_audio`; without a root, digests of other features by utterance.
        cached: (U,) digests of the audio that the features were computed from.
        utterances: (U,) rows of the manifest.
        root: for the message.

    Raises:
        MfhcaError: files changed or are missing; the utterances are listed.
    """
    different, count = [], plural(len(utterances), "utterance")
    for u, before in zip(utterances, cached, strict=True):
        now = expected[u.utterance]
        if now != before:
            changed = f"the audio of {u.path} changed (SHA-256 {before[:12]} in the cache, {now[:12]} now)"
            different.append(f"{u.utterance}: {changed if SHA256.fullmatch(now) else now}")
    if different and root is None:
        raise MfhcaError(
            f"the features of {len(different)} of {count} were computed from other audio in one row than in "
            f"another; run `mfhca-cache features` for all kinds of features:\n{listing(different)}"
        )
    if different:
        raise MfhcaError(
            f"{root}: the audio of {len(different)} of {count} is missing, or is not that of the features; "
            "restore it or run `mfhca-cache features`; without --root, the features alone are used:\n"
            + listing(different)
        )


def features_digest(features: Mapping[str, Features], spans: Mapping[str, Array]) -> str:
    """SHA-256 of the stored bytes and the valid frames of each utterance.

    Equal audio can have other features: of another processor, version or number of threads. The bytes are not read:
    their digests are in the shards. Other rows of a shard do not count.

    Args:
        features, spans: see `check_same_audio`.
    """
    digest = hashlib.sha256()
    for side, span in sorted(spans.items()):
        opened, parts = features[side], [b""] * len(span)
        for shard in np.unique(span[:, 0]).tolist():
            digests, valid = opened.shards[shard].features_sha256, opened.shards[shard].valid_frames
            for index in np.flatnonzero(span[:, 0] == shard).tolist():
                _, first, count, row = span[index]
                parts[index] = bytes.fromhex(digests[row]) + valid[first : first + count].tobytes()
        digest.update(side.encode() + b"".join(parts))
    return digest.hexdigest()


def _describe(path: str, start_s: float | None, end_s: float | None) -> str:
    """An audio file, or a part of it.

    >>> _describe("a.wav", None, None), _describe("a.wav", None, 1.5), _describe("a.wav", 1.5, None)
    ('a.wav', 'a.wav (0 s to 1.5 s)', 'a.wav (1.5 s to the end)')
    """
    if start_s is None and end_s is None:
        return path
    return f"{path} ({start_s or 0:g} s to {'the end' if end_s is None else f'{end_s:g} s'})"
