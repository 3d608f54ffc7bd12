"""The sections that hold scores and tests: scores, differences from the reference, effects, published scores.

Each function returns what the template of its section needs, or None if the section is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mfhca_train.report.blocks import AnyCell, Cell, Cells, Figure, Table
from mfhca_train.report.plots.rows import Difference, forest_picture
from mfhca_train.report.rows import (
    comparisons,
    ensemble_label,
    is_significant,
    normalised_over,
    quoted,
    trained_on,
    unequal_seeds,
    untested_oracles,
    warning_of,
)
from mfhca_train.report.text import interval, mean_sd, p_value, points, points_interval, score
from mfhca_train.results.comparison import GAINS, differences
from mfhca_train.results.effects import Effect
from mfhca_train.results.published import PublishedScore
from mfhca_train.results.record import Record
from mfhca_train.results.schema import SCORES, AblationResults, Change, Comparison, RowResults

TESTED = ("ua", "wa")  # the score that does not favour frequent emotions comes first
FORMS = {"mean": "mean over folds", "pooled": "pooled"}
TEST_HEAD = [cell for s in TESTED for cell in (f"{s.upper()} (95 % CI)", "p", "p (Holm)")]


def scores(record: Record) -> dict[str, Any] | None:
    """Every row's scores: mean and standard deviation over folds, and pooled with intervals; rows left out."""
    if record.single:
        return None
    head = ["Row", "Protocol", "Folds × seeds", "WA", "UA", "F1", "WA pooled", "UA pooled"]
    rows: list[Cells] = []
    marked: list[int] = []
    for name, row in record.rows.items():
        how: Cells = [
            Cell(trained_on(row), f"norm: {normalised_over(row)}"),
            f"{row.n_folds} × {len(row.seeds)}",
        ]
        marked += [len(rows)] if name == record.reference else []
        means = [mean_sd(row.score(one)) for one in SCORES]
        pooled = [Cell(score(one.pooled), interval(one.pooled_ci95)) for one in (row.wa, row.ua)]
        rows.append([record.labels[name], *how, *means, *pooled])
        if row.ensemble:
            ensemble = [row.ensemble.score(one) for one in SCORES]
            means, values = [score(one.mean) for one in ensemble], [score(one.pooled) for one in ensemble[:2]]
            rows.append([ensemble_label(row), trained_on(row), how[1], *means, *values])
    left_out = record.results.left_out
    reasons: list[Cells] = [[name, Cell(reason, code=True)] for name, reason in left_out.items()]
    return {
        "headline": record.headline,
        "ensembles": any(row.ensemble for row in record.rows.values()),
        "table": Table("scores of every row", head, rows, numbers=range(2, 8), marked=marked),
        "grid_note": record.results.note.strip(),
        "left_out": left_out,
        "reasons": Table("rows left out", ["Left out", "Reason, and how to compute its features"], reasons),
    }


def differences_from_reference(record: Record) -> dict[str, Any] | None:
    """Forest plots and tests against the reference."""
    tested, untested = comparisons(record.results), untested_oracles(record.results)
    name = record.reference
    if name is None or not (tested or untested):
        return None
    context: dict[str, Any] = {
        "tested": len(tested),
        "untested": untested,
        "reference": quoted(record.rows[name]),
    }
    if not tested:
        return context
    rows = [[record.labels[row], *_test_cells(change), change.ua.pairs] for row, change in tested.items()]
    optimistic: list[Cells] = [
        [
            record.labels[row],
            *(cell for s in TESTED for cell in _utterance_cells(change, s)),
        ]
        for row, change in tested.items()
    ]
    optimistic_head = ["Row", "UA", "p (optimistic)", "WA", "p (optimistic)"]
    return context | {
        "figures": [_forest(record, name, tested, s) for s in TESTED],
        "method": next(iter(tested.values())).ua.method,
        "seeds": unequal_seeds(record.results),
        "table": Table(
            "differences from the reference", ["Row", *TEST_HEAD, "Speakers"], rows, numbers=range(1, 8)
        ),
        "optimistic": Table("tests over utterances", optimistic_head, optimistic, numbers=range(1, 5)),
    }


def _forest(record: Record, reference: str, tested: Mapping[str, Comparison], name: str) -> Figure:
    drawn = []
    for row, comparison in tested.items():
        change: Change = getattr(comparison, name)
        each = differences(record.outcomes[row], record.outcomes[reference], name)
        title = record.rows[row].marked_title
        drawn.append(Difference(title, change.difference, change.ci95, list(each), is_significant(change)))
    picture = forest_picture(
        f"forest-{name}", f"{name.upper()} minus the reference, per test speaker", drawn, "the reference"
    )
    return Figure(
        picture,
        f"{name.upper()} minus that of {quoted(record.rows[reference])}, in percentage points: mean over the test "
        "speakers with its 95 % CI, and each speaker as a small stroke. A filled square is significant at 5 % after "
        "Holm's adjustment, a circle is not.",
    )


def _test_cells(changes: Any) -> Cells:
    """Difference with its interval, p, and adjusted p, of UA and WA; a significant p is bold."""
    cells: Cells = []
    for name in TESTED:
        change: Change = getattr(changes, name)
        ends = points_interval(change.ci95) if change.ci95 else ""
        adjusted = p_value(1.0 if change.p_holm is None else change.p_holm)
        cells += [
            Cell(points(change.difference), ends),
            p_value(change.p),
            Cell(adjusted, strong=is_significant(change)),
        ]
    return cells


def _utterance_cells(comparison: Comparison, name: str) -> list[str]:
    change = getattr(comparison.utterances, name)
    return [points(change.difference), p_value(change.p)]


def effects(record: Record, pairs: Sequence[Effect]) -> dict[str, Any] | None:
    """Pairs of rows that differ in one part of the network."""
    rows: list[Cells] = [
        [
            effect.part,
            *_test_cells(effect.changes),
            f"{record.rows[effect.row].marked_title} − {record.rows[effect.without].marked_title}",
        ]
        for effect in pairs
    ]
    table = Table("effect of each part", ["Added part", *TEST_HEAD, "Rows"], rows, numbers=range(1, 7))
    return {"table": table, "pairs": len(rows)} if rows else None


def selection(record: Record) -> dict[str, Any] | None:
    """The effect of selecting the epoch on the test speaker, if the grid has a model under both protocols."""
    rows: list[Cells] = []
    for entry in record.results.optimism:
        for (words, more, less), changes in zip(GAINS.values(), (entry.selection, entry.extra), strict=True):
            if changes:
                worth = [
                    Cell(points(change.difference), points_interval(change.ci95))
                    for change in (changes.ua, changes.wa)
                ]
                pair = [record.rows[entry.rows[protocol]].marked_title for protocol in (more, less)]
                rows.append([words[0].upper() + words[1:], *worth, " − ".join(pair)])
    head = ["Effect of", "UA (95 % CI)", "WA (95 % CI)", "Rows"]
    table = Table("effect of selecting on the test speaker", head, rows, numbers=(1, 2))
    return {"table": table} if rows else None


def published(record: Record) -> dict[str, Any] | None:
    """Our scores next to published ones, each with its protocol."""
    results = record.results
    ours: list[tuple[AnyCell, RowResults, str, PublishedScore | None]] = [
        (record.labels[name], row, one.score, one)
        for name, row in record.rows.items()
        for one in row.published
    ]
    theirs = [(entry.title, one) for entry in results.cited for one in entry.published]
    theirs += [(one.system, one) for one in results.yardsticks]
    if record.single:
        mark = Cell("This run", strong=True, warning=warning_of(record.single))
        ours = [(mark, record.single, form, None) for form in dict.fromkeys(one.score for _, one in theirs)]
    rows: list[Cells] = [
        [first, *_our_cells(row, form), *_their_cells(one)] for first, row, form, one in ours
    ]
    rows += [[title, "–", "–", "–", *_their_cells(one)] for title, one in theirs]
    if not rows:
        return None
    for k in range(len(rows) - 1, 0, -1):  # a long source is written once
        if rows[k][-1] == rows[k - 1][-1]:
            rows[k][-1] = "as above"
    everyone = [one for *_, one in ours if one] + [one for _, one in theirs]
    own = _corpus(results)
    head = ["System", "Our WA", "Our UA", "Our protocol", "Their WA", "Their UA", "Their protocol and source"]
    return {
        "own": own,
        "others": sorted({_corpus(one) for one in everyone} - {own}),
        "table": Table("our scores and published scores", head, rows, numbers=(1, 2, 4, 5), wordy=True),
    }


def _corpus(of: PublishedScore | AblationResults) -> str:
    return f"{of.corpus} ({of.label_set})"


def _our_cells(row: RowResults, form: str) -> list[str]:
    key = "pooled" if form == "pooled" else "mean"
    protocol = f"{row.protocol}, {row.n_folds} × {len(row.seeds)}, {FORMS[key]}"
    return [score(getattr(row.wa, key)), score(getattr(row.ua, key)), protocol]


def _their_cells(one: PublishedScore | None) -> Cells:
    if one is None:
        return ["–", "–", "–"]
    protocol = f"{_corpus(one)}, {FORMS.get(one.score, one.score)}: {one.protocol}"
    return [f"{one.wa:.2f}", "–" if one.ua is None else f"{one.ua:.2f}", Cell(protocol, one.source)]
