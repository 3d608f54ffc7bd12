"""The audio files of a manifest: locating, reading and hashing them.

`plan` compares them with the cache; `features.audio` decodes them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mfhca_cache.common.audio_digest import file_digest, span_digest
from mfhca_cache.common.audio_length import header_seconds
from mfhca_cache.common.errors import MfhcaError, no_folder
from mfhca_cache.features.audio import WRONG_LENGTH, Blocks, stream_audio
from mfhca_cache.features.segments import segment_count
from mfhca_cache.manifest.manifest import resolve_audio
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.kinds import Recipe
from mfhca_cache.store.schema import Origin

LENGTH_TOLERANCE = 0.1  # seconds; the headers of MP3 files do not count the encoder's padding
OTHER_LENGTH = "whose file has another length or sample rate than the manifest says (make the manifest again)"
FILES_PER_TASK = 16  # with one file per task, handing it to a thread costs as much as hashing it


@dataclass(frozen=True)
class Source:
    """An utterance whose audio file was located and hashed."""

    utterance: Utterance
    path: Path
    digest: str  # see audio_digest.digest_of

    @property
    def origin(self) -> Origin:
        """What features of it are computed from."""
        row = self.utterance
        return Origin(self.digest, row.path, row.start_s, row.end_s)

    def blocks(self, sample_rate: int, pre_emphasis: float) -> Blocks:
        """Decodes the audio, see `audio.stream_audio`; warns if it is not as long as the manifest says."""
        row = self.utterance
        audio = yield from stream_audio(self.path, sample_rate, row.start_s, row.end_s, pre_emphasis)
        whole = row.start_s is None and row.end_s is None and WRONG_LENGTH not in audio.warnings
        length = audio.native_samples if row.samples is None or not whole else row.samples
        other_length = abs(audio.native_samples - length) > LENGTH_TOLERANCE * audio.native_rate
        if other_length or row.sample_rate not in (None, audio.native_rate):
            return replace(audio, warnings=(*audio.warnings, OTHER_LENGTH))
        return audio

    def segments(self, recipe: Recipe) -> int:
        """Expected number of segments, from `seconds`; 1 if the length is unknown."""
        samples = round((self.seconds() or 0.0) * recipe.sample_rate)
        return segment_count(samples, recipe.segment_samples, recipe.tail, recipe.minimum_tail_samples)

    def seconds(self) -> float | None:
        """The length according to the manifest or else the file's header; None if neither states it or an end."""
        row = self.utterance
        whole = (
            row.samples / row.sample_rate if row.samples and row.sample_rate else header_seconds(self.path)
        )
        ends = [end for end in (whole, row.end_s) if end is not None]
        return max(0.0, min(ends) - (row.start_s or 0.0)) if ends else None


@dataclass(frozen=True)
class Sources:
    """The audio of a manifest's utterances."""

    root: Path  # of the corpus
    available: dict[str, Source]  # by utterance id, sorted
    unreadable: dict[str, str]  # utterance id -> the error
    speakers: dict[str, tuple[str, ...]]  # speaker -> sorted utterance ids, unreadable ones included
    speaker_of: dict[str, str]

    @property
    def count(self) -> int:
        """Number of utterances, unreadable ones included."""
        return len(self.speaker_of)


def read_sources(
    utterances: Iterable[Utterance],
    root: Path,
    jobs: int = 1,
    allow_outside: bool = False,
    advance: Callable[[int], Any] = lambda _: None,
) -> Sources:
    """Reads and hashes the audio files of all utterances.

    Args:
        utterances: rows of a manifest.
        root: the corpus root.
        jobs: threads.
        allow_outside: whether links may lead out of the root.
        advance: called with the number of utterances after each batch of files.

    Returns:
        The files, and an error for each utterance whose file cannot be read.

    Raises:
        MfhcaError: the root is not a folder.
    """
    if not root.is_dir():
        raise MfhcaError(f"{no_folder(root)}; pass the corpus folder as --root")
    by_file: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        by_file[utterance.path].append(utterance)

    resolved_folders: dict[str, Path] = {}

    def read(rows: list[Utterance]) -> list[Source | tuple[str, str]]:
        # Utterances cut from one long recording share one reading of it.
        try:
            path = resolve_audio(root, rows[0], allow_outside, resolved_folders)
            digest = file_digest(path)
        except MfhcaError as error:
            return [(row.utterance, str(error)) for row in rows]
        return [Source(row, path, span_digest(digest, row.start_s, row.end_s)) for row in rows]

    def read_batch(files: list[list[Utterance]]) -> list[Source | tuple[str, str]]:
        return [result for rows in files for result in read(rows)]

    available, unreadable = {}, {}
    files = list(by_file.values())
    batches = (files[start : start + FILES_PER_TASK] for start in range(0, len(files), FILES_PER_TASK))
    with ThreadPoolExecutor(jobs, "hash") as pool:
        for results in pool.map(read_batch, batches):
            advance(len(results))
            for result in results:
                if isinstance(result, Source):
                    available[result.utterance.utterance] = result
                else:
                    unreadable[result[0]] = result[1]
    speaker_of = {row.utterance: row.speaker for rows in files for row in rows}
    speakers: dict[str, list[str]] = defaultdict(list)
    for name in sorted(speaker_of):
        speakers[speaker_of[name]].append(name)
    return Sources(
        root,
        dict(sorted(available.items())),
        dict(sorted(unreadable.items())),
        {speaker: tuple(names) for speaker, names in sorted(speakers.items())},
        speaker_of,
    )
