"""The audio files given to a command: named files, whatever their suffix, and the audio files in named folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# Suffixes of formats that libsndfile reads. A file that is named itself may have any suffix.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("wav", "wave", "w64", "rf64", "flac", "ogg", "oga", "opus", "mp3"),
        *("aif", "aiff", "aifc", "au", "snd", "caf", "sph", "nist", "voc", "sf"),
    )
)


@dataclass
class AudioFiles:
    """The result of a search.

    Attributes:
        paths: each file once; the files of a folder in the order of their names.
        hidden: number of skipped files and folders whose names begin with a dot.
        others: number of skipped files without an audio suffix, by suffix.
        unreadable: folders that cannot be read, and the reason; next to other files also named folders without audio.
    """

    paths: list[Path] = field(default_factory=list)
    hidden: int = 0
    others: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)

    @property
    def skipped(self) -> str:
        """The skipped files in words; empty if there are none."""
        parts = [f"{self.hidden} hidden"] if self.hidden else []
        if self.others:
            kinds = ", ".join(
                f"{suffix or 'no suffix'} {count}" for suffix, count in sorted(self.others.items())
            )
            parts.append(f"{self.others.total()} without an audio suffix ({kinds})")
        return " and ".join(parts)


def find_audio(paths: Iterable[Path]) -> AudioFiles:
    """Searches folders and their subfolders; links to folders inside them are not followed.

    Args:
        paths: files and folders. Paths that do not exist are kept, so that reading them gives the error.
    """
    result = AudioFiles()
    seen: set[str] = set()
    empty: list[Path] = []

    def add(path: Path) -> None:
        absolute = os.path.abspath(path)  # noqa: PTH100, links are not resolved
        if absolute not in seen:
            seen.add(absolute)
            result.paths.append(path)

    def add_unreadable(error: OSError) -> None:
        result.unreadable[str(error.filename)] = f"{error.filename}: cannot be read ({error.strerror})"

    for path in paths:
        if not path.is_dir():
            add(path)
            continue
        audio, problems = 0, len(result.unreadable)
        for folder, folders, files in os.walk(path, onerror=add_unreadable):
            result.hidden += sum(name.startswith(".") for name in (*folders, *files))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in files if not name.startswith(".")):
                file = Path(folder) / name
                if file.suffix.lower() in SUFFIXES and not (file.exists() and not file.is_file()):
                    add(file)
                    audio += 1
                else:
                    result.others[file.suffix.lower()] += 1
        if not audio and len(result.unreadable) == problems:
            empty.append(path)
    if result.paths:
        result.unreadable |= {str(path): f"{path}: no audio files in this folder" for path in empty}
    return result
