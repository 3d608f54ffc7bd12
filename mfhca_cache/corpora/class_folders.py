"""Any corpus with one folder per class. A regular expression finds the speaker in the path."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora.filenames import scan_files
from mfhca_cache.corpora.folder import UNLABELLED, Scan
from mfhca_cache.manifest.utterance import Utterance

# Formats that libsndfile reads.
SUFFIXES = frozenset(
    (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")
)


def scan(root: Path, speaker: re.Pattern[str]) -> Scan:
    """Scans a corpus with one folder per class.

    Args:
        root: the corpus root. The class of a file is the name of its folder, whatever the folders above it.
        speaker: searched for in the path relative to the root; the speaker is the group `speaker`, or else
            the first group.

    Returns:
        The utterances, named after their paths; ignored files (a file in the root itself has no class); and
        problems, such as a file without a speaker.

    Raises:
        MfhcaError: a folder cannot be read, or the expression has no group.
    """
    if not speaker.groups:
        raise MfhcaError(
            f"--speaker-regex {speaker.pattern!r}: no group; put the part that is the speaker in parentheses"
        )
    group: str | int = "speaker" if "speaker" in speaker.groupindex else 1

    def read(path: PurePosixPath) -> Utterance | str:
        if path.parent == PurePosixPath("."):
            return UNLABELLED
        match = speaker.search(str(path))
        if match is None or not match[group]:
            raise MfhcaError(f"{path}: --speaker-regex {speaker.pattern!r} finds no speaker in it")
        return Utterance(str(path.with_suffix("")), str(path), match[group], path.parent.name)

    return scan_files(
        root, read, root, SUFFIXES, "not audio", same=lambda u: PurePosixPath(u.path).parts[-2:]
    )
