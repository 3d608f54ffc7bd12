"""The page of an ablation: what came out in plain words, then tables, pictures and tests.

Everything shown comes from the run folder (ablation_record.py), so equal folders give
equal bytes. The words are in findings.py, the sections in ablation_sections.py,
ablation_detail.py and ablation_origin.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from mfhca_train.report import ablation_detail as detail
from mfhca_train.report import ablation_repeat as origin
from mfhca_train.report import ablation_sections as figures
from mfhca_train.report.findings import (
    compared,
    findings,
    headline,
    out_of_reach,
    quoted,
    subject,
    told,
    warnings,
)
from mfhca_train.report.frame import contents, heading, page
from mfhca_train.report.html import interval, per_cent
from mfhca_train.report.parameters import find_baseline
from mfhca_train.results.ablation_record import AblationRecord
from mfhca_train.results.effects import find_parts


def build(record: AblationRecord, portraits: Sequence[tuple[str, str]] = ()) -> str:
    """The whole page.

    Args:
        record: of the ablation.
        portraits: title and HTML of sections that show what single networks look at, if there are any.
    """
    parts, baseline = find_parts(record), find_baseline(record)
    shown = [
        ("scores", "Scores", figures.scores(record)),
        ("reference", "Against the reference", figures.against_reference(record)),
        ("parts", "What each part adds", figures.what_parts_add(record, parts)),
        ("selection", "What selecting on the test speaker is worth", figures.selection(record)),
        ("published", "Beside published figures", figures.published(record)),
        ("speakers", "Speakers and seeds", detail.speakers(record)),
        ("emotions", "Emotions", detail.emotions(record)),
        ("groups", "Groups of utterances", detail.groups(record)),
        ("training", "Training", detail.training(record)),
        ("sizes", "Parameters", detail.sizes(record, baseline)),
        ("layers", "Layers of the speech encoder", detail.layers(record)),
        *((f"portrait-{k}", title, body) for k, (title, body) in enumerate(portraits)),
        ("settings", "Settings", origin.settings(record)),
        ("repeat", "Repeat this run", origin.origin(record)),
    ]
    sections = [(name, title, body) for name, title, body in shown if body]
    came_out = "\n".join(f"<li>{sentence}</li>" for sentence in findings(record, parts, baseline))
    return page(
        record.results["title"],
        f", {record.results['corpus']}"
        + (" (ORACLE)" if all(row["oracle"] for row in record.rows.values()) else ""),
        [
            subject(record),
            *warnings(record),
            _tiles(record),
            f'<h2 id="summary">In plain words</h2>\n<ul class="findings">\n{came_out}\n</ul>',
            contents([(name, title) for name, title, _ in sections]),
            *(f"{heading(name, title)}\n{body}" for name, title, body in sections),
        ],
    )


def _tiles(record: AblationRecord) -> str:
    """The reference, the highest row, and how many rows can be told apart."""
    key = headline(record)
    honest = [name for name, row in record.rows.items() if not row["oracle"]] or list(record.rows)
    best = max(honest, key=lambda name: record.rows[name]["ua"][key])
    tiles = [_tile(record, "Reference", record.reference, key)] if record.reference else []
    if best != record.reference:
        tiles.append(_tile(record, "Highest UA", best, key))
    tested = compared(record)
    if tested:
        sure = sum(any(told(change[score]) for score in ("wa", "ua")) for change in tested.values())
        why = "In WA or UA, sign-flip test over speakers, 5 % after Holm."
        why += " With so few speakers none could be." if out_of_reach(record) else ""
        tiles.append(
            '<section class="tile"><h2>Differ from the reference</h2>'
            f'<p class="figure">{sure} of {len(tested)} rows</p>'
            f'<p class="small">{why}</p></section>'
        )
    return f'<div class="tiles">\n{"".join(tiles)}\n</div>'


def _tile(record: AblationRecord, head: str, name: str, key: str) -> str:
    row = record.rows[name]
    ends = row["ua"]["pooled_ci95" if key == "pooled" else "ci95"]
    lines = [quoted(record, name)]
    lines += [f"95 % interval: {interval(ends)}"] if ends else []
    lines += [f"WA {per_cent(row['wa'][key])}, F1 {per_cent(row['f1'][key])}"]
    form = "all folds pooled" if key == "pooled" else "mean of the folds"
    return (
        f'<section class="tile"><h2>{head}</h2><p class="figure">{per_cent(row["ua"][key])} %</p>'
        f'<p>{"<br>".join(lines)}</p><p class="small">UA, {form}; blind guessing has {per_cent(record.chance)}.</p>'
        "</section>"
    )
