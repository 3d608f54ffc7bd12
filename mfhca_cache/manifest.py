"""Manifests: the table of a corpus's utterances, read with every row checked.

A manifest is a CSV file with at least the columns utterance, path, speaker and
emotion (the raw label). Which labels become which classes is on the corpus
card (`card`, whose names are offered here too); folders are scanned in `corpora`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from mfhca_cache.card import Card, LabelSet, check_expected, find_card, read_card
from mfhca_cache.errors import MfhcaError, listing
from mfhca_cache.files import canonical_json, sha256_text, write_atomically

__all__ = [
    "Card",
    "LabelSet",
    "Manifest",
    "Utterance",
    "check_expected",
    "find_card",
    "read_card",
    "read_manifest",
    "resolve_audio",
    "write_manifest",
]

REQUIRED = ("utterance", "path", "speaker", "emotion")
WRITTEN = ("utterance", "path", "speaker", "session", "gender", "emotion", "samples", "sample_rate")
SPAN = ("start_s", "end_s")
# A whole number; pandas writes "31129.0" for a column in which some rows are empty.
WHOLE_NUMBER = re.compile(r"([0-9]{1,15})(\.0+)?")
DECIMAL_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]*)?([eE][-+]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True)
class Manifest:
    """A manifest in which every row is valid."""

    path: Path
    utterances: tuple[Utterance, ...]  # in the order of the file
    card: Card | None
    digest: str  # SHA-256 of the rows' content: neither column order nor line endings change it

    def label_set(self, name: str | None = None) -> LabelSet:
        """The label set of this name.

        Args:
            name: a name on the card, or None for the card's default. Without a card there is one set, "all":
                every raw label is its own class, in alphabetical order.

        Returns:
            The label set.

        Raises:
            MfhcaError: there is no such set; the message lists those there are.
        """
        if self.card is None:
            labels = sorted({utterance.emotion for utterance in self.utterances})
            sets = {"all": LabelSet("all", {label: label for label in labels})}
            default = "all"
        else:
            sets, default = self.card.label_sets, self.card.default_set
        chosen = default if name is None else name
        if chosen not in sets:
            raise MfhcaError(f"{self.path}: no label set {chosen!r}; choose one of: {', '.join(sets)}")
        return sets[chosen]

    def select(self, label_set: LabelSet | str | None = None) -> tuple[Utterance, ...]:
        """The utterances whose raw label is in a label set, in the order of the manifest.

        Args:
            label_set: a label set, or what `label_set` takes.

        Returns:
            The utterances; possibly none.

        Raises:
            MfhcaError: there is no set of that name.
        """
        chosen = label_set if isinstance(label_set, LabelSet) else self.label_set(label_set)
        return tuple(utterance for utterance in self.utterances if utterance.emotion in chosen.mapping)

    @property
    def has_sessions(self) -> bool:
        """Whether every utterance names its session and there are at least two."""
        sessions = {utterance.session for utterance in self.utterances}
        return "" not in sessions and len(sessions) >= 2


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest and checks the whole of it.

    The card is the TOML file of the same stem beside the CSV, else the project's own card of that name, else
    there is none. Columns that are not known are allowed and left out.

    Args:
        path: the CSV file (UTF-8, commas).

    Returns:
        The manifest.

    Raises:
        MfhcaError: the file cannot be read, lacks a column, has no rows, or has bad rows, which are listed
            with their line numbers (the first 20 shown, all counted).
    """
    beside = path.with_suffix(".toml")
    card_path = beside if beside.is_file() else find_card(path.stem)
    card = None if card_path is None else read_card(card_path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte-order mark first
    except FileNotFoundError as error:
        raise MfhcaError(f"{path}: no such manifest; `mfhca-cache manifest` makes one") from error
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise MfhcaError(
            f"{path}: not text in UTF-8 (byte {error.start}); save it as CSV in UTF-8"
        ) from error

    rows = _Rows(card)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        line = reader.line_num + 1
        for fields in reader:
            if any(field.strip() for field in fields):
                rows.add(line, header, [field.strip() for field in fields])
            line = reader.line_num + 1
    except csv.Error as error:
        raise MfhcaError(f"{path}: line {reader.line_num} is not CSV ({error}); correct it") from error
    if rows.problems:
        raise MfhcaError(f"{path}: {len(rows.problems)} bad entries; correct them:\n{listing(rows.problems)}")
    if not rows.utterances:
        raise MfhcaError(f"{path}: no utterances, only a header; make the manifest again")
    content = canonical_json([asdict(utterance) for utterance in rows.utterances])
    return Manifest(path, tuple(rows.utterances), card, sha256_text(content))


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """Writes a manifest, atomically; equal utterances give equal bytes.

    Args:
        path: the CSV file.
        utterances: in the order in which they are to stand; `start_s` and `end_s` are written if any has one.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    rows = [asdict(utterance) for utterance in utterances]
    spans = any(row[name] is not None for row in rows for name in SPAN)
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(
        buffer, [*WRITTEN, *(SPAN if spans else ())], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue())


def resolve_audio(root: Path, utterance: Utterance, allow_outside: bool = False) -> Path:
    """Finds an utterance's audio file.

    Args:
        root: the corpus root.
        utterance: a row of its manifest.
        allow_outside: whether symbolic links may lead out of the root.

    Returns:
        The file, with all links followed.

    Raises:
        MfhcaError: there is no such file, or a link leads out of the root.
    """
    try:
        base, file = root.resolve(), (root / utterance.path).resolve()
        inside, there = file.is_relative_to(base), file.is_file()
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name too long, a NUL in it
        inside, there = True, False
    if not inside and not allow_outside:
        raise MfhcaError(
            f"utterance {utterance.utterance}: {utterance.path} is a link out of {root}; "
            "copy the audio there, choose a root that holds it, or allow links to leave the root"
        )
    if not there:
        raise MfhcaError(f"utterance {utterance.utterance}: no file {utterance.path} in {root}; check --root")
    return file


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        found = ", ".join(header) if header else "nothing"
        raise MfhcaError(
            f"{path}: no column {', '.join(missing)}; the first line has: {found} (commas separate columns)"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise MfhcaError(f"{path}: column {', '.join(twice)} appears twice; remove one")


class _Rows:
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
        if any(ord(character) < 32 or ord(character) == 127 for character in row.get(name, "")):
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
