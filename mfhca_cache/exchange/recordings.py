"""What an import needs to know about the audio: its length, and the digest of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.build.sources import read_sources
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.text import plural
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.kinds import External
from mfhca_cache.store.reader import list_recipes
from mfhca_cache.store.schema import Origin, shard_name
from mfhca_cache.store.shard import read_shard


@dataclass(frozen=True)
class Recording:
    """The audio of an utterance.

    Attributes:
        seconds: its length.
        origin: of features computed from it; None if neither the audio nor other features of it are there.
    """

    seconds: float
    origin: Origin | None


def read_recordings(
    utterances: Sequence[Utterance], root: Path, jobs: int, allow_outside: bool
) -> dict[str, Recording]:
    """Reads lengths from the files' headers, and hashes the files.

    Args:
        utterances: rows of a manifest.
        root, jobs, allow_outside: see `sources.read_sources`.

    Returns:
        Utterance id -> recording.

    Raises:
        MfhcaError: a file cannot be read, or its length is unknown.
    """
    sources = read_sources(utterances, root, jobs, allow_outside)
    if sources.unreadable:
        reasons = list(sources.unreadable.values())
        raise MfhcaError(
            f"{root}: the audio of {plural(len(reasons), 'utterance')} cannot be read:\n{listing(reasons)}"
        )
    found, unknown = {}, []
    for name, source in sources.available.items():
        seconds = source.seconds()
        if seconds is None:
            unknown.append(f"{name}: the length of {source.utterance.path} is not in its header")
        else:
            found[name] = Recording(seconds, source.origin)
    if unknown:
        raise MfhcaError(f"{root}: convert these files to WAV or FLAC:\n{listing(unknown)}")
    return found


def recorded(cache: Path, utterances: Sequence[Utterance]) -> dict[str, Recording]:
    """Takes lengths from the manifest, and origins from the other features of the cache; reads no audio.

    Args:
        cache: the cache folder.
        utterances: rows of a manifest.

    Returns:
        Utterance id -> recording; without an origin where no features of this part of this file are there.

    Raises:
        MfhcaError: a length is not in the manifest, or features of one utterance come from different audio.
    """
    without = [u.utterance for u in utterances if u.samples is None or u.sample_rate is None]
    if without:
        raise MfhcaError(
            f"the manifest has no samples and sample_rate of {plural(len(without), 'utterance')}, so their segments "
            f"cannot be counted; pass --root, the folder of the audio:\n{listing(without)}"
        )
    wanted = {u.utterance: u for u in utterances}
    origins: dict[str, Origin] = {}
    for recipe in list_recipes(cache):
        paths = [recipe.path / shard_name(speaker) for speaker in sorted({u.speaker for u in utterances})]
        for path in paths if recipe.kind != External.kind else ():
            for name, origin in read_shard(path).origins().items() if path.exists() else ():
                u = wanted.get(name)
                if u is None or (origin.path, origin.start_s, origin.end_s) != (u.path, u.start_s, u.end_s):
                    continue
                if origins.setdefault(name, origin) != origin:
                    raise MfhcaError(
                        f"{cache}: utterance {name} has features of different audio; pass --root, the audio's folder"
                    )
    found = {}
    for u in utterances:
        whole = (u.samples or 0) / (u.sample_rate or 1)
        seconds = max(0.0, min(whole, u.end_s or whole) - (u.start_s or 0.0))
        found[u.utterance] = Recording(seconds, origins.get(u.utterance))
    return found
