"""data.csv of a run folder: the audio, label and speaker of every utterance that the run stands on.

run.json holds digests of all this, which tell that something has changed; this file
tells what. No result depends on it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mfhca_cache.common.files import sha256_text, write_atomically
from mfhca_train.data.corpus import Corpus
from mfhca_train.results.checksums import DATA_DIGEST as DATA_DIGEST
from mfhca_train.results.checksums import read_about
from mfhca_train.results.files import csv_text
from mfhca_train.results.schema import DATA_FILE

FILE = DATA_FILE
COLUMNS = ("utterance", "speaker", "session", "gender", "class", "audio_sha256")


def write(out: Path, corpus: Corpus) -> str:
    """Writes the file where it is not there yet, before the run.json that will have its digest.

    Returns:
        The SHA-256 of its bytes.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    about = read_about(out)
    if DATA_DIGEST in about and (out / FILE).exists():
        return str(about[DATA_DIGEST])
    text = csv_text(COLUMNS, _rows(corpus))
    write_atomically(out / FILE, text)
    return sha256_text(text)


def differences(out: Path, corpus: Corpus) -> list[str]:
    """What of the utterances is not as the file has it; nothing where there is no file that can be read."""
    try:
        with open(out / FILE, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error):
        return []
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        return []
    there = {row[0]: row for row in rows}
    here = {row[0]: row for row in _rows(corpus)}
    paths = {u.utterance: u.path for u in corpus.utterances}
    found = []
    for name, row in here.items():
        if name not in there:
            found.append(f"utterance {name} ({paths[name]}): only here")
            continue
        for column, before, now in zip(COLUMNS, there[name], row, strict=True):
            if before != now:
                what = "audio SHA-256" if column == "audio_sha256" else column
                short = 16 if column == "audio_sha256" else None
                found.append(
                    f"utterance {name} ({paths[name]}): {what} {before[:short] or 'none'} there, "
                    f"{now[:short] or 'none'} here"
                )
    return found + [f"utterance {name}: only there" for name in there if name not in here]


def _rows(corpus: Corpus) -> Iterator[tuple[str, ...]]:
    digests = corpus.audio(np.arange(len(corpus.utterances)))
    for u, label, digest in zip(corpus.utterances, corpus.labels, digests, strict=True):
        yield u.utterance, u.speaker, u.session, u.gender, corpus.classes[label], digest
