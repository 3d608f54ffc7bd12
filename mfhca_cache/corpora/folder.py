"""What looking through a corpus folder yields, and the looking that all corpora share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import Utterance

# Why a file is ignored, as it reads after a number: "5 hidden, 7 without a label".
HIDDEN = "hidden"  # macOS leaves ._* and .DS_Store
NOT_WAV = "other than .wav"
FOLDER = "in folders without utterances"
SEEN = "folders met twice by links"
EXAMPLES = 3  # named for each reason
LFS = b"version https://git-lfs"

Ignored = dict[str, list[str]]  # reason -> the files, relative to the root


@dataclass(frozen=True)
class Scan:
    """What was found in a corpus folder; everything that was seen is in one of the three."""

    utterances: tuple[Utterance, ...]  # sorted by name
    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)  # reason -> files that are no data
    problems: tuple[str, ...] = ()  # data of the corpus that cannot be used, each by name

    def account(self) -> str:
        """How many files were taken and how many were not, and why.

        Returns:
            One line, and for each reason but "hidden" a line with the first files.

        >>> print(Scan((), {"hidden": ["._a.wav", "._b.wav"], "without a label": ["c.wav"]}).account())
        0 files taken, 3 ignored: 2 hidden, 1 without a label
          without a label: c.wav
        """
        counts = {reason: len(files) for reason, files in sorted(self.ignored.items())}
        taken = len({utterance.path for utterance in self.utterances})
        line = f"{taken} {'file' if taken == 1 else 'files'} taken, {sum(counts.values()) or 'none'} ignored"
        if counts:
            line += ": " + ", ".join(f"{count} {reason}" for reason, count in counts.items())
        return "\n".join([line, *self._examples(counts)])

    def _examples(self, reasons: Iterable[str]) -> Iterator[str]:
        for reason in reasons:
            files = self.ignored[reason]
            more = f" and {len(files) - EXAMPLES} more" if len(files) > EXAMPLES else ""
            if reason != HIDDEN:
                yield f"  {reason}: {', '.join(sorted(files)[:EXAMPLES])}{more}"


def put(ignored: Ignored, reason: str, *files: str) -> None:
    """Notes files that are ignored."""
    if files:
        ignored.setdefault(reason, []).extend(files)


def files_in(root: Path, folder: Path, suffix: str, ignored: Ignored, otherwise: str) -> list[Path]:
    """The files of one kind that lie directly in a folder.

    Args:
        root: the corpus root, for the names of what is ignored.
        folder: where to look.
        suffix: how their names end, in any case, e.g. ".wav".
        ignored: takes what else lies there, by reason; of another folder, the files in it.
        otherwise: the reason for a file of another kind.

    Returns:
        The files, sorted by name.

    Raises:
        MfhcaError: the folder cannot be read.
    """
    chosen = []
    for entry in entries(folder):
        name = entry.relative_to(root).as_posix()
        if entry.name.startswith("."):
            put(ignored, HIDDEN, name)
        elif entry.is_dir():
            inside = files_under(entry, ignored, root)
            put(ignored, FOLDER, *(file.relative_to(root).as_posix() for file in inside))
        elif entry.suffix.lower() == suffix:
            chosen.append(entry)
        else:
            put(ignored, otherwise, name)
    return chosen


def files_under(folder: Path, ignored: Ignored, root: Path) -> Iterator[Path]:
    """Every file in a folder and the folders in it, links to folders followed, once each.

    Args:
        folder: where to look.
        ignored: takes what is hidden.
        root: the corpus root, for the names of what is ignored.

    Yields:
        The files, folder by folder, sorted by name.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        where = Path(here)
        real = os.path.realpath(here)
        if real in seen:  # links may lead in a circle
            put(ignored, SEEN, where.relative_to(root).as_posix())
            folders.clear()
            continue
        seen.add(real)
        hidden = [name for name in (*folders, *files) if name.startswith(".")]
        put(ignored, HIDDEN, *((where / name).relative_to(root).as_posix() for name in hidden))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (where / name for name in sorted(files) if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise MfhcaError(
        f"{error.filename}: not a folder that can be read ({error.strerror}); check --root"
    ) from error


def entries(folder: Path) -> list[Path]:
    """What lies directly in a folder, sorted by name.

    Raises:
        MfhcaError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise MfhcaError(
            f"{folder}: not a folder that can be read ({error.strerror}); check --root"
        ) from error


def with_lengths(root: Path, drafts: Iterable[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Reads the length and rate of every utterance's audio from the head of its file.

    Args:
        root: the corpus root.
        drafts: utterances whose paths are files.

    Returns:
        The utterances with `samples` and `sample_rate`, in the same order, without those whose audio cannot
        be used; and a line for each of these.
    """

    import soundfile

    def read(draft: Utterance) -> Utterance | str:
        file = root / draft.path
        try:
            info = soundfile.info(str(file))
        except (OSError, RuntimeError) as error:  # libsndfile's errors are RuntimeErrors
            return f"utterance {draft.utterance}: {draft.path} is not readable audio ({_reason(file, error)})"
        if info.frames <= 0:
            return f"utterance {draft.utterance}: {draft.path} holds no samples"
        return replace(draft, samples=info.frames, sample_rate=info.samplerate)

    # A thread waits for the disk (or the network file system) most of the time.
    with ThreadPoolExecutor(max_workers=8) as pool:
        results = list(pool.map(read, drafts))
    good = [result for result in results if isinstance(result, Utterance)]
    return good, [result for result in results if isinstance(result, str)]


def _reason(file: Path, error: Exception) -> str:
    try:
        with open(file, "rb") as stream:
            if stream.read(len(LFS)) == LFS:
                return "a pointer of git-lfs; `git lfs pull` fetches the audio"
    except OSError as unreadable:
        return unreadable.strerror or "unreadable"
    # libsndfile's message without the path that soundfile puts before it
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
