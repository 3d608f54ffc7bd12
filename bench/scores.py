"""Tables of scores for README and docs: systems with their protocol, spread, baselines and tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Results = dict[str, Any]  # a file of bench/results/


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """A Markdown table whose first `text_columns` columns are aligned to the left, the others to the right."""
    ruler = ["---" if column < text_columns else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))


def overview(runs: list[Results], published: list[Results]) -> str:
    """One table per corpus and label set: every system with its protocol and its spread."""
    parts = []
    for run in runs:
        rows = []
        for row in _rows(run):
            rows.append(
                [_title(row), f"{row['protocol']}, {row['n_folds']} × {max(1, len(row['seeds']))}"]
                + [_mean(row[score]) for score in ("wa", "ua")]
                + [_percent(row[score]["pooled"]) for score in ("wa", "ua")]
            )
            if ensemble := row.get("ensemble"):
                rows.append(
                    [f"{_title(row)}: ensemble of {ensemble['seeds']} seeds", row["protocol"]]
                    + [
                        _percent(ensemble[score][part])
                        for part in ("mean", "pooled")
                        for score in ("wa", "ua")
                    ]
                )
        for other in _published(run, published):
            mean, pooled = (
                _values(other) if other["score"] == score else ("–", "–") for score in ("mean", "pooled")
            )
            rows.append([f"*{other['system']}*", other["protocol"].partition(",")[0], *mean, *pooled])
        parts.append(
            f"**{run['corpus']}**, {len(run['classes'])} classes ({', '.join(run['classes'])}), in %; mean ± standard "
            "deviation over folds, then the score of all folds pooled. Chance level of UA: "
            f"{100 / len(run['classes']):.1f} %.{_missing(run)}"
        )
        parts.append(
            table(["system", "protocol, folds × seeds", "WA", "UA", "WA pooled", "UA pooled"], rows, 2)
        )
    return "\n\n".join(parts)


def details(runs: list[Results], published: list[Results]) -> str:
    """Scores, differences from the reference, the gain of selecting on the test speaker, and published scores."""
    parts = []
    for run in runs:
        parts.append(f"## {run['corpus']}, {len(run['classes'])} classes")
        if "grid" in run:
            parts.append(f"Grid `{run['grid']}`: {run['title'][0].lower()}{run['title'][1:]}. {run['note']}")
        parts.append(_scores(run))
        parts += [_differences(run)] if run.get("reference") else []
        parts += [_optimism(entry) for entry in run.get("optimism", ())]
        rows = [
            [other["system"], *_values(other), other["score"], f"{other['protocol']} ({other['source']})"]
            for other in _published(run, published)
        ]
        if rows:
            parts.append("### Baselines and published scores")
            parts.append(table(["system", "WA", "UA", "score", "protocol and source"], rows))
        if "grid" in run:
            report = f"{run['corpus']}-{run['label_set']}-{run['grid']}.md"
            parts.append(
                f"The full report of the run, with scores per fold and class, is `bench/results/{report}`."
            )
    return "\n\n".join(parts)


def _missing(run: Results) -> str:
    """Names the rows of the grid that were not trained."""
    titles = run.get("missing") or ()
    return f" Not measured yet: {'; '.join(titles)}." if titles else ""


def _scores(run: Results) -> str:
    head = ["row", "protocol", "folds × seeds", "WA", "UA", "F1", "WA pooled", "UA pooled", "parameters"]
    rows = [
        [_title(row), row["protocol"], f"{row['n_folds']} × {max(1, len(row['seeds']))}"]
        + [_mean(row[score], 2) for score in ("wa", "ua", "f1")]
        + [_pooled(row[score]) for score in ("wa", "ua")]
        + [f"{row['parameters']:,}" if row["parameters"] else "–"]
        for row in _rows(run)
    ]
    note = (
        "In %. WA, UA and F1: mean ± standard deviation over folds, seeds averaged first. Pooled: the score of all "
        "folds together, with an approximate 95 % interval by speaker."
    )
    return f"### Scores\n\n{note}\n\n{table(head, rows, 2)}"


def _differences(run: Results) -> str:
    rows, tested = run["rows"], [row for row in _rows(run) if row.get("comparison")]
    significant = [row for row in tested if min(row["comparison"][s]["p_holm"] for s in ("wa", "ua")) < 0.05]
    speakers = tested[0]["comparison"]["ua"]["pairs"]
    lines = [
        [row["title"]]
        + [
            text
            for score in ("wa", "ua")
            for text in (
                _difference(row["comparison"][score]),
                f"{row['comparison'][score]['p']:.4f}",
                f"{row['comparison'][score]['p_holm']:.4f}",
            )
        ]
        for row in tested
    ]
    verdict = (
        f"{len(significant)} of {len(tested)} rows differ significantly from the reference"
        if significant
        else f"None of the {len(tested)} rows differs significantly from the reference; that does not make them equal"
    )
    smallest = tested[0]["comparison"]["ua"]["smallest_p"]
    note = (
        f"Each row minus “{rows[run['reference']]['title']}” in points, paired over {speakers} test speakers, seeds "
        "averaged first, with the unadjusted 95 % interval; p of the exact sign-flip test, raw and after Holm's "
        f"correction over the rows. {verdict} (5 % level). The smallest possible raw p is {smallest:.4f}."
    )
    head = ["row", "WA", "p", "p (Holm)", "UA", "p", "p (Holm)"]
    return f"### Differences from the reference\n\n{note}\n\n{table(head, lines)}"


def _optimism(entry: Results) -> str:
    """Mean and interval without a test: the epoch is chosen by this score, so a positive difference is expected."""
    change = entry["selection"]
    return (
        "### What selecting the epoch on the test speaker is worth\n\n"
        f"With the same training speakers: UA {_difference(change['ua'])}, WA {_difference(change['wa'])} "
        "points (95 % interval of the mean over test speakers)."
    )


def _rows(run: Results) -> list[Results]:
    """The rows of an ablation, or the one of a cross-validation."""
    rows = run.get("rows") or {"model": run | {"title": model_name(run), "kind": "network"}}
    return [row for row in rows.values() if row["kind"] != "cited"]


def model_name(run: Results) -> str:
    model = run["config"]["model"]
    if model["inputs"] != "both":
        return {"ssl": "hidden states alone", "spec": "spectrogram alone"}[model["inputs"]]
    return f"{model['fusion']} {model['hca']}" if model["fusion"] == "hca" else str(model["fusion"])


def _published(run: Results, published: list[Results]) -> list[Results]:
    key = run["corpus"], run["label_set"]
    return [
        other
        for other in published
        if (other["corpus"], other["label_set"]) == key
        and not other.get("variant")
        and other.get("encoder_sha256") in (None, *run["encoders"])
    ]


def _values(other: Results) -> tuple[str, str]:
    return f"{other['wa']:.1f}", f"{other['ua']:.1f}" if "ua" in other else "–"


def _title(row: Results) -> str:
    return f"{row['title']} (**oracle**)" if row["oracle"] else str(row["title"])


def _percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f}"


def _mean(score: Results, digits: int = 1) -> str:
    return f"{_percent(score['mean'], digits)} ± {_percent(score['std'], digits)}"


def _pooled(score: Results) -> str:
    low, high = score["pooled_ci95"]
    return f"{_percent(score['pooled'], 2)} ({_percent(low, 2)} to {_percent(high, 2)})"


def _difference(change: Results) -> str:
    low, high = change["ci95"]
    text = f"{100 * change['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    return text.replace("-", "−")
