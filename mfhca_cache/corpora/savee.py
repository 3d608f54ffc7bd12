"""SAVEE: four men; the speaker is the folder (DC/a01.wav) or the beginning of the name (DC_a01.wav)."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance

SPEAKERS = ("DC", "JE", "JK", "KL")


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance | str:
    speaker = match["speaker"] or next((name for name in path.parts[-2::-1] if name in SPEAKERS), None)
    if speaker is None:
        return "without a speaker"
    return Utterance(f"{speaker}_{match['text']}", str(path), speaker, match["emotion"] or "n", gender="m")


FILES = FileNames(
    # Sentences 1 to 15 of each emotion, 1 to 30 of neutral.
    name=re.compile(
        r"((?P<speaker>DC|JE|JK|KL)_)?"
        r"(?P<text>((?P<emotion>a|d|f|h|sa|su)(0[1-9]|1[0-5])|n(0[1-9]|[12]\d|30)))"
    ),
    similar=re.compile(r"([A-Z]{2}_)?[a-z]{1,2}\d"),
    example="DC_a01 or DC/a01",
    utterance=_utterance,
    folder=re.compile(rf"(?P<speaker>{'|'.join(SPEAKERS)})"),
)
