"""Our scores beside published ones, each with its protocol: a table of both kinds of report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mfhca_train.report.html import Markup, escaped, names, per_cent, table

FORMS = {"mean": "mean over folds", "pooled": "pooled"}
HEAD = ["System", "Our WA", "Our UA", "Our protocol", "Their WA", "Their UA", "Their protocol and source"]


def beside(
    about: Mapping[str, Any],
    ours: Sequence[tuple[Markup, Mapping[str, Any], str, Mapping[str, Any] | None]],
    theirs: Sequence[tuple[str, Mapping[str, Any]]],
) -> str:
    """A note and a table; nothing where there is no figure.

    Args:
        about: `corpus` and `label_set` of the run.
        ours: label and results of a row, which of its scores ("mean" or "pooled"), and the figure beside it.
        theirs: title and figure of what was not trained here.
    """
    rows = [[label, *_ours(row, form), *_theirs(figure)] for label, row, form, figure in ours]
    rows += [[title, "–", "–", "–", *_theirs(figure)] for title, figure in theirs]
    if not rows:
        return ""
    here = _data(about)
    figures = [figure for *_, figure in ours if figure] + [figure for _, figure in theirs]
    others = sorted({_data(figure) for figure in figures} - {here})
    warning = ""
    if others:
        warning = (
            f"<strong>Figures of {names(others)} cannot be compared with ours, which are of {escaped(here)}."
            "</strong> "
        )
    for k in range(len(rows) - 1, 0, -1):  # long words need not be read again
        if rows[k][-1] == rows[k - 1][-1]:
            rows[k][-1] = "as above"
    return f"""<p>{warning}Ours are given in the form of the published figure, mean over folds or pooled, with
folds × seeds. A comparison means little where the protocols differ.</p>
<div class="wordy">{table(HEAD, rows, (), (1, 2, 4, 5), "ours beside published figures")}</div>"""


def _data(about: Mapping[str, Any]) -> str:
    return f"{about['corpus']} ({about['label_set']})"


def _ours(row: Mapping[str, Any], form: str) -> list[str]:
    key = "pooled" if form == "pooled" else "mean"
    protocol = f"{row['protocol']}, {row['n_folds']} × {len(row['seeds'])}, {FORMS[key]}"
    return [per_cent(row["wa"][key]), per_cent(row["ua"][key]), protocol]


def _theirs(figure: Mapping[str, Any] | None) -> list[Any]:
    if figure is None:
        return ["–", "–", "–"]
    values = [f"{figure[score]:.2f}" if score in figure else "–" for score in ("wa", "ua")]
    about = f"{_data(figure)}, {FORMS.get(figure['score'], figure['score'])}: {figure['protocol']}"
    return [*values, Markup(f"{escaped(about)}<br><small>{escaped(figure['source'])}</small>")]
