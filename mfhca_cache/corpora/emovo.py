"""EMOVO: six Italian actors; emotion, actor and sentence are in each file name."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mfhca_cache.corpora.filenames import FileNames
from mfhca_cache.manifest.utterance import Utterance


def _utterance(path: PurePosixPath, match: re.Match[str]) -> Utterance:
    actor = match["actor"]
    return Utterance(path.stem, str(path), actor, match["emotion"], gender=actor[0])


FILES = FileNames(
    # Fourteen sentences: b1 to b3, l1 to l4, n1 to n5, d1 and d2.
    name=re.compile(
        r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<actor>[fm][123])-(b[123]|l[1-4]|n[1-5]|d[12])"
    ),
    similar=re.compile(r"[a-z]+-[fm]?\d|[a-z]{3}-"),
    example="dis-f1-b1",
    utterance=_utterance,
    folder=re.compile(r"(?P<speaker>[fm][123])"),
)
