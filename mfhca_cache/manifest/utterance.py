"""Utterances: the rows of a manifest, and everything that can be wrong with them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from mfhca_cache.common.text import character_name

REQUIRED = ("utterance", "path", "speaker", "emotion")
WRITTEN = ("utterance", "path", "speaker", "session", "gender", "emotion", "samples", "sample_rate")
SPAN = ("start_s", "end_s")
FOLD, SPLIT = "fold", "split"  # two names of the column of an official split
OMITTED_IF_EMPTY = (FOLD, "corpus")  # so that a manifest without them keeps its digest
# A whole number; pandas writes "31129.0" for a column in which some rows are empty.
WHOLE_NUMBER = re.compile(r"([0-9]{1,15})(\.0+)?")
DECIMAL_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?")
# What spreadsheets and pandas write for an empty cell.
MISSING = frozenset(
    ("nan", "NaN", "Nan", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "None", "null", "Null", "NULL")
)
# They reverse the order of the text around them, so that a name reads like another one.
BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Greek and Cyrillic letters, in lower case, that look like Latin ones in lower or upper case.
ALIKE = str.maketrans("αβεηικμνορτυχавекмнорстухіјѕһ", "abehikmnoptuxabekmhopctyxijsh")
SHOWN = 5  # pairs of similar names in a warning


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest. All texts are in NFC."""

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
    fold: str = ""  # of the corpus' official split: a fold's name, or train, validation or test
    corpus: str = (
        ""  # in a run on several corpora: its name, which its utterances, speakers and sessions begin with
    )


class Rows:
    """Collects rows and everything that is wrong with them, alone and compared with each other.

    Args:
        labels: the raw labels a corpus card allows; None without a card.
        card: the card's name, for messages.
    """

    def __init__(self, labels: Sequence[str] | None = None, card: str = "") -> None:
        self._labels, self._card = labels, card
        self.utterances: list[Utterance] = []
        self.problems: list[str] = []
        self._line_of: dict[str, int] = {}
        self._gender_of: dict[str, tuple[str, int]] = {}
        self._speaker_of: dict[tuple[str, float | None, float | None], tuple[str, int]] = {}

    def add(self, line: int, header: list[str], fields: list[str]) -> None:
        """Adds a row, or what is wrong with it."""
        bad: list[str] = []
        row = {name: nfc(value) for name, value in zip(header, fields, strict=False)}
        if len(fields) != len(header):
            bad.append(f"{len(fields)} fields, {len(header)} columns")
        else:
            bad += [f"{name} is empty" for name in REQUIRED if not row[name]]
            bad += self._missing_values(row)
            utterance = _parse(row, bad)
            bad += self._conflicts(line, utterance)
            self.utterances.append(utterance)
        self.problems += [f"line {line}: {problem}" for problem in bad]

    def _missing_values(self, row: dict[str, str]) -> Iterator[str]:
        for name in ("speaker", "emotion"):
            value = row[name]
            if value in MISSING and (name == "speaker" or value not in (self._labels or ())):
                yield f"{name} {value!r} stands for a missing value; write the {name}, or remove the row"

    def _conflicts(self, line: int, new: Utterance) -> list[str]:
        """What contradicts the card or a row before."""
        bad = []
        if self._labels is not None and new.emotion and new.emotion not in self._labels:
            bad.append(
                f"label {new.emotion!r} is not one of the {self._card} card's ({', '.join(self._labels)})"
            )
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


def nfc(text: str) -> str:
    """A text in NFC: the same letters always have the same code points.

    >>> nfc("Mu\\u0308ller") == "M\\u00fcller"
    True
    """
    return unicodedata.normalize("NFC", text)


def similar(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of names that differ only in letter case, zeros of numbers, the width of characters, or the alphabet.

    >>> similar(["3", "03", "3.0", "Anna", "anna", "b", "1", "\uff11"])
    [('03', '3', '3.0'), ('1', '１'), ('Anna', 'anna')]
    >>> similar(["Max", "M\N{CYRILLIC SMALL LETTER A}x", "3.10", "3.1"])
    [('Max', 'Mаx')]
    """
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        plain = unicodedata.normalize("NFKC", name).casefold().translate(ALIKE)
        # pandas writes 3 as 3.0 if another row has no value
        plain = re.sub(r"(?<=\d)\.0+(?![\d.])", "", plain)
        groups[re.sub(r"(?<!\d)0+(?=\d)", "", plain)].add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def warnings(utterances: Sequence[Utterance]) -> Iterator[str]:
    """What is allowed in a manifest but probably a mistake: names that look alike."""
    for what, plural in (
        ("speaker", "speakers"),
        ("session", "sessions"),
        ("emotion", "labels"),
        ("utterance", "utterances"),
        ("fold", "folds"),
    ):
        names = {getattr(utterance, what) for utterance in utterances}
        # The trainer knows the words for sides of a split in any letter case.
        groups = similar(name for name in names if what != "fold" or not name.isalpha())
        if groups:
            shown = ", ".join(" and ".join(map(repr, group)) for group in groups[:SHOWN])
            more = f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
            yield (
                f"{plural} that differ only in letter case, zeros of numbers, width of characters or alphabet count as "
                "different: "
                f"{shown}{more}; give them one name if they are the same"
            )
    genders = sorted({utterance.gender for utterance in utterances} - {""})
    if len({gender[0] for gender in genders}) < len(genders):
        listed = ", ".join(map(repr, genders))
        yield f"genders that begin with the same letter count as different: {listed}; write f and m"


def _invisible(row: dict[str, str]) -> Iterator[str]:
    """Characters that cannot be seen: two names that look alike would count as different."""
    for name in (*WRITTEN, FOLD, SPLIT):
        text = row.get(name, "")
        for character in () if text.isascii() and text.isprintable() else dict.fromkeys(text):
            category = unicodedata.category(character)
            if category in ("Cc", "Zl", "Zp"):
                yield f"{name} {row[name]!r} has a line break or another control character"
                break
            hidden = category == "Cf" or (category == "Zs" and character != " ")
            if character in BIDIRECTIONAL or (hidden and name != "path"):
                yield f"{name} {row[name]!r} has {character_name(character)}; remove it"


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

    bad += _invisible(row)
    path = row["path"]
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive:
        bad.append(f"path {path!r} is absolute; write it relative to the corpus root")
    elif "\\" in path:
        bad.append(f"path {path!r} has backslashes; write it with /")
    elif ".." in path.split("/"):
        bad.append(f"path {path!r} leaves the corpus root with ..; write it relative to the corpus root")
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
        fold=row.get(FOLD) or row.get(SPLIT, ""),
    )
