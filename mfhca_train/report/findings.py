"""What a run shows, by fixed rules from its scores. The sentences are in templates/summary.j2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mfhca_train.report.parameters import Baseline
from mfhca_train.report.rows import (
    LEVEL,
    comparisons,
    is_significant,
    is_undecidable,
    smallest_p,
)
from mfhca_train.results.effects import Effect
from mfhca_train.results.record import Record
from mfhca_train.results.schema import NETWORK, RowResults

MOST_NAMED = 4  # rows in one sentence


def findings(record: Record, effects: Sequence[Effect], baseline: Baseline | None) -> dict[str, Any]:
    """The numbers that the sentences of summary.j2 need, most important first."""
    tests = _tests(record)
    by_part: dict[str, list[Effect]] = {}
    for effect in effects:
        by_part.setdefault(effect.part, []).append(effect)
    return {
        "level": LEVEL,
        "verdict": _verdict(record.single, record.chance) if record.single else "",
        "best": _best(record),
        "tests": tests,
        "untested": "" if tests or record.single else _untested(record),
        "effects": by_part,
        "selections": [entry.selection.ua for entry in record.results.optimism if entry.selection],
        "saving": _saving(record, baseline),
    }


def _verdict(row: RowResults, chance: float) -> str:
    """Whether the UA of a cross-validation is above or below chance level."""
    ends = row.ua.pooled_ci95 if row.headline == "pooled" else row.ua.ci95
    if ends is None:
        return "unknown"
    if row.is_oracle or row.corpus == "demo":
        return "meaningless"
    if ends[1] < chance:
        return "below"
    return "above" if ends[0] > chance else "chance"


def _best(record: Record) -> dict[str, Any]:
    key = record.headline
    rows = record.without_oracles
    ranked = sorted(rows.values(), key=lambda row: -getattr(row.ua, key))
    reference = record.rows[record.reference] if record.reference else None
    return {
        "row": ranked[0],
        "ua": getattr(ranked[0].ua, key),
        "count": len(rows),
        "all": len(rows) == len(record.rows),
        "reference": reference if reference is not ranked[0] else None,
        "reference_ua": getattr(reference.ua, key) if reference else None,
        "baseline_wins": ranked[0].kind != NETWORK and any(row.kind == NETWORK for row in ranked),
    }


def _untested(record: Record) -> str:
    """Why nothing was tested."""
    if not record.results.reference:
        return "the grid names no reference"
    if record.reference is None:
        return "the reference row was not trained"
    if any(row.oracle != record.rows[record.reference].oracle for row in record.rows.values()):
        return "no other row selects the epoch in the way the reference does"
    return "there is no other row"


def _tests(record: Record) -> dict[str, Any] | None:
    """Which rows differ significantly from the reference, per score, largest difference first."""
    tested = comparisons(record.results)
    if not tested:
        return None
    significant = {
        name: sorted(
            (
                (record.rows[row], getattr(comparison, name))
                for row, comparison in tested.items()
                if is_significant(getattr(comparison, name))
            ),
            key=lambda pair: -abs(pair[1].difference),
        )
        for name in ("ua", "wa")
    }
    same = [{row.title for row, _ in rows} for rows in significant.values()]
    ends = [comparison.ua.ci95 for comparison in tested.values() if comparison.ua.ci95]
    return {
        "count": len(tested),
        "reference": record.rows[record.reference or ""],
        "significant": {name: rows for name, rows in significant.items() if rows},
        "most": MOST_NAMED,
        "same_rows": same[0] == same[1],
        "undecidable": is_undecidable(record.results),
        "smallest": max(comparison.ua.smallest_p for comparison in tested.values()),
        "smallest_adjusted": smallest_p(record.results),
        "speakers": next(iter(tested.values())).ua.pairs,
        "reach": (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None,
    }


def _saving(record: Record, baseline: Baseline | None) -> dict[str, Any] | None:
    """The parameters of the reference against the baseline's."""
    name = record.reference
    if baseline is None or name is None or record.rows[name].kind != NETWORK or name == baseline.row:
        return None
    row = record.rows[name]
    return {"row": row, "baseline": baseline.parameters, "saved": baseline.saved(row.parameters)}
