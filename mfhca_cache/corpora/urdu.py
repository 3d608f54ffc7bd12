"""URDU: talk shows; speaker, file and emotion in each name, a folder for each emotion."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.corpora.filenames import agree, scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

NAME = re.compile(r"(?P<speaker>S(?P<gender>[MF])[1-9]\d*)_F[1-9]\d*_(?P<emotion>[AHNS])0\d+")
LOOSE = re.compile(r"S[A-Z]?\d+_")
FOLDERS = {"angry": "A", "happy": "H", "neutral": "N", "sad": "S"}


def scan(root: Path) -> Scan:
    """Looks through URDU.

    Args:
        root: a folder that holds Angry, Happy, Neutral and Sad, directly or deeper, or the files themselves.

    Returns:
        The utterances (no sessions), what was ignored and what cannot be used.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    return scan_names(root, _read)


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "SM1_F1_A01")
    emotion = match["emotion"]
    agree(path, "emotion", emotion, FOLDERS.get(path.parent.name.lower()))
    return Utterance(path.stem, str(path), match["speaker"], emotion, gender=match["gender"].lower())
