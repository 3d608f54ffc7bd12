"""The scores of a run as files for papers and programs: a LaTeX table and CSV."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mfhca_cache.common.text import csv_text, plural
from mfhca_train.report.rows import comparisons, normalised_over, trained_on
from mfhca_train.report.text import clean, count_range
from mfhca_train.results.record import Record
from mfhca_train.results.schema import SCORES, Change, RowResults, Score

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))  # Holm-adjusted p below
SPECIAL = {**{c: f"\\{c}" for c in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
SPECIAL |= {"^": r"\textasciicircum{}", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "…": r"\dots{}"}
SPECIAL |= {"“": "``", "”": "''", "’": "'", "–": "--", "<": r"\textless{}", ">": r"\textgreater{}"}


def latex_text(text: str) -> str:
    """A text as LaTeX prints it.

    >>> latex_text("a_b & 5 %")
    'a\\\\_b \\\\& 5 \\\\%'
    """
    return "".join(SPECIAL.get(letter, letter) for letter in clean(text))


def latex(record: Record) -> str:
    r"""The rows as a table for \input; it needs the package booktabs.

    Mean ± standard deviation over folds, pooled scores, marks of significance, protocol, number of test utterances;
    the ensemble of seeds of each row below it.
    """
    pooled = record.headline == "pooled"
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_caption(record, pooled)}}}",
        rf"\label{{tab:{re.sub('[^a-zA-Z0-9]+', '-', f'{record.results.grid or record.results.corpus}')}}}",
        r"\begin{tabular}{p{0.21\linewidth}lrcccc}",
        r"\toprule",
        r"& & & \multicolumn{2}{c}{mean $\pm$ sd} & \multicolumn{2}{c}{pooled} \\",
        r"\cmidrule(lr){4-5}\cmidrule(lr){6-7}",
        r"System & Protocol & $n$ & WA & UA & WA & UA \\",
        r"\midrule",
    ]
    for name, row in record.rows.items():
        title = latex_text("MFHCA" if record.single else row.marked_title)
        title += " (reference)" * (name == record.reference)
        how = f"{latex_text(trained_on(row))} & {row.n_utterances}"
        means = [_mean(score) + _stars(row, key) for key, score in (("wa", row.wa), ("ua", row.ua))]
        values = [_number(score.pooled) for score in (row.wa, row.ua)]
        lines.append(rf"\raggedright {title} & {how} & {' & '.join([*means, *values])} \\")
        if row.ensemble:
            both = (row.ensemble.wa, row.ensemble.ua)
            values = [_number(one.mean) for one in both] + [_number(one.pooled) for one in both]
            lines.append(
                rf"\raggedright --- ensemble of {row.ensemble.seeds} seeds & {how} & {' & '.join(values)} \\"
            )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _caption(record: Record, pooled: bool) -> str:
    results = record.results
    parts = [
        f"{latex_text(results.title)}: corpus {latex_text(results.corpus)}, label set {latex_text(results.label_set)}, "
        f"{len(results.classes)} classes. Scores in \\%: mean $\\pm$ standard deviation over the folds, "
        f"{_seeds(record)}averaged first, and pooled over all test utterances ($n$)."
    ]
    if pooled:
        parts.append("In some folds a class does not occur, so the pooled scores count.")
    tested = comparisons(results)
    if tested and record.reference:
        change = next(iter(tested.values())).ua
        marks = ", ".join(f"{stars} $p<{level:g}$" for level, stars in reversed(STARS))
        against = latex_text(record.rows[record.reference].marked_title)
        parts.append(
            f"{marks}: against {against}, {change.method} sign-flip test "
            f"over {plural(change.pairs, 'test speaker')}, Holm-adjusted for {plural(len(tested), 'row')}."
        )
    if any(row.is_oracle for row in record.rows.values()):
        parts.append("ORACLE: the epoch was selected on the test speaker.")
    if any(row.transductive for row in record.rows.values()):
        parts.append("Transductive: features normalised over unlabelled test utterances.")
    return " ".join(parts)


def _seeds(record: Record) -> str:
    """How many seeds the networks have, where there are several."""
    counts = [len(row.seeds) for row in record.networks.values()]
    return f"{count_range(counts)} seeds per network " if max(counts, default=1) > 1 else "seeds "


def _number(fraction: float) -> str:
    return f"${100 * fraction:.2f}$"


def _mean(score: Score) -> str:
    """Mean and, over several folds, standard deviation."""
    return (
        _number(score.mean) if score.std is None else rf"${100 * score.mean:.2f} \pm {100 * score.std:.2f}$"
    )


def _stars(row: RowResults, name: str) -> str:
    """Marks of a significant difference from the reference."""
    change: Change | None = getattr(row.comparison, name, None)
    if change is None or change.p_holm is None:
        return ""
    stars = next((stars for level, stars in STARS if change.p_holm < level), "")
    return f"\\textsuperscript{{{stars}}}" if stars else ""


def csv(record: Record) -> str:
    """One line per row with all its scores, as fractions, and how it was trained and tested."""
    lines = [dict(_fields(record, name, row)) for name, row in record.rows.items()]
    header = list(dict.fromkeys(name for line in lines for name in line))
    return csv_text(header, [[line.get(name, "") for name in header] for line in lines])


def _fields(record: Record, name: str, row: RowResults) -> Iterator[tuple[str, Any]]:
    yield "row", name
    yield "title", clean(row.marked_title)
    yield "kind", row.kind
    yield "corpus", clean(row.corpus)
    yield "label_set", clean(row.label_set)
    yield "protocol", row.protocol
    yield "refit", bool(row.config["train"].get("refit"))
    yield "normalised_over", normalised_over(row)
    yield "oracle", row.is_oracle
    yield "transductive", row.transductive
    yield "complete", row.complete
    yield "folds", row.n_folds
    yield "seeds", len(row.seeds)
    yield "utterances", row.n_utterances
    yield "segments", row.n_segments
    yield "parameters", row.parameters
    for key in SCORES:
        score = row.score(key)
        for field in ("mean", "std", "seed_std", "pooled"):
            value = getattr(score, field)
            yield f"{key}_{field}", "" if value is None else value
        for field in ("ci95", "pooled_ci95"):
            low, high = getattr(score, field) or ("", "")
            yield f"{key}_{field}_low", low
            yield f"{key}_{field}_high", high
    if row.ensemble:
        for key in SCORES:
            yield f"ensemble_{key}_mean", row.ensemble.score(key).mean
            yield f"ensemble_{key}_pooled", row.ensemble.score(key).pooled
    if row.calibration:
        yield "ece", row.calibration.ece
    if row.comparison:
        for key in ("wa", "ua"):
            change: Change = getattr(row.comparison, key)
            yield f"{key}_minus_reference", change.difference
            yield f"{key}_p", change.p
            yield f"{key}_p_holm", "" if change.p_holm is None else change.p_holm
        yield "reference", clean(record.results.reference or "")


SCORE_FILES = {"scores.tex": latex, "scores.csv": csv}  # in the folder of a run
