"""TESS: two women, 200 words each in seven emotions, in folders by speaker and emotion or in none."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.corpora.filenames import agree, scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

EMOTIONS = r"(?P<emotion>angry|disgust|fear|happy|neutral|ps|pleasant_surprised?|sad)"
# One released file has lost a letter of its speaker: OA_bite_neutral.wav.
NAME = re.compile(rf"(?P<speaker>OAF?|YAF)_(?P<word>[a-z'-]+)_{EMOTIONS}", re.IGNORECASE)
LOOSE = re.compile(r"(OAF?|YAF)_", re.IGNORECASE)
# The folders are spelt freely: OAF_Fear, OAF_Pleasant_surprise, YAF_pleasant_surprised.
FOLDER = re.compile(rf"(?P<speaker>OAF|YAF)_{EMOTIONS}", re.IGNORECASE)


def scan(root: Path) -> Scan:
    """Looks through TESS.

    Args:
        root: a folder that holds the files or their fourteen folders, directly or deeper.

    Returns:
        The utterances (no sessions), what was ignored and what cannot be used.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    return scan_names(root, _read)


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "OAF_back_angry")
    speaker, emotion = "YAF" if match["speaker"].upper() == "YAF" else "OAF", _label(match["emotion"])
    folder = FOLDER.fullmatch(path.parent.name)
    if folder is not None:
        agree(path, "speaker", speaker, folder["speaker"].upper())
        agree(path, "emotion", emotion, _label(folder["emotion"]))
    name = f"{speaker}_{match['word'].lower()}_{emotion}"
    return Utterance(name, str(path), speaker, emotion, gender="f")


def _label(emotion: str) -> str:
    return "ps" if emotion.lower().startswith("pleasant") else emotion.lower()
