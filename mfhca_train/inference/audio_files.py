"""Which files of the command line are meant: those named, and those in the folders named that audio has names for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# What libsndfile reads, by the end of the name. Files that are named one by one may be called anything.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("wav", "wave", "w64", "rf64", "flac", "ogg", "oga", "opus", "mp3"),
        *("aif", "aiff", "aifc", "au", "snd", "caf", "sph", "nist", "voc", "sf"),
    )
)


@dataclass
class AudioFiles:
    """What was found.

    Attributes:
        paths: each file once, as it was named; a folder's in the order of their names.
        hidden: files and folders that were left out because their names begin with a dot.
        others: files that were left out because their names are not those of audio, by the end of the name.
        unreadable: folders that cannot be read, and why.
    """

    paths: list[Path] = field(default_factory=list)
    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> str:
        """What was left out, in words; empty if nothing was."""
        parts = [f"{self.hidden} hidden"] if self.hidden else []
        if self.others:
            kinds = ", ".join(
                f"{suffix or 'no suffix'} {count}" for suffix, count in sorted(self.others.items())
            )
            parts.append(f"{self.others.total()} not audio by their names ({kinds})")
        return " and ".join(parts)


def find_audio(paths: Iterable[Path]) -> AudioFiles:
    """Looks through folders, subfolders included; links to folders in them are not followed.

    Args:
        paths: files and folders. What does not exist is kept, for whoever reads it to name.
    """
    found = AudioFiles()
    seen: set[str] = set()

    def add(path: Path) -> None:
        absolute = os.path.abspath(path)  # noqa: PTH100, links are kept as they are named
        if absolute not in seen:
            seen.add(absolute)
            found.paths.append(path)

    def note(error: OSError) -> None:
        found.unreadable[str(error.filename)] = f"{error.filename}: cannot be read ({error.strerror})"

    for path in paths:
        if not path.is_dir():
            add(path)
            continue
        for folder, folders, files in os.walk(path, onerror=note):
            found.hidden += sum(name.startswith(".") for name in (*folders, *files))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in files if not name.startswith(".")):
                file = Path(folder) / name
                if file.suffix.lower() in SUFFIXES and not (file.exists() and not file.is_file()):
                    add(file)
                else:
                    found.others[file.suffix.lower()] += 1
    return found
