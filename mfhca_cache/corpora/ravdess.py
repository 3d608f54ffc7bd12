"""RAVDESS, the audio-only speech: seven numbers in each file name."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mfhca_cache.corpora.filenames import agree, scan_names, strange
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.manifest import Utterance

# Modality, channel, emotion, intensity, statement, repetition, actor; of intensity, statement and repetition
# nothing is kept but the name. Neutral (01) is never of strong intensity (02).
NAME = re.compile(
    r"(?P<modality>0[123])-(?P<channel>0[12])-(?!01-02)(?P<emotion>0[1-8])-0[12]-0[12]-0[12]"
    r"-(?P<actor>0[1-9]|1\d|2[0-4])"
)
LOOSE = re.compile(r"\d+-\d+-")
FOLDER = re.compile(r"Actor_(\d\d)", re.IGNORECASE)


def scan(root: Path) -> Scan:
    """Looks through RAVDESS.

    Args:
        root: a folder that holds Actor_01 ... Actor_24, directly or deeper, or the files themselves.

    Returns:
        The spoken utterances (no sessions), what was ignored (song, video) and what cannot be used.

    Raises:
        MfhcaError: a folder cannot be read.
    """
    return scan_names(root, _read)


def _read(path: PurePosixPath) -> Utterance | str:
    match = NAME.fullmatch(path.stem)
    if match is None:
        return strange(path.stem, LOOSE, "03-01-06-01-02-01-12")
    if match["channel"] == "02":
        return "sung, not spoken"
    if match["modality"] != "03":
        return "with a picture (01, 02), not audio alone"
    actor = match["actor"]
    folder = FOLDER.fullmatch(path.parent.name)
    agree(path, "actor", actor, folder[1] if folder else None)
    # Odd numbers are men, even numbers women.
    return Utterance(path.stem, str(path), actor, match["emotion"], gender="fm"[int(actor) % 2])
