"""Measurements with their targets, and their tables. Only this module decides whether a target is reached."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from bench.timing import Spread

SIGNS: Final = {">=": operator.ge, "<=": operator.le, "<": operator.lt}
WORDS: Final = {">=": "at least", "<=": "at most", "<": "below"}


@dataclass(frozen=True)
class Target:
    """The bound that a measurement should keep."""

    sign: Literal[">=", "<=", "<"]
    value: float


@dataclass(frozen=True)
class Measurement:
    """One measured quantity."""

    what: str
    spread: Spread
    unit: str
    target: Target | None = None
    note: str = ""  # needed to interpret it

    @property
    def reached(self) -> bool | None:
        """Whether the median is within the target; None without one."""
        if self.target is None:
            return None
        return bool(SIGNS[self.target.sign](self.spread.median, self.target.value))

    def to_dict(self) -> dict[str, Any]:
        """Numbers, and their texts, so that all tables show them in the same way."""
        s, target = self.spread, self.target
        measured = f"{number(s.median)} {self.unit}".strip()
        if s.count > 1:
            measured += f" ({number(s.low)} to {number(s.high)})"
        return {
            "what": self.what,
            "unit": self.unit,
            "median": s.median,
            "low": s.low,
            "high": s.high,
            "count": s.count,
            "target": None if target is None else {"sign": target.sign, "value": target.value},
            "reached": self.reached,
            "note": self.note,
            "measured_text": measured,
            "target_text": ""
            if target is None
            else f"{WORDS[target.sign]} {number(target.value)} {self.unit}".strip(),
            "verdict": {None: "", True: "reached", False: "not reached"}[self.reached],
        }


@dataclass(frozen=True)
class Table:
    """Text in rows and columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Section:
    """The measurements of one module."""

    title: str
    how: str  # one paragraph: what was measured, and how
    figures: list[Measurement] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The form in results.json."""
        return {
            "title": self.title,
            "how": self.how,
            "figures": [figure.to_dict() for figure in self.figures],
            "tables": [
                {"title": t.title, "columns": list(t.columns), "rows": [list(row) for row in t.rows]}
                for t in self.tables
            ],
            "notes": self.notes,
        }


def number(value: float) -> str:
    """Three significant digits, thousands with commas, five for cosines near one.

    >>> [number(v) for v in (0.01234, 0.99951, 1.0, 12.34, 999.9, 1234.5)]
    ['0.0123', '0.99951', '1', '12.3', '1,000', '1,234']
    """
    size = abs(value)
    if size >= 999.5:
        return f"{value:,.0f}"
    if 0.999 < size < 1:  # a cosine
        return f"{value:.5f}".rstrip("0").rstrip(".")
    return f"{value:.3g}"


def markdown(results: dict[str, Any]) -> str:
    """results.md from the content of results.json."""
    lines = ["# Measurements", ""]
    if results["quick"]:
        lines += [
            "**A trial run (`--quick`): it shows that the programs run; its values mean nothing.**",
            "",
        ]
    lines += [
        "Medians, with the range over turns in brackets. Written by `make bench`; nothing is typed by hand.",
        "",
    ]
    lines += table(["machine", ""], list(results["machine"].items()))
    for section in results["sections"].values():
        lines += ["", f"## {section['title']}", ""]
        if "failed" in section:
            lines += [f"**Failed:** {section['failed']}"]
            continue
        lines += [section["how"], ""]
        rows = [
            (f["what"], f["measured_text"], str(f["count"]), f["target_text"], f["verdict"], f["note"])
            for f in section["figures"]
        ]
        if rows:
            lines += table(["what", "measured", "turns", "target", "", "note"], rows)
        for extra in section["tables"]:
            lines += ["", f"{extra['title']}:", "", *table(extra["columns"], extra["rows"])]
        for note in section["notes"]:
            lines += ["", note]
    return "\n".join(lines) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
