"""Sizes, durations, counts and lists of names formatted for people; tables as CSV text."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

EXAMPLES = 3  # names shown
FORMULA = re.compile(r"'*[=+\-@\t\r]")  # the beginning of a cell that a spreadsheet would run

# Control characters except tab and line feed (C0, DEL, C1), line separators, and marks that reorder or hide text.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def printable(text: str) -> str:
    """Text in which control characters are written as escapes: the name of a file must not drive a terminal.

    >>> printable("a\\x1b[31m\\u202eb\\n")
    'a\\\\x1b[31m\\\\u202eb\\n'
    """
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def character_name(character: str) -> str:
    """A character that cannot be seen, in words.

    >>> character_name("\\u202e"), character_name("\\x9b")
    ('the invisible character RIGHT-TO-LEFT OVERRIDE', 'the invisible character U+009B')
    """
    return f"the invisible character {unicodedata.name(character, f'U+{ord(character):04X}')}"


def hidden_characters(value: Any, where: str = "") -> Iterator[str]:
    """A sentence for each text in JSON or TOML data with characters that hide or reorder text, or drive a terminal.

    >>> list(hidden_characters({"row": [{"title": "a\\x1b[2J"}], "note": "two\\nlines"}))
    ["row[0].title 'a\\\\x1b[2J' has the invisible character U+001B"]
    """
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from hidden_characters(name, f"the name {where and where + '.'}*")
            yield from hidden_characters(entry, f"{where}.{name}" if where else name)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from hidden_characters(entry, f"{where}[{index}]")
    elif isinstance(value, str) and (found := CONTROL.search(value)):
        yield f"{where} {value!r} has {character_name(found[0])}"


def size_text(count: float) -> str:
    """A number of bytes with a decimal unit.

    >>> size_text(999), size_text(1_530_000)
    ('999 B', '1.5 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    power = min(4, int(math.log10(count)) // 3)
    return f"{count / 1000**power:.1f} {' kMGT'[power]}B"


def duration_text(seconds: float) -> str:
    """A number of seconds in hours, minutes and seconds.

    >>> duration_text(3.14159), duration_text(7384)
    ('3.1 s', '2 h 3 min 4 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "fold"), plural(1200, "fold")
    ('1 fold', '1,200 folds')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def first_names(names: Iterable[str], most: int = EXAMPLES) -> str:
    """The first few of some names, in alphabetical order, and how many more there are.

    >>> first_names(["d", "c", "b", "a"]), first_names(["a"])
    ('a, b, c and 1 more', 'a')
    """
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def as_cell(value: Any) -> Any:
    """A value for a CSV file: a text that a spreadsheet would run as a formula gets an apostrophe in front.

    >>> as_cell("=1+1"), as_cell("'-x.wav"), as_cell("a=b"), as_cell(-1.5)
    ("'=1+1", "''-x.wav", 'a=b', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """The inverse of `as_cell` for texts.

    >>> from_cell("'=1+1"), from_cell("''-x.wav"), from_cell("'tis.wav"), from_cell("-1.5")
    ('=1+1', "'-x.wav", "'tis.wav", '-1.5')
    """
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV: cells as `as_cell` gives them, floats with all their digits.

    >>> csv_text(["utterance", "logp"], [["a,b", 0.1]])
    'utterance,logp\\n"a,b",0.1\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(as_cell, header))
    writer.writerows(map(as_cell, row) for row in rows)
    return text.getvalue()
