"""Any corpus whose paths tell class and speaker: one folder per class by default, or regular expressions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora.filenames import scan_files
from mfhca_cache.corpora.folder import UNLABELLED, Scan
from mfhca_cache.manifest.utterance import Utterance

# Of the formats that `features.containers` knows.
SUFFIXES = frozenset(
    (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64",
     ".snd", ".sph", ".voc", ".w64", ".wav")
)  # fmt: skip


def scan(
    root: Path,
    speaker: re.Pattern[str],
    emotion: re.Pattern[str] | None = None,
    gender: re.Pattern[str] | None = None,
) -> Scan:
    """Scans a corpus whose paths tell the class and the speaker.

    Each expression is searched for in the path relative to the root; its group of the argument's name, or else its
    first group, is what is looked for.

    Args:
        root: the corpus root.
        speaker: finds the speaker.
        emotion: finds the class. By default the class of a file is the name of its folder, whatever the folders
            above it.
        gender: finds the gender of the speaker.

    Returns:
        The utterances, named after their paths; ignored files (without a class); and problems, such as a file
        without a speaker.

    Raises:
        MfhcaError: a folder cannot be read, or an expression has no group.
    """
    expressions = {"speaker": speaker, "emotion": emotion, "gender": gender}
    for name, expression in expressions.items():
        if expression is not None and not expression.groups:
            raise MfhcaError(
                f"--{name}-regex {expression.pattern!r}: no group; put the part that is the {name} in parentheses"
            )

    def find(name: str, path: PurePosixPath) -> str:
        expression = expressions[name]
        match = expression and expression.search(str(path))
        if not expression or not match:
            return ""
        return match[name if name in expression.groupindex else 1] or ""

    def read(path: PurePosixPath) -> Utterance | str:
        label = find("emotion", path) if emotion else path.parent.name
        if not label:
            return UNLABELLED
        found = {"speaker": find("speaker", path), "gender": find("gender", path).lower()}
        for name, value in found.items():
            expression = expressions[name]
            if expression is not None and not value:
                raise MfhcaError(f"{path}: --{name}-regex {expression.pattern!r} finds no {name} in it")
        return Utterance(
            str(path.with_suffix("")), str(path), found["speaker"], label, gender=found["gender"]
        )

    return scan_files(
        root, read, root, SUFFIXES, "not audio", same=lambda u: PurePosixPath(u.path).parts[-2:]
    )
