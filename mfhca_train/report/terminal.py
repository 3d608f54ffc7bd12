"""What `ablate` prints: a line a row, the tests against the reference, the optimism of selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mfhca_train.report.words import title_of, unequal_seeds, untested_oracles
from mfhca_train.results import layer_weights
from mfhca_train.results.comparison import WORTH
from mfhca_train.results.summary import percent

SEEDS_ADVISED = 5


def table(results: Mapping[str, Any]) -> str:
    """The results of an ablation as text.

    Args:
        results: the content of its results.json.
    """
    rows, cited = results["rows"], results["cited"]
    figures = [figure for entry in (*rows.values(), *cited) for figure in entry["published"]]
    protocols = list(dict.fromkeys(map(_protocol, figures)))
    titles = {name: _title(name, row, results["reference"]) for name, row in rows.items()}
    width = max(map(len, [*titles.values(), *(entry["title"] for entry in cited), "row"]))
    blank = "".ljust(width)
    lines = [
        results["title"],
        f"{results['corpus']}, label set {results['label_set']}, protocol {results['protocol']} unless a row says "
        "otherwise; per cent",
        f"{blank}  {'mean ± sd over folds':^29}  {'pooled':^13}  {'minus reference, per test speaker':^43}  published",
        f"{'row':<{width}}  {'WA':^14} {'UA':^14}  {'WA':>6} {'UA':>6}  {'WA':>6} {'UA':>6} {'p(WA)':>6} {'Holm':>6} "
        f"{'p(UA)':>6} {'Holm':>6}  WA/UA",
    ]
    lines += [
        f"{titles[name]:<{width}}  {_figures(row)}  {_tests(row)}  {_published(row, protocols)}"
        for name, row in rows.items()
    ]
    lines += [f"{entry['title']:<{width}}  {'':<87}  {_published(entry, protocols)}" for entry in cited]
    lines += [f"published ({number}): {words}" for number, words in enumerate(protocols, start=1)]
    lines = [line.rstrip() for line in lines]
    for name, row in rows.items():
        weights = layer_weights.lines(row)
        lines += [f"{titles[name]}:", *weights] if weights else []
    return "\n".join([*lines, *_notes(results), *([results["note"].strip()] if results["note"] else [])])


def _title(name: str, row: Mapping[str, Any], reference: str | None) -> str:
    marks = [" (reference)"] if name == reference else []
    return "".join([title_of(row), *marks])


def _figures(row: Mapping[str, Any]) -> str:
    spread = [f"{percent(row[s]['mean'])} ±{percent(row[s]['std'])}" for s in ("wa", "ua")]
    return f"{' '.join(spread)}  {percent(row['wa']['pooled'])} {percent(row['ua']['pooled'])}"


def _tests(row: Mapping[str, Any]) -> str:
    found = row["comparison"]
    if not found:
        return f"{'':<41}"
    changes = " ".join(f"{100 * found[s]['difference']:+6.2f}" for s in ("wa", "ua"))
    return f"{changes} " + " ".join(f"{_p(found[s]['p'])} {_p(found[s]['p_holm'])}" for s in ("wa", "ua"))


def _p(value: float) -> str:
    return f"{value:6.4f}" if value >= 0.0001 else "<.0001"


def _published(entry: Mapping[str, Any], protocols: Sequence[str]) -> str:
    """WA/UA, and the number under which the protocol is explained below."""
    return "; ".join(
        f"{figure['wa']:.2f}/{figure['ua']:.2f}" + mark if "ua" in figure else f"{figure['wa']:.2f}/-" + mark
        for figure in entry["published"]
        for mark in [f" ({protocols.index(_protocol(figure)) + 1})"]
    )


def _protocol(figure: Mapping[str, Any]) -> str:
    return f"{figure['corpus']}, {figure['protocol']} [{figure['source']}]"


def _notes(results: Mapping[str, Any]) -> list[str]:
    rows, reference = results["rows"], results["reference"]
    lines = []
    tested = [row["comparison"] for row in rows.values() if row["comparison"]]
    if tested:
        some = tested[0]["ua"]
        lines.append(
            f"p: {some['method']} sign-flip test, two-sided, over {some['pairs']} test speaker(s), seeds averaged "
            f"first; the smallest that can be reached is {max(t['ua']['smallest_p'] for t in tested):.4g}; "
            f"Holm: over the {len(tested)} rows tested"
        )
        lines += [note] if (note := unequal_seeds(results)) else []
    elif reference is not None and reference not in rows:
        lines.append(f"nothing is tested: the reference row {reference} is not here")
    lines += [note] if (note := untested_oracles(results)) else []
    for entry in results["optimism"]:
        for what, (words, more, less) in WORTH.items():
            if what in entry:
                lines.append(f"worth of {words} ({more} minus {less}): {_change(entry[what])}")
    if any(row["oracle"] for row in rows.values()):
        lines.append(
            "ORACLE: the epoch was selected on the test speaker; compare with rows of the same protocol only"
        )
    fewest = min(
        (len(row["seeds"]) for row in rows.values() if row["kind"] == "network"), default=SEEDS_ADVISED
    )
    if fewest < SEEDS_ADVISED:
        lines.append(
            f"{fewest} seed(s): a difference within the spread over seeds says nothing; take {SEEDS_ADVISED} or more"
        )
    if not all(row["complete"] for row in rows.values()):
        lines.append("NOT COMPLETE: some folds only; run ablate without --fold for all")
    return lines


def _change(found: Mapping[str, Any]) -> str:
    parts = []
    for score in ("wa", "ua"):
        entry = found[score]
        ends = (
            ""
            if entry["ci95"] is None
            else " (95 % {:+.2f} to {:+.2f})".format(*(100 * e for e in entry["ci95"]))
        )
        parts.append(f"{score.upper()} {100 * entry['difference']:+.2f}{ends}, p {_p(entry['p']).strip()}")
    return "; ".join(parts)
