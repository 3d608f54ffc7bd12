"""EMOVO: six Italian actors; emotion, actor and sentence in each file name."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.corpora.filenames import agree, scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

# Fourteen sentences: b1 to b3, l1 to l4, n1 to n5, d1 and d2.
NAME = re.compile(
    r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<actor>[fm][123])-(b[123]|l[1-4]|n[1-5]|d[12])"
)
LOOSE = re.compile(r"[a-z]+-[fm]?\d|[a-z]{3}-")
FOLDER = re.compile(r"[fm][123]")


def scan(root: Path) -> Scan:
    """Looks through EMOVO.

    Args:
        root: a folder that holds f1 ... m3, directly or deeper, or the files themselves.

    Returns:
        The utterances (no sessions), what was ignored and what cannot be used.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    return scan_names(root, _read)


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "dis-f1-b1")
    actor, folder = match["actor"], path.parent.name
    agree(path, "actor", actor, folder if FOLDER.fullmatch(folder) else None)
    return Utterance(path.stem, str(path), actor, match["emotion"], gender=actor[0])
