"""URDU: recordings of talk shows; speaker, file and emotion are in each name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance:
    return Utterance(path.stem, str(path), match["speaker"], match["emotion"], gender=match["gender"].lower())


FILES = FileNames(
    name=re.compile(r"(?P<speaker>S(?P<gender>[MF])[1-9]\d*)_F[1-9]\d*_(?P<emotion>[AHNS])0\d+"),
    similar=re.compile(r"S[A-Z]?\d+_"),
    example="SM1_F1_A01",
    utterance=_utterance,
    folder=re.compile(r"(?P<speaker>S[MF][1-9]\d*)"),
)
