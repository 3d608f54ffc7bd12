"""The sections of an ablation's report that hold its figures and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mfhca_train.report.beside import beside
from mfhca_train.report.findings import LEVEL, compared, headline, plain_title, quoted, told
from mfhca_train.report.html import (
    Markup,
    escaped,
    interval,
    p_value,
    per_cent,
    plural,
    points,
    points_interval,
    table,
)
from mfhca_train.report.plots.rows import Difference, forest_picture
from mfhca_train.report.words import unequal_seeds, untested_oracles
from mfhca_train.results.ablation_record import AblationRecord
from mfhca_train.results.comparison import WORTH, differences
from mfhca_train.results.effects import Added
from mfhca_train.results.schema import SCORES

TESTS = ("ua", "wa")  # the score that does not favour frequent emotions first


def label(record: AblationRecord, name: str) -> Markup:
    """A row's title with its marks."""
    row = record.rows[name]
    marks = [' <span class="mark">oracle</span>'] if row["oracle"] else []
    marks += [' <span class="tag">reference</span>'] if name == record.reference else []
    return Markup(escaped(row["title"]) + "".join(marks))


def marked(record: AblationRecord) -> list[int]:
    """The reference's place among the rows."""
    return [k for k, name in enumerate(record.rows) if name == record.reference]


def scores(record: AblationRecord) -> str:
    """Every row's scores: mean and deviation over folds, and pooled with their intervals."""
    head = ["Row", "Protocol", "Folds × seeds", "WA", "UA", "F1", "WA pooled", "UA pooled"]
    rows = [
        [
            label(record, name),
            row["protocol"],
            f"{row['n_folds']} × {len(row['seeds'])}",
            *(_spread(row[score]) for score in SCORES),
            *(_pooled(row[score]) for score in ("wa", "ua")),
        ]
        for name, row in record.rows.items()
    ]
    which = "the means"
    if headline(record) == "pooled":
        which = "the pooled scores, for some folds lack an emotion in the test"
    return f"""<p>WA, UA and F1: mean ± standard deviation over the folds, seeds averaged first. Pooled: all folds
together, with the 95 % interval that comes from drawing the tested speakers anew (rough with few of them). What
speaks for a row are {which}. All scores are per cent.</p>
{table(head, rows, (), range(2, len(head)), "scores of every row", marked=marked(record))}
{_left_out(record)}"""


def _spread(score: Mapping[str, Any]) -> str:
    return per_cent(score["mean"]) + ("" if score["std"] is None else f" ± {per_cent(score['std'])}")


def _pooled(score: Mapping[str, Any]) -> Markup:
    ends = score["pooled_ci95"]
    return Markup(per_cent(score["pooled"]) + (f"<br><small>{interval(ends)}</small>" if ends else ""))


def _left_out(record: AblationRecord) -> str:
    lacking = record.results.get("left_out") or {}
    note = record.results["note"].strip()
    parts = [f'<p class="small">{escaped(note)}</p>'] if note else []
    if lacking:
        rows = [[name, Markup(f"<code>{escaped(reason)}</code>")] for name, reason in lacking.items()]
        shown = table(["Left out", "Why, and what makes its features"], rows, label="rows left out")
        parts.append(f"<p>{plural(len(lacking), 'row')} of the grid could not be trained here:</p>\n{shown}")
    return "\n".join(parts)


def against_reference(record: AblationRecord) -> str:
    """Forest plots and tests against the reference."""
    tested = compared(record)
    if not record.reference:
        return ""
    untested = untested_oracles(record.results)
    untested = f'<p class="small">{escaped(untested)}</p>' if untested else ""
    if not tested:
        return untested
    reference = record.outcomes[record.reference]
    pictures = [
        forest_picture(
            f"forest-{score}",
            f"{score.upper()} minus the reference's, per test speaker",
            [
                Difference(
                    plain_title(record, name),
                    change[score]["difference"],
                    change[score]["ci95"],
                    list(differences(record.outcomes[name], reference, score)),
                    told(change[score]),
                )
                for name, change in tested.items()
            ],
            "the reference",
        )
        for score in TESTS
    ]
    some = next(iter(tested.values()))["ua"]
    rows = [
        [
            label(record, name),
            *(cell for score in TESTS for cell in _tests(change[score])),
            change["ua"]["pairs"],
        ]
        for name, change in tested.items()
    ]
    again = [
        [label(record, name), *(cell for s in TESTS for cell in _again(change["utterances"][s]))]
        for name, change in tested.items()
    ]
    drawn = "".join(
        f"<figure><figcaption><b>{score.upper()}</b></figcaption>{picture}</figure>"
        for score, picture in zip(TESTS, pictures, strict=True)
    )
    optimistic = ["Row", "UA", "p (optimistic)", "WA", "p (optimistic)"]
    return f"""<p>Each row minus the reference {quoted(record, record.reference)}, speaker by speaker, seeds averaged
first. The test tosses the signs of the speakers' differences ({some["method"]}, two-sided); Holm's adjustment is
over the {plural(len(tested), "row")} tested, for each score apart. The interval is Student's, of the mean
difference, and not adjusted.{_seeds(record)}</p>
<div class="panels two">
{drawn}
</div>
<p class="small">A circle is the mean difference, a filled square one that passes the test ({100 * LEVEL:g} % after
Holm), the line its 95 % interval; the strokes below are the speakers.</p>
{table(["Row", *_test_head(), "Speakers"], rows, (), range(1, 8), "differences from the reference")}
{untested}
<details><summary>The same over utterances: too optimistic</summary>
<p>Here predictions are swapped within utterances, as if those of one speaker were independent, which they are not.
Such tests are common and give smaller p values; <strong>do not rely on them</strong>. Of the pooled scores; not
adjusted.</p>
{table(optimistic, again, (), range(1, 5), "optimistic tests")}</details>"""


def _seeds(record: AblationRecord) -> str:
    note = unequal_seeds(record.results)
    return f" <b>{escaped(note)}</b>" if note else ""


def _test_head() -> list[str]:
    return [cell for s in TESTS for cell in (f"{s.upper()} (95 %)", "p", "p (Holm)")]


def _tests(change: Mapping[str, Any]) -> list[Any]:
    ends = f"<br><small>{points_interval(change['ci95'])}</small>" if change["ci95"] else ""
    adjusted = p_value(change["p_holm"])
    passed = Markup(f"<b>{escaped(adjusted)}</b>") if told(change) else adjusted
    return [Markup(points(change["difference"]) + ends), p_value(change["p"]), passed]


def _again(change: Mapping[str, Any]) -> list[str]:
    return [points(change["difference"]), p_value(change["p"])]


def what_parts_add(record: AblationRecord, parts: Sequence[Added]) -> str:
    """Pairs of rows that differ in one part of the network."""
    if not parts:
        return ""
    rows = [
        [
            added.part,
            *(cell for score in TESTS for cell in _tests(added.change[score])),
            Markup("<br>− ".join(escaped(plain_title(record, name)) for name in (added.row, added.without))),
        ]
        for added in parts
    ]
    return f"""<p>Pairs of rows that differ in nothing but this part, compared like the rows with the reference. Holm's
adjustment is over the {plural(len(parts), "line")} of this table, for each score apart.</p>
{table(["What is added", *_test_head(), "Rows"], rows, (), range(1, 7), "what each part adds")}"""


def selection(record: AblationRecord) -> str:
    """What peeking is worth, where the grid has the same model under both protocols."""
    rows = []
    for entry in record.results["optimism"]:
        for what, (words, more, less) in WORTH.items():
            if what in entry:
                shown = [plain_title(record, entry["rows"][protocol]) for protocol in (more, less)]
                worth = [
                    Markup(
                        f"{points(entry[what][s]['difference'])}<br><small>"
                        f"{points_interval(entry[what][s]['ci95'])}</small>"
                    )
                    for s in TESTS
                ]
                tests = [p_value(entry[what][s]["p"]) for s in TESTS]
                rows.append([words, worth[0], tests[0], worth[1], tests[1], " − ".join(shown)])
    if not rows:
        return ""
    head = ["What is worth it", "UA (95 %)", "p", "WA (95 %)", "p", "Rows"]
    return f"""<p>One model under several protocols. “oracle-matched” trains on the speakers that “strict” trains on,
but keeps the epoch that does best on the test speaker: the difference is the error of selecting so. “oracle”, the
released code's protocol, trains on the validation speakers as well.</p>
{table(head, rows, (), range(1, 5), "what selecting on the test speaker is worth")}"""


def published(record: AblationRecord) -> str:
    """Ours beside what others published, each with its protocol."""
    results = record.results
    ours = [
        (label(record, name), row, figure["score"], figure)
        for name, row in record.rows.items()
        for figure in row["published"]
    ]
    theirs = [(entry["title"], figure) for entry in results["cited"] for figure in entry["published"]]
    theirs += [(figure["system"], figure) for figure in results.get("yardsticks") or []]
    return beside(results, ours, theirs)
