"""Any corpus with one folder for each class; the speaker is found in the path by a regular expression."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora.filenames import UNLABELLED, scan_names
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

# What libsndfile reads.
SUFFIXES = frozenset(
    (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav")
)


def scan(root: Path, speaker: re.Pattern[str]) -> Scan:
    """Looks through a corpus with one folder for each class.

    Args:
        root: the corpus root. The class of a file is the name of the folder that holds it, whatever is above.
        speaker: searched for in the path relative to the root; the group `speaker`, else the first one, is the
            speaker.

    Returns:
        The utterances, named after their paths; what was ignored (a file in the root itself has no class); and
        what cannot be used, such as a file whose speaker is not found.

    Raises:
        MfhcaError: a folder cannot be read, or the expression has no group.
    """
    if not speaker.groups:
        raise MfhcaError(
            f"--speaker-regex {speaker.pattern!r}: no group; put the part that is the speaker in brackets"
        )
    group: str | int = "speaker" if "speaker" in speaker.groupindex else 1

    def read(path: PurePosixPath) -> Utterance | str:
        if path.parent == PurePosixPath("."):
            return UNLABELLED
        match = speaker.search(str(path))
        if match is None or not match[group]:
            raise MfhcaError(f"{path}: no speaker in it by --speaker-regex {speaker.pattern!r}")
        return Utterance(str(path.with_suffix("")), str(path), match[group], path.parent.name)

    return scan_names(root, read, suffixes=SUFFIXES, otherwise="not audio")
