"""SAVEE: four men; the speaker is the folder (DC/a01.wav) or the beginning of the name (DC_a01.wav)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.corpora.filenames import agree, scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

SPEAKERS = ("DC", "JE", "JK", "KL")
# Sentences 1 to 15 of each emotion, 1 to 30 of neutral.
NAME = re.compile(
    r"((?P<speaker>DC|JE|JK|KL)_)?(?P<text>((?P<emotion>a|d|f|h|sa|su)(0[1-9]|1[0-5])|n(0[1-9]|[12]\d|30)))"
)
LOOSE = re.compile(r"([A-Z]{2}_)?[a-z]{1,2}\d")


def scan(root: Path) -> Scan:
    """Looks through SAVEE.

    Args:
        root: a folder that holds the files in either layout, directly or deeper (AudioData, ALL).

    Returns:
        The utterances (no sessions), what was ignored and what cannot be used.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    return scan_names(root, _read)


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "DC_a01 or DC/a01")
    folder = path.parent.name if path.parent.name in SPEAKERS else None
    speaker = match["speaker"] or folder
    if speaker is None:
        return "without a speaker"
    agree(path, "speaker", speaker, folder)
    return Utterance(f"{speaker}_{match['text']}", str(path), speaker, match["emotion"] or "n", gender="m")
