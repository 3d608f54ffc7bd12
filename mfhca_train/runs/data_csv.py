"""data.csv of a run folder: audio digest, label, speaker and length of every utterance of the run.

run.json holds digests of all this, which show that something has changed; this file shows what. No result
depends on it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.files import sha256_text, write_atomically
from mfhca_cache.common.log import LOG
from mfhca_cache.common.text import csv_text, from_cell, plural
from mfhca_train.data.corpus import Corpus
from mfhca_train.results.schema import DATA_FILE

COLUMNS = (
    *("utterance", "speaker", "session", "gender", "class", "fold", "samples", "sample_rate", "audio_sha256"),
)


def write(out: Path, corpus: Corpus, recorded: Any) -> str:
    """Writes the file unless it exists; run.json, which will hold its digest, is written after it.

    Of an existing one it warns if a column differs that is not in the identity of the run: gender or samples, say.

    Args:
        out: the run folder.
        corpus: what the file lists.
        recorded: the digest of the existing file in run.json, or None.

    Returns:
        The SHA-256 of its bytes.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    if recorded is not None and (out / DATA_FILE).exists():
        if differing := differences(out, corpus):
            LOG.warning(
                "%s: the manifest has changed since the run began, but nothing that a network was trained on (%s, the "
                "first: %s); tables of scores by group follow the manifest as it is now",
                out / DATA_FILE,
                plural(len(differing), "difference"),
                differing[0],
            )
        return str(recorded)
    text = csv_text(COLUMNS, _rows(corpus))
    write_atomically(out / DATA_FILE, text)
    return sha256_text(text)


def differences(out: Path, corpus: Corpus) -> list[str]:
    """How the utterances differ from those in the file; empty if there is no readable file."""
    try:
        with open(out / DATA_FILE, newline="", encoding="utf-8") as file:
            header, *rows = ([from_cell(cell) for cell in row] for row in csv.reader(file))
    except (OSError, ValueError, csv.Error):
        return []
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        return []
    recorded = {row[0]: row for row in rows}
    current = {row[0]: row for row in _rows(corpus)}
    paths = {u.utterance: u.path for u in corpus.utterances}
    lines = []
    for name, row in current.items():
        if name not in recorded:
            lines.append(f"utterance {name} ({paths[name]}): not in that run")
            continue
        for column, before, now in zip(COLUMNS, recorded[name], row, strict=True):
            if before != now:
                field = "audio SHA-256" if column == "audio_sha256" else column
                digits = 16 if column == "audio_sha256" else None
                lines.append(
                    f"utterance {name} ({paths[name]}): {field} {before[:digits] or 'none'} in that run, "
                    f"{now[:digits] or 'none'} now"
                )
    return lines + [f"utterance {name}: only in that run" for name in recorded if name not in current]


def _rows(corpus: Corpus) -> Iterator[tuple[str, ...]]:
    digests = corpus.audio_digests(np.arange(len(corpus.utterances)))
    for u, label, digest in zip(corpus.utterances, corpus.labels, digests, strict=True):
        length = (str(u.samples or ""), str(u.sample_rate or ""))  # decide the table of scores by duration
        yield u.utterance, u.speaker, u.session, u.gender, corpus.classes[label], u.fold, *length, digest
