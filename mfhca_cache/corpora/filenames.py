"""Corpora whose labels are in the names of their files: one look through the folder, one reading of each name.

A corpus of this kind is a function from a path to an utterance, or to the
reason why the file is none.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora.folder import NOT_WAV, Ignored, Scan, files_under, put, with_lengths
from mfhca_cache.manifest.manifest import Utterance

UNLABELLED = "without a label"

# A path relative to the root -> the utterance without its length, or the reason why there is none. An MfhcaError
# means data of the corpus that cannot be used.
Reading = Callable[[PurePosixPath], Utterance | str]


def scan_names(
    root: Path,
    read: Reading,
    folder: Path | None = None,
    suffixes: Collection[str] = (".wav",),
    otherwise: str = NOT_WAV,
) -> Scan:
    """Looks through a folder and everything in it.

    Args:
        root: the corpus root, to which paths are relative.
        read: what a path says.
        folder: where to look, if not everywhere in the root.
        suffixes: how the names of audio files end, in lower case.
        otherwise: the reason for ignoring other files.

    Returns:
        The utterances, what was ignored and what cannot be used. Of an utterance found twice the first file is
        kept where both hold the same bytes and neither where they differ; either way it is a problem.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    ignored: Ignored = {}
    problems: list[str] = []
    drafts: dict[str, list[Utterance]] = {}
    for file in files_under(folder or root, ignored, root):
        path = PurePosixPath(file.relative_to(root).as_posix())
        if path.suffix.lower() not in suffixes:
            put(ignored, otherwise, str(path))
            continue
        try:
            found = read(path)
            if isinstance(found, str):
                put(ignored, found, str(path))
                continue
            _check(found)
        except MfhcaError as error:
            problems.append(str(error))
            continue
        drafts.setdefault(found.utterance, []).append(found)
    chosen = [_only(root, drafts[name], problems) for name in sorted(drafts)]
    utterances, unusable = with_lengths(root, [draft for draft in chosen if draft is not None])
    return Scan(tuple(utterances), ignored, (*problems, *unusable))


def strange(stem: str, loose: re.Pattern[str], sample: str) -> str:
    """Why a name that is not one of the corpus' is ignored.

    Args:
        stem: the name without suffix.
        loose: what the beginning of a misspelt name of the corpus looks like.
        sample: a right name.

    Returns:
        The reason: nearly right (a wrong number of fields, an unknown code), or nothing of the corpus at all.
    """
    return f"almost named like {sample}" if loose.match(stem) else UNLABELLED


def agree(path: PurePosixPath, what: str, in_name: str, in_folder: str | None) -> None:
    """Compares what a file's name says with what its folder says, if it says anything.

    Raises:
        MfhcaError: they differ.
    """
    if in_folder is not None and in_folder != in_name:
        raise MfhcaError(
            f"{path}: its folder is of {what} {in_folder}, its name of {what} {in_name}; put it where it belongs"
        )


def _check(draft: Utterance) -> None:
    """Refuses what a manifest cannot hold: reading strips blanks, and paths are written with /."""
    for value in (draft.path, draft.utterance, draft.speaker, draft.emotion):
        odd = any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 or c == "\\" for c in value)
        if odd or not value or value != value.strip():
            raise MfhcaError(
                f"{draft.path!r}: a manifest cannot hold {value!r}; rename it "
                "(no backslash, no control character, UTF-8, no blank at either end)"
            )


def _only(root: Path, found: Iterable[Utterance], problems: list[str]) -> Utterance | None:
    """The one file of an utterance; several are a problem."""
    first, *others = found
    equal = [filecmp.cmp(root / first.path, root / other.path, shallow=False) for other in others]
    for other, same in zip(others, equal, strict=True):
        problems.append(
            f"utterance {first.utterance} twice: {first.path} and {other.path} "
            + ("are the same, the first is kept" if same else "differ, neither is kept")
            + "; remove one, or choose a --root with one of them"
        )
    return first if all(equal) else None
