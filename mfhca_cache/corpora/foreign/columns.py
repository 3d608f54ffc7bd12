"""From the rows of another tool's table to the utterances of a manifest: columns, paths, names."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.corpora.folder import Scan, read_lengths
from mfhca_cache.manifest.utterance import REQUIRED, Rows, Utterance

# Column of the manifest -> common headers, in lower case; the first one that the table has is read.
HEADERS: dict[str, tuple[str, ...]] = {
    "utterance": ("utterance_id", "utt_id", "uttid", "utt", "utterance"),
    "path": (
        *("path", "file", "filename", "file_name", "filepath", "file_path", "wav", "wav_path", "wav_file"),
        *("audio", "audio_path", "audio_file", "audio_filepath"),
    ),
    "speaker": (
        "speaker",
        "spk",
        "speaker_id",
        "speakerid",
        "spk_id",
        "spkid",
        "talker",
        "actor",
        "actor_id",
    ),
    "session": ("session", "session_id"),
    "gender": ("gender", "sex"),
    "fold": ("fold", "split", "partition"),
    "emotion": ("emotion", "emo", "label", "emotion_label", "class", "category"),
    "start_s": ("start_s", "start", "start_time", "begin"),
    "end_s": ("end_s", "end", "end_time"),
}
END_TOLERANCE = 0.1  # seconds that a span may end after its file; annotations are rounded


@dataclass(frozen=True)
class Table:
    """A table of another tool, as text.

    Attributes:
        path: of its file or folder.
        columns: the names of its columns.
        rows: the line or the number of each row, and its cells by column; a missing cell is empty.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]


def make_table(path: Path, rows: Iterable[Mapping[str, Any]], first: int = 1) -> Table:
    """A table from rows of values; `first` is the number of the first row."""
    numbered = [(first + k, {name: as_text(v) for name, v in row.items()}) for k, row in enumerate(rows)]
    return Table(path, tuple(dict.fromkeys(name for _, row in numbered for name in row)), tuple(numbered))


def as_text(value: object) -> str:
    """A cell as it would be written in a manifest.

    >>> as_text(3.0), as_text(float("nan")), as_text(None), as_text(" a ")
    ('3', '', '', 'a')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers with a missing one is stored as floats
    return str(value).strip()


def scan_table(table: Table, root: Path, given: Mapping[str, str]) -> Scan:
    """The utterances of a table. The columns that are read, and those that are not, are logged.

    Args:
        table: from one of the modules beside this one.
        root: the corpus root. Relative paths are relative to it, or else to the folder of the table.
        given: column of the manifest -> column of the table; guessed for the others.

    Returns:
        The utterances sorted by name, and a problem for each row that cannot be used.

    Raises:
        MfhcaError: a column is unknown or missing, or the table has no rows or none of its audio files exists.
    """
    columns = choose_columns(table, given)
    if not table.rows:
        raise MfhcaError(f"{table.path}: has no rows; export it again")
    rows, utterances = Rows(), []
    for line, cells in table.rows:
        row = {name: cells.get(column, "") for name, column in columns.items()}
        row["path"] = relative_path(row["path"], root, table.path)
        row.setdefault("utterance", _name(row))
        known = len(rows.problems)
        rows.add(line, list(row), list(row.values()))
        if len(rows.problems) == known:
            utterances.append(rows.utterances[-1])
    if utterances and not any((root / u.path).exists() for u in utterances):
        raise MfhcaError(
            f"{table.path}: {root} has none of its {len(utterances)} audio files, e.g. {utterances[0].path}; "
            "pass as --root the folder to which its paths are relative"
        )
    readable, unreadable = read_lengths(root, sorted(utterances, key=lambda u: u.utterance))
    late = [u for u in readable if _ends_late(u)]
    problems = [
        f"utterance {u.utterance}: ends at {u.end_s} s, after the end of {u.path}; start and end must be in seconds"
        for u in late
    ]
    used = tuple(u for u in readable if u not in late)
    return Scan(used, problems=(*rows.problems, *unreadable, *problems))


def choose_columns(table: Table, given: Mapping[str, str]) -> dict[str, str]:
    """Which column of a table becomes which column of the manifest.

    Args:
        table: its columns are read.
        given: column of the manifest -> column of the table, from the user.

    Returns:
        The columns given, and a guess for each of the others that the table seems to have.

    Raises:
        MfhcaError: a column does not exist, or one that a manifest must have was neither given nor found.
    """
    for name, column in given.items():
        if name not in HEADERS:
            raise MfhcaError(
                f"--column {name}={column}: a manifest has no column {name!r}; {did_you_mean(name, HEADERS)}"
            )
        if column not in table.columns:
            raise MfhcaError(f"{table.path}: has no column {column!r}; {did_you_mean(column, table.columns)}")
    by_lower_case = {column.lower(): column for column in reversed(table.columns)}
    taken = set(given.values())
    columns = dict(given)
    for name, headers in HEADERS.items():
        found = [by_lower_case[header] for header in headers if header in by_lower_case]
        free = [column for column in found if column not in taken]
        if name not in given and free:
            columns[name] = free[0]
            taken.add(free[0])
    missing = [name for name in REQUIRED if name not in columns and name != "utterance"]
    if missing:
        raise MfhcaError(
            f"{table.path}: no column looks like {' or '.join(missing)}; it has {', '.join(table.columns) or 'none'}; "
            f"name it with --column {missing[0]}=COLUMN"
        )
    chosen = [
        f"{name} from {column}" + ("" if name in given else " (guessed)") for name, column in columns.items()
    ]
    unused = [column for column in table.columns if column not in taken]
    log.LOG.info("%s: %s; not used: %s", table.path, ", ".join(chosen), ", ".join(unused) or "none")
    return columns


def relative_path(path: str, root: Path, table: Path) -> str:
    """A path of a table relative to the corpus root; unchanged if it does not lie below it.

    >>> relative_path("/data/mine/a/1.wav", Path("/data/mine"), Path("/tables/mine.csv"))
    'a/1.wav'
    """
    if not path:
        return ""
    if "\\" in path and not (root / path).exists():
        path = path.replace("\\", "/")  # written on Windows
    places = (root.absolute(), (table if table.is_dir() else table.parent).absolute())
    bases = dict.fromkeys(
        (root.absolute(), root.resolve())
    )  # absolute paths may have been written through a link
    candidates = [PurePosixPath(os.path.normpath(place / path)) for place in places]
    inside = [c.relative_to(base) for c in candidates for base in bases if c.is_relative_to(base)]
    existing = [found for found in inside if (root / found).exists()]
    return str((existing or inside)[0]) if inside else path


def _name(row: Mapping[str, str]) -> str:
    """The name of an utterance without one: its path, and its span in milliseconds if it has one."""
    stem = str(PurePosixPath(row["path"]).with_suffix("")) if row["path"] else ""
    try:
        ends = [round(1000 * float(row.get(name) or 0)) for name in ("start_s", "end_s")]
    except (ValueError, OverflowError):
        return stem  # `Rows` reports it
    return f"{stem}_{ends[0]}-{ends[1] or 'end'}" if any(ends) else stem


def _ends_late(utterance: Utterance) -> bool:
    if utterance.samples is None or utterance.sample_rate is None:
        return False
    seconds = utterance.samples / utterance.sample_rate
    return max(utterance.start_s or 0.0, (utterance.end_s or 0.0) - END_TOLERANCE) > seconds
