"""The Berlin Database of Emotional Speech: ten actors; speaker, text and emotion are in each file name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance

GENDERS = dict.fromkeys(("03", "10", "11", "12", "15"), "m") | dict.fromkeys(
    ("08", "09", "13", "14", "16"), "f"
)


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance:
    speaker = match["speaker"]
    return Utterance(path.stem, str(path), speaker, match["emotion"], gender=GENDERS.get(speaker, ""))


FILES = FileNames(
    name=re.compile(
        r"(?P<speaker>\d\d)[ab]\d\d(?P<emotion>[WLEAFTN])[a-z]"
    ),  # speaker, text, emotion, version
    similar=re.compile(r"\d+[A-Za-z]\d"),
    example="03a01Fa",
    utterance=_utterance,
    folder=re.compile(rf"(?P<speaker>{'|'.join(GENDERS)})"),
    subfolder="wav",
)
