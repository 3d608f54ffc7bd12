"""MfhcaError, the exception for expected failures."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

SHOWN = 20


class MfhcaError(ValueError):
    """An expected failure. Its message is one line, or one line and a list, with the cause and the remedy.

    The commands print it without a traceback and exit with code 1. Every other
    exception is a bug and keeps its traceback.
    """


def require_positive(**values: int | None) -> None:
    """Checks counts that a caller has passed; None stands for a default.

    Raises:
        MfhcaError: one is below 1; it is named.

    >>> require_positive(jobs=None, threads=2)
    """
    for name, value in values.items():
        if value is not None and value < 1:
            raise MfhcaError(f"{name} is {value}; expected a whole number of at least 1")


def require_one_of(known: Sequence[str], **values: str) -> None:
    """Checks choices that a caller has passed.

    Raises:
        MfhcaError: one is none of `known`; it is named with the nearest.

    >>> require_one_of(("npz", "hf"), format="npz")
    """
    for name, value in values.items():
        if value not in known:
            raise MfhcaError(f"{name} is {value!r}; {did_you_mean(str(value), known)}")


def dangling(path: Path) -> str | None:
    """Which symlink a path is, or leads through, that leads to nothing, and where to; None if there is none."""
    with contextlib.suppress(PermissionError):
        for part in (path, *path.parents):
            if part.is_symlink() and not part.is_dir():
                return f"{part}: a symlink to {part.readlink()}, and there is no such folder"
    return None


def no_folder(path: Path) -> str:
    """The beginning of a message about a folder that does not exist; of a symlink to nothing it names the target."""
    return dangling(path) or f"{path}: no such folder"


def listing(problems: Sequence[str], limit: int = SHOWN) -> str:
    """The first `limit` problems, one indented line each, and their total number.

    >>> print(listing(["a", "b", "c"], limit=2))
      a
      b
      ... and 1 more (3 in total)
    """
    lines = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"  ... and {len(problems) - limit} more ({len(problems)} in total)")
    return "\n".join(lines)


def nearest(name: str, known: Iterable[str], similarity: float = 0.6) -> str | None:
    """The known name that is most like one that does not exist, if any is; letter case does not count.

    >>> nearest("EmoDB", ["emodb", "iemocap"]), nearest("emobd", ["emodb"]), nearest("x", ["emodb"])
    ('emodb', 'emodb', None)
    """
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), by_lower_case, 1, similarity)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that does not exist: the nearest known name, and all there are.

    >>> did_you_mean("tran", ["train", "model"])
    'did you mean train? There are: train, model'
    """
    names = list(known)
    near = nearest(name, names)
    every = ", ".join(names) or "none"
    return f"did you mean {near}? There are: {every}" if near else f"there are: {every}"
