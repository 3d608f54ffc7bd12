"""RAVDESS, audio-only speech: seven numbers in each file name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance | str:
    if match["channel"] == "02":
        return "sung, not spoken"
    if match["modality"] != "03":
        return "with video (01, 02), not audio only"
    actor = match["actor"]
    gender = "fm"[int(actor) % 2]  # odd numbers are men, even numbers women
    return Utterance(path.stem, str(path), actor, match["emotion"], gender=gender)


FILES = FileNames(
    # Modality, channel, emotion, intensity, statement, repetition, actor. Neutral (01) is never of strong
    # intensity (02).
    name=re.compile(
        r"(?P<modality>0[123])-(?P<channel>0[12])-(?!01-02)(?P<emotion>0[1-8])-0[12]-0[12]-0[12]"
        r"-(?P<actor>0[1-9]|1\d|2[0-4])"
    ),
    similar=re.compile(r"\d+-\d+-"),
    example="03-01-06-01-02-01-12",
    utterance=_utterance,
    folder=re.compile(r"Actor_(?P<speaker>\d\d)", re.IGNORECASE),
)
