"""TESS: two women, 200 words each in seven emotions, in folders by speaker and emotion or in a single folder."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance

EMOTIONS = r"(?P<emotion>angry|disgust|fear|happy|neutral|ps|pleasant_surprised?|sad)"


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance:
    speaker = "YAF" if match["speaker"].upper() == "YAF" else "OAF"
    emotion = match["emotion"].lower()
    if emotion.startswith("pleasant"):
        emotion = "ps"
    return Utterance(f"{speaker}_{match['word'].lower()}_{emotion}", str(path), speaker, emotion, gender="f")


FILES = FileNames(
    # One released file has lost a letter of its speaker: OA_bite_neutral.wav.
    name=re.compile(rf"(?P<speaker>OAF?|YAF)_(?P<word>[a-z'-]+)_{EMOTIONS}", re.IGNORECASE),
    similar=re.compile(r"(OAF?|YAF)_", re.IGNORECASE),
    example="OAF_back_angry",
    utterance=_utterance,
    # The spelling of folders varies: OAF_Fear, OAF_Pleasant_surprise, YAF_pleasant_surprised.
    folder=re.compile(rf"(?P<speaker>OAF|YAF)_{EMOTIONS}", re.IGNORECASE),
)
