"""Walking through a corpus folder, and the result of a scan."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mfhca_cache.common.audio_length import header_length
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.text import first_names, plural
from mfhca_cache.manifest.utterance import Utterance

# Reasons for ignoring a file, worded to follow a number: "5 hidden, 7 without a label".
HIDDEN = "hidden"  # macOS leaves ._* and .DS_Store
NOT_WAV = "not .wav"
UNLABELLED = "without a label"
IN_OTHER_FOLDERS = "in folders without utterances"
LINKED_TWICE = "folders already visited through another link"
LFS_HEADER = b"version https://git-lfs"
HEADER_BYTES = 1024  # a file with a length of 0 and more than this may still have audio
THREADS = 8  # they wait for the disk or the network file system most of the time

Ignored = dict[str, list[str]]  # reason -> files, relative to the corpus root


@dataclass(frozen=True)
class Scan:
    """Every file of a corpus folder: an utterance, ignored, or a problem."""

    utterances: tuple[Utterance, ...]  # sorted by name
    ignored: Mapping[str, Sequence[str]] = field(default_factory=dict)  # reason -> files
    problems: tuple[str, ...] = ()  # files of the corpus that cannot be used, and why

    def file_counts(self) -> str:
        """How many files were used, how many ignored, and why.

        Returns:
            One line, and one line for each reason except "hidden" that names the first files.

        >>> print(Scan((), {"hidden": ["._a.wav", "._b.wav"], "without a label": ["c.wav"]}).file_counts())
        0 files used, 3 ignored: 2 hidden, 1 without a label
          without a label: c.wav
        """
        counts = {reason: len(files) for reason, files in sorted(self.ignored.items())}
        used = len({utterance.path for utterance in self.utterances})
        line = f"{plural(used, 'file')} used, {sum(counts.values()) or 'none'} ignored"
        if counts:
            line += ": " + ", ".join(f"{count} {reason}" for reason, count in counts.items())
        examples = [
            f"  {reason}: {first_names(self.ignored[reason])}" for reason in counts if reason != HIDDEN
        ]
        return "\n".join([line, *examples])


def ignore(ignored: Ignored, reason: str, *files: str) -> None:
    """Adds files to those that are ignored."""
    if files:
        ignored.setdefault(reason, []).extend(files)


def files_in(root: Path, folder: Path, suffix: str, ignored: Ignored, other: str) -> list[Path]:
    """The files of one type directly in a folder.

    Args:
        root: the corpus root; names of ignored files are relative to it.
        folder: where to look.
        suffix: end of the file names, in lower case, e.g. ".wav".
        ignored: receives everything else in the folder, subfolders with all their files.
        other: the reason for ignoring a file of another type.

    Returns:
        The files, sorted by name.

    Raises:
        MfhcaError: the folder cannot be read.
    """
    files = []
    for entry in list_folder(folder):
        name = entry.relative_to(root).as_posix()
        if entry.name.startswith("."):
            ignore(ignored, HIDDEN, name)
        elif entry.is_dir():
            inside = walk(entry, ignored, root)
            ignore(ignored, IN_OTHER_FOLDERS, *(file.relative_to(root).as_posix() for file in inside))
        elif entry.suffix.lower() == suffix:
            files.append(entry)
        else:
            ignore(ignored, other, name)
    return files


def walk(
    folder: Path, ignored: Ignored, root: Path, suffixes: Collection[str] | None = None
) -> Iterator[Path]:
    """Every file below a folder. Links to folders are followed, but each folder is visited once.

    Args:
        folder: where to start.
        ignored: receives hidden files and folders.
        root: the corpus root; names of ignored files are relative to it.
        suffixes: ends of the names of the files to yield, in lower case; None for all files.

    Yields:
        The files, folder by folder, sorted by name.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    visited: set[str] = set()
    for path, folders, files in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        parent = Path(path)
        real = os.path.realpath(path)
        if real in visited:  # links may form a loop
            ignore(ignored, LINKED_TWICE, parent.relative_to(root).as_posix())
            folders.clear()
            continue
        visited.add(real)
        hidden = [name for name in (*folders, *files) if name.startswith(".")]
        ignore(ignored, HIDDEN, *((parent / name).relative_to(root).as_posix() for name in hidden))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (
            parent / name
            for name in sorted(files)
            if not name.startswith(".")
            and (suffixes is None or os.path.splitext(name)[1].lower() in suffixes)  # noqa: PTH122, quicker
        )


def list_folder(folder: Path) -> list[Path]:
    """The entries of a folder, sorted by name.

    Raises:
        MfhcaError: there is no such folder, or it cannot be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        _raise_unreadable(error)
        raise


def _raise_unreadable(error: OSError) -> None:
    raise MfhcaError(f"{error.filename}: not a readable folder ({error.strerror}); check --root") from error


def read_lengths(root: Path, utterances: Iterable[Utterance]) -> tuple[list[Utterance], list[str]]:
    """Reads the length and sample rate of every utterance from the header of its file.

    Args:
        root: the corpus root.
        utterances: their paths must be files.

    Returns:
        The utterances with `samples` and `sample_rate`, in the same order, without those whose audio cannot be
        used; and one problem for each of these (one for all pointers of git-lfs together).
    """
    pointers: list[str] = []

    def read(utterance: Utterance) -> Utterance | str | None:
        file = root / utterance.path
        if not file.is_file():  # a named pipe would be waited for, a device read without end
            return f"utterance {utterance.utterance}: {utterance.path} is not a regular file"
        try:
            samples, rate = header_length(file)
        except (OSError, RuntimeError) as error:  # libsndfile's errors are RuntimeErrors
            if is_lfs_pointer(file):
                pointers.append(utterance.path)
                return None
            reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
            return f"utterance {utterance.utterance}: {utterance.path} is not readable audio ({reason})"
        if samples == 0 and file.stat().st_size < HEADER_BYTES:  # some streamed WAVs declare a length of 0
            return f"utterance {utterance.utterance}: {utterance.path} has no samples"
        # None where the header does not say how many.
        return replace(utterance, samples=samples or None, sample_rate=rate)

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(read, utterances))
    readable = [result for result in results if isinstance(result, Utterance)]
    problems = [result for result in results if isinstance(result, str)]
    if pointers:
        count = "1 file is a pointer" if len(pointers) == 1 else f"{len(pointers)} files are pointers"
        problems.insert(
            0,
            f"{count} of git-lfs, without audio ({first_names(pointers)}); `git lfs pull` downloads the audio",
        )
    return readable, problems


def is_lfs_pointer(file: Path) -> bool:
    """Whether a file is what git leaves in place of audio that git-lfs has not downloaded."""
    try:
        with open(file, "rb") as stream:
            return stream.read(len(LFS_HEADER)) == LFS_HEADER
    except OSError:
        return False


def missing_folders(
    root: Path, speakers: Iterable[str], missing: Sequence[str], utterances: Sequence[Utterance]
) -> list[str]:
    """Why speakers have no utterance: a session's or a speaker's folder is missing, if the corpus has such folders.

    Args:
        root: the corpus root.
        speakers: of the complete corpus.
        missing: those without an utterance.
        utterances: what was found of the others.

    Returns:
        One text per folder, e.g. "Session3: no file", and one for the speakers that have no folder of their own.
    """
    folders: list[str] = []
    left = list(missing)
    # In corpora with sessions, such as IEMOCAP, a speaker's id is the session's and a letter.
    widths = {len(u.speaker) - len(u.session) if u.speaker.startswith(u.session) else 0 for u in utterances}
    before = _common_path(utterances, lambda u: u.session)
    if before is not None and len(widths) == 1 and (width := widths.pop()):
        of_session: dict[str, set[str]] = {}
        for speaker in speakers:
            of_session.setdefault(speaker[:-width], set()).add(speaker)
        absent = [session for session, members in of_session.items() if members <= set(missing)]
        folders += [before + session for session in absent]
        left = [speaker for speaker in missing if speaker[:-width] not in absent]
    before = _common_path(utterances, lambda u: u.speaker)
    if before is not None:
        folders += [before + speaker for speaker in left]
        left = []
    causes = [f"{name}: no {'usable ' if (root / name).is_dir() else ''}file" for name in folders]
    return causes + ([f"no utterance of the speakers {', '.join(left)}"] if left else [])


def _common_path(utterances: Iterable[Utterance], value: Callable[[Utterance], str]) -> str | None:
    """What stands before a value in the folders of all utterances, e.g. "Session"; None if it is not the same."""
    found: set[str | None] = set()
    for utterance in utterances:
        folders = list(PurePosixPath(utterance.path).parents)[-2::-1]  # from the root on
        end = value(utterance)
        ending = (str(folder).removesuffix(end) for folder in folders if end and folder.name.endswith(end))
        found.add(next(ending, None))
    return found.pop() if len(found) == 1 else None
