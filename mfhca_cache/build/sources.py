"""The audio behind a manifest, as it is now: found, read and hashed, or not and why.

What the cache holds of it is in `plan`; decoding is in `audio`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import Audio, read_audio, read_bytes, segment_count, span_digest
from mfhca_cache.manifest.manifest import Utterance, resolve_audio
from mfhca_cache.recipe.kinds import Recipe

AT_ONCE = 16  # files a thread takes at a time: one at a time, handing over costs as much as hashing


@dataclass(frozen=True)
class Source:
    """An utterance whose audio was found and read."""

    utterance: Utterance
    path: Path
    digest: str  # see audio.digest_of

    def read(self, sample_rate: int, pre_emphasis: float) -> Audio:
        """Reads and decodes it; see `audio.decode`."""
        at = self.utterance
        return read_audio(self.path, sample_rate, at.start_s, at.end_s, pre_emphasis)

    def segments(self, recipe: Recipe) -> int:
        """How many segments it will make, by the manifest's length or else the file's header; 1 if neither tells."""
        samples = round((self.seconds() or 0.0) * recipe.sample_rate)
        return segment_count(samples, recipe.segment_samples, recipe.tail, recipe.minimum_tail_samples)

    def seconds(self) -> float | None:
        """Its length; None where neither the manifest nor the file's header tells."""
        u = self.utterance
        whole = u.samples / u.sample_rate if u.samples and u.sample_rate else _seconds(self.path)
        if whole is None:
            return None
        return max(0.0, min(whole, u.end_s or whole) - (u.start_s or 0.0))


@dataclass(frozen=True)
class Sources:
    """The audio of a manifest's utterances, as it is now."""

    found: dict[str, Source]  # by utterance id, sorted
    failed: dict[str, str]  # utterance id -> why its audio is out of reach
    speakers: dict[str, tuple[str, ...]]  # speaker -> sorted utterance ids, failed ones included
    speaker_of: dict[str, str]

    @property
    def count(self) -> int:
        """Utterances, failed ones included."""
        return len(self.speaker_of)


def read_sources(
    utterances: Iterable[Utterance],
    root: Path,
    jobs: int = 1,
    allow_outside: bool = False,
    advance: Callable[[int], Any] = lambda _: None,
) -> Sources:
    """Reads and hashes the audio of all utterances.

    Args:
        utterances: rows of a manifest.
        root: the corpus root.
        jobs: threads.
        allow_outside: whether links may lead out of the root.
        advance: called with a number of utterances each time so many are read.

    Returns:
        What was found, and why the rest was not.

    Raises:
        MfhcaError: the root is not a folder.
    """
    if not root.is_dir():
        raise MfhcaError(f"{root}: no such folder; pass the corpus folder as --root")
    by_file: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_file[utterance.path].append(utterance)

    known: dict[Path, Path] = {}

    def read(together: list[Utterance]) -> list[Source | tuple[str, str]]:
        # Utterances cut from one long recording share one reading of it.
        try:
            path = resolve_audio(root, together[0], allow_outside, known)
            digest = hashlib.sha256(read_bytes(path)).hexdigest()
        except MfhcaError as error:
            return [(utterance.utterance, str(error)) for utterance in together]
        return [Source(u, path, span_digest(digest, u.start_s, u.end_s)) for u in together]

    def read_some(files: list[list[Utterance]]) -> list[Source | tuple[str, str]]:
        return [result for together in files for result in read(together)]

    found, failed = {}, {}
    files = list(by_file.values())
    with ThreadPoolExecutor(jobs, "hash") as pool:
        for results in pool.map(
            read_some, (files[at : at + AT_ONCE] for at in range(0, len(files), AT_ONCE))
        ):
            advance(len(results))
            for result in results:
                if isinstance(result, Source):
                    found[result.utterance.utterance] = result
                else:
                    failed[result[0]] = result[1]
    speaker_of = {u.utterance: u.speaker for together in by_file.values() for u in together}
    speakers: dict[str, list[str]] = defaultdict(list)
    for name in sorted(speaker_of):
        speakers[speaker_of[name]].append(name)
    return Sources(
        dict(sorted(found.items())),
        dict(sorted(failed.items())),
        {speaker: tuple(names) for speaker, names in sorted(speakers.items())},
        speaker_of,
    )


def _seconds(path: Path) -> float | None:
    try:
        info = soundfile.info(path)
        return float(info.frames / info.samplerate)
    except (soundfile.SoundFileError, RuntimeError, OSError, ZeroDivisionError):
        return None  # decoding will say what is wrong with it
