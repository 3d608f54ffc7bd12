"""The Berlin Database of Emotional Speech: everything is in the file names."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.corpora.filenames import scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

NAME = re.compile(r"(?P<speaker>\d\d)[ab]\d\d(?P<emotion>[WLEAFTN])[a-z]")  # speaker, text, emotion, version
LOOSE = re.compile(r"\d+[A-Za-z]\d")
GENDERS = {
    "03": "m",
    "08": "f",
    "09": "f",
    "10": "m",
    "11": "m",
    "12": "m",
    "13": "f",
    "14": "f",
    "15": "m",
    "16": "f",
}


def scan(root: Path) -> Scan:
    """Looks through EmoDB.

    Args:
        root: the folder in which the files lie, or that in which their folder `wav` lies.

    Returns:
        The utterances (no sessions), what was ignored and what cannot be used.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    return scan_names(root, _read, root / "wav" if (root / "wav").is_dir() else root)


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "03a01Fa")
    speaker = match["speaker"]
    return Utterance(path.stem, str(path), speaker, match["emotion"], gender=GENDERS.get(speaker, ""))
