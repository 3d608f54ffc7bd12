"""Utterances: the rows of a manifest, and everything that can be wrong with them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfhca_cache.manifest.card import Card

REQUIRED = ("utterance", "path", "speaker", "emotion")
WRITTEN = ("utterance", "path", "speaker", "session", "gender", "emotion", "samples", "sample_rate")
SPAN = ("start_s", "end_s")
# A whole number; pandas writes "31129.0" for a column in which some rows are empty.
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
WHOLE_NUMBER = re.compile(r"([0-9]{1,15})(\.0+)?")
DECIMAL_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest."""

    utterance: str  # unique in the manifest; the cache knows an utterance by this name
    path: str  # POSIX, relative to the corpus root
    speaker: str
    emotion: str  # the raw label
    session: str = ""
    gender: str = ""  # in lower case
    samples: int | None = None  # of the file, at its own rate
    sample_rate: int | None = None  # Hz
    start_s: float | None = None  # the utterance's part of the file, seconds; None = from its beginning
    end_s: float | None = None  # None = to its end


class Rows:
    """Collects rows and everything that is wrong with them, alone and against each other."""

    def __init__(self, card: Card | None) -> None:
        self.card = card
        self.utterances: list[Utterance] = []
        self.problems: list[str] = []
        self._line_of: dict[str, int] = {}
        self._gender_of: dict[str, tuple[str, int]] = {}
        self._speaker_of: dict[tuple[str, float | None, float | None], tuple[str, int]] = {}

    def add(self, line: int, header: list[str], fields: list[str]) -> None:
        """Adds a row, or what is wrong with it."""
        bad: list[str] = []
        row = dict(zip(header, fields, strict=False))
        if len(fields) != len(header):
            bad.append(f"{len(fields)} fields, {len(header)} columns")
        else:
            bad += [f"{name} is empty" for name in REQUIRED if not row[name]]
            utterance = _parse(row, bad)
            bad += self._conflicts(line, utterance)
            self.utterances.append(utterance)
        self.problems += [f"line {line}: {problem}" for problem in bad]

    def _conflicts(self, line: int, new: Utterance) -> list[str]:
        """What is wrong with a row in the light of the card and of the rows before it."""
        bad = []
        if self.card is not None and new.emotion and new.emotion not in self.card.labels:
            labels = ", ".join(self.card.labels)
            bad.append(f"label {new.emotion!r} is not one of the {self.card.name} card's ({labels})")
        first = self._line_of.setdefault(new.utterance, line)
        if new.utterance and first != line:
            bad.append(f"utterance {new.utterance!r} is on line {first} too")
        gender, first = self._gender_of.setdefault(new.speaker, (new.gender, line))
        if new.speaker and gender != new.gender:
            bad.append(f"speaker {new.speaker!r} has gender {new.gender!r}, on line {first} {gender!r}")
        # The same audio under two speakers would be trained and tested on.
        span = (new.path, new.start_s, new.end_s)
        speaker, first = self._speaker_of.setdefault(span, (new.speaker, line))
        if new.path and speaker != new.speaker:
            bad.append(f"{new.path} is speaker {new.speaker!r} here and {speaker!r} on line {first}")
        return bad


def _parse(row: dict[str, str], bad: list[str]) -> Utterance:
    """A row as an utterance; what cannot be parsed is added to `bad`."""

    def whole(name: str) -> int | None:
        text = row.get(name, "")
        match = WHOLE_NUMBER.fullmatch(text)
        if text and (match is None or int(match[1]) == 0):
            bad.append(f"{name} {text!r} is not a positive whole number")
            return None
        return int(match[1]) if match else None

    def seconds(name: str) -> float | None:
        text = row.get(name, "")
        if not text:
            return None
        value = float(text) if DECIMAL_NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            bad.append(f"{name} {text!r} is not a number of seconds")
            return None
        return value

    for name in WRITTEN:
        if CONTROL.search(row.get(name, "")):
            bad.append(f"{name} {row[name]!r} has a line break or another control character")
    path = row["path"]
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive:
        bad.append(f"path {path!r} is absolute; write it relative to the corpus root")
    elif "\\" in path:
        bad.append(f"path {path!r} has backslashes; write it with /")
    elif ".." in path.split("/"):
        bad.append(f"path {path!r} climbs with ..; write it relative to the corpus root")
    start, end = seconds("start_s"), seconds("end_s")
    if end is not None and end <= (start or 0.0):
        bad.append(f"end_s {end} is not after start_s {start or 0.0}")
    return Utterance(
        utterance=row["utterance"],
        path=str(PurePosixPath(path)) if path else "",
        speaker=row["speaker"],
        emotion=row["emotion"],
        session=row.get("session", ""),
        gender=row.get("gender", "").lower(),
        samples=whole("samples"),
        sample_rate=whole("sample_rate"),
        start_s=start,
        end_s=end,
    )
