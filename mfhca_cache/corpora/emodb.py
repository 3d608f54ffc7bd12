"""The Berlin Database of Emotional Speech: everything is in the file names."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from mfhca_cache.corpora.tree import NOT_AUDIO, Scan, files_in, with_lengths
from mfhca_cache.manifest import Utterance

NAME = re.compile(r"(?P<speaker>\d\d)[ab]\d\d(?P<emotion>[WLEAFTN])[a-z]")  # speaker, text, emotion, version
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
        MfhcaError: there is no such folder.
    """
    folder = root / "wav" if (root / "wav").is_dir() else root
    ignored: Counter[str] = Counter()
    drafts = []
    for file in files_in(folder, ".wav", ignored, NOT_AUDIO):
        match = NAME.fullmatch(file.stem)
        if match is None:
            ignored["name that is not EmoDB's (03a01Fa.wav)"] += 1
            continue
        drafts.append(
            Utterance(
                utterance=file.stem,
                path=file.relative_to(root).as_posix(),
                speaker=match["speaker"],
                emotion=match["emotion"],
                gender=GENDERS.get(match["speaker"], ""),
            )
        )
    utterances, problems = with_lengths(root, drafts)
    return Scan(tuple(utterances), dict(ignored), tuple(problems))
