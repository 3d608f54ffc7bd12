"""Scanning corpora whose labels are in the file names.

Such a corpus is described by `FileNames`: a pattern, and a function from a path
to an utterance. `scan_filenames` does the rest, the same for all of them.
"""

from __future__ import annotations

import filecmp
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.text import plural
from mfhca_cache.corpora.folder import NOT_WAV, UNLABELLED, Ignored, Scan, ignore, read_lengths, walk
from mfhca_cache.manifest.utterance import Utterance

# Names of emotion folders -> the class on our corpus cards.
EMOTION_FOLDERS = {
    **dict.fromkeys(("anger", "angry"), "anger"),
    **dict.fromkeys(("boredom", "bored"), "boredom"),
    **dict.fromkeys(("calm", "calmness"), "calm"),
    **dict.fromkeys(("disgust", "disgusted"), "disgust"),
    **dict.fromkeys(("fear", "fearful"), "fear"),
    **dict.fromkeys(("happiness", "happy", "joy"), "happiness"),
    "neutral": "neutral",
    **dict.fromkeys(("sadness", "sad"), "sadness"),
    **dict.fromkeys(("surprise", "surprised", "pleasant_surprise", "pleasant_surprised", "ps"), "surprise"),
}

# A path relative to the corpus root -> the utterance (without its length), or the reason for ignoring the file.
# An MfhcaError means that the file belongs to the corpus but cannot be used.
ReadPath = Callable[[PurePosixPath], Utterance | str]


@dataclass(frozen=True)
class FileNames:
    """How a corpus names its files."""

    name: re.Pattern[str]  # a whole file name without suffix
    similar: re.Pattern[str]  # the beginning of a name that is probably misspelt
    example: str  # a correct name
    # Of a path whose name matches `name`.
    utterance: Callable[[PurePosixPath, re.Match[str]], Utterance | str]
    folder: re.Pattern[str] | None = None  # folder names with a group `speaker` or `emotion`
    subfolder: str = ""  # if the root has this folder, only this one is scanned
    genders: Callable[[Path], Mapping[str, str]] | None = None  # root -> gender of each speaker, from a table

    def read(self, path: PurePosixPath, classes: Mapping[str, str]) -> Utterance | str:
        """The utterance that a path names, or the reason for ignoring the file.

        Args:
            path: relative to the corpus root.
            classes: raw label -> class, to compare labels with the names of emotion folders.

        Raises:
            MfhcaError: a folder names another speaker or emotion than the file.
        """
        match = self.name.fullmatch(path.stem)
        if match is None:
            return f"named almost like {self.example}" if self.similar.match(path.stem) else UNLABELLED
        utterance = self.utterance(path, match)
        if isinstance(utterance, Utterance):
            for folder in path.parts[:-1]:
                self._compare(path, folder, utterance, classes)
        return utterance

    def _compare(
        self, path: PurePosixPath, folder: str, utterance: Utterance, classes: Mapping[str, str]
    ) -> None:
        match = self.folder.fullmatch(folder) if self.folder else None
        says = match.groupdict() if match else {}
        speaker = says.get("speaker") or utterance.speaker
        if speaker.upper() != utterance.speaker.upper():
            raise MfhcaError(_misplaced(path, "speaker", utterance.speaker, speaker))
        label = classes.get(utterance.emotion)
        emotion = EMOTION_FOLDERS.get((says.get("emotion") or folder).lower().replace(" ", "_"))
        if label is not None and emotion is not None and emotion != label:
            raise MfhcaError(_misplaced(path, "emotion", label, emotion))


def _misplaced(path: PurePosixPath, what: str, in_name: str, in_folder: str) -> str:
    return (
        f"{path}: {what} {in_name} by its name, {what} {in_folder} by its folder; move it to the right folder"
    )


def scan_filenames(root: Path, names: FileNames, classes: Mapping[str, str]) -> Scan:
    """Scans a corpus by its file names.

    Args:
        root: the corpus root.
        names: how the corpus names its files.
        classes: raw label -> class, see `FileNames.read`.

    Returns:
        See `scan_files`.
    """
    subfolder = root / names.subfolder
    scan = scan_files(root, lambda path: names.read(path, classes), subfolder if subfolder.is_dir() else root)
    if names.genders is None:
        return scan
    genders = names.genders(root)
    utterances = (replace(u, gender=genders.get(u.speaker, "")) for u in scan.utterances)
    return replace(scan, utterances=tuple(utterances))


def scan_files(
    root: Path,
    read: ReadPath,
    folder: Path,
    suffixes: Collection[str] = (".wav",),
    other: str = NOT_WAV,
    same: Callable[[Utterance], object] = lambda utterance: utterance.utterance,
) -> Scan:
    """Scans a folder and everything below it.

    Args:
        root: the corpus root, to which paths are relative.
        read: what a path means.
        folder: where to look: the root or a folder in it.
        suffixes: ends of the names of audio files, in lower case.
        other: the reason for ignoring other files.
        same: files with an equal key may be copies of each other.

    Returns:
        The utterances, ignored files and problems. Of identical files the first is kept. Of different files
        with one utterance name none is kept. Both are problems.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    ignored: Ignored = {}
    problems: list[str] = []
    candidates: dict[object, list[Utterance]] = defaultdict(list)
    for file in walk(folder, ignored, root):
        path = PurePosixPath(file.relative_to(root).as_posix())
        if path.suffix.lower() not in suffixes:
            ignore(ignored, other, str(path))
            continue
        try:
            utterance = read(path)
            if isinstance(utterance, str):
                ignore(ignored, utterance, str(path))
                continue
            _check_characters(utterance)
        except MfhcaError as error:
            problems.append(str(error))
            continue
        candidates[same(utterance)].append(utterance)
    copies: list[tuple[Utterance, Utterance]] = []
    by_name: dict[str, list[Utterance]] = defaultdict(list)
    for group in candidates.values():
        for utterance in _without_copies(root, group, copies):
            by_name[utterance.utterance].append(utterance)
    for name, (first, *others) in by_name.items():
        problems += [
            f"utterance {name} twice: {first.path} and {utterance.path} differ, neither is kept; "
            "remove one, or choose a --root with one of them"
            for utterance in others
        ]
    single = [by_name[name][0] for name in sorted(by_name) if len(by_name[name]) == 1]
    utterances, unreadable = read_lengths(root, single)
    return Scan(tuple(utterances), ignored, (*_describe_copies(root, copies), *problems, *unreadable))


def _check_characters(utterance: Utterance) -> None:
    """Refuses what a manifest cannot hold: reading strips blanks, and paths are written with /."""
    for value in (utterance.path, utterance.utterance, utterance.speaker, utterance.emotion):
        bad = any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 or c == "\\" for c in value)
        if bad or not value or value != value.strip():
            raise MfhcaError(
                f"{utterance.path!r}: a manifest cannot hold {value!r}; rename it "
                "(no backslash, no control character, UTF-8, no blank at either end)"
            )


def _without_copies(
    root: Path, group: list[Utterance], copies: list[tuple[Utterance, Utterance]]
) -> list[Utterance]:
    """The files with different bytes; identical ones are added to `copies` with the first of their kind."""
    different: list[Utterance] = []
    for utterance in group:
        for first in different:
            if filecmp.cmp(root / first.path, root / utterance.path, shallow=False):
                copies.append((first, utterance))
                break
        else:
            different.append(utterance)
    return different


def _describe_copies(root: Path, copies: list[tuple[Utterance, Utterance]]) -> list[str]:
    """One problem for each file that is there twice, or for each folder if several files of it are."""
    folders: dict[tuple[str, str], list[tuple[Utterance, Utterance]]] = defaultdict(list)
    for first, copy in copies:
        a, b = PurePosixPath(first.path).parts, PurePosixPath(copy.path).parts
        while a and b and a[-1] == b[-1]:
            a, b = a[:-1], b[:-1]
        ends = ("/".join(a), "/".join(b))
        folders[min(ends), max(ends)].append((first, copy))
    problems = []
    for (folder, other), pairs in folders.items():
        if len(pairs) > 1:
            inner = other if not folder or other.startswith(f"{folder}/") else folder
            problems.append(
                f"{plural(len(pairs), 'file')} {'is' if len(pairs) == 1 else 'are'} there twice, in "
                f"{folder or 'the root'} and in {other or 'the root'}, "
                f"e.g. {pairs[0][0].path}; the first copies are kept; choose --root {root / inner}"
            )
        else:
            ((first, copy),) = pairs
            problems.append(
                f"utterance {first.utterance} twice: {first.path} and {copy.path} are identical, the first is "
                "kept; remove one, or choose a --root with one of them"
            )
    return problems
