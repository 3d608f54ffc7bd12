"""data.csv lists what each utterance was."""

from __future__ import annotations

import csv
from pathlib import Path

from corpus_factory import (
    utterances,
)

from mfhca_cache.common.files import sha256_text


def test_data_csv_says_what_each_utterance_was(finished: Path) -> None:
    with open(finished / "run/data.csv", newline="") as file:
        found = {row["utterance"]: row for row in csv.DictReader(file)}
    for u in utterances():
        row = found.pop(u.utterance)
        assert (row["speaker"], row["class"], row["gender"]) == (u.speaker, u.emotion, u.gender)
        assert row["audio_sha256"] == sha256_text(f"{u.utterance}/0/False")
    assert not found
