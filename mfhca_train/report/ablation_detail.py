"""The sections of an ablation's report that look closer: speakers, emotions, groups, curves, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import fmean, quantiles
from typing import Any

from mfhca_train.report.ablation_sections import label, marked
from mfhca_train.report.findings import plain_title, quoted
from mfhca_train.report.html import Markup, escaped, per_cent, plural, table
from mfhca_train.report.parameters import Baseline
from mfhca_train.report.plots.curves import curves_picture
from mfhca_train.report.plots.rows import strip_picture
from mfhca_train.report.plots.svg import MOST_LINES, confusion_picture
from mfhca_train.report.sections import GROUPS, MODULES
from mfhca_train.results import layer_weights
from mfhca_train.results.ablation_record import AblationRecord
from mfhca_train.results.summary import DURATIONS


def speakers(record: AblationRecord) -> str:
    """Every fold of every row, the same fold joined from row to row; and every seed."""
    by_fold = {name: _means(row, "id") for name, row in record.rows.items()}
    pictures = [
        (
            "Folds",
            strip_picture("strip-folds", "UA of every fold", _titled(record, by_fold), "fold", record.chance),
        )
    ]
    repeated = {name: row for name, row in record.networks.items() if len(row["seeds"]) > 1}
    by_seed = {name: _means(row, "seed") for name, row in repeated.items()}
    if repeated:
        drawn = strip_picture("strip-seeds", "UA of every seed", _titled(record, by_seed), "seed")
        pictures.append(("Seeds", drawn))
    everyone = list(dict.fromkeys(fold for found in by_fold.values() for fold in found))
    rows = [
        [label(record, name), *(per_cent(found.get(fold)) for fold in everyone)]
        for name, found in by_fold.items()
    ]
    spread = [
        [label(record, name), len(row["seeds"]), *(per_cent(row[s]["seed_std"]) for s in ("ua", "wa"))]
        for name, row in repeated.items()
    ]
    seeds = table(["Row", "Seeds", "UA: sd over seeds", "WA"], spread, (), (1, 2, 3), "spread over seeds")
    drawn = "".join(
        f"<figure><figcaption><b>{title}</b></figcaption>{picture}</figure>" for title, picture in pictures
    )
    also = " In the other picture a dot is a seed (folds averaged)." if repeated else ""
    return f"""<p>How much depends on who speaks, and on the random numbers: UA in per cent. A dot is a fold (seeds
averaged), the bar their mean; a grey line joins the same fold from row to row.{also}</p>
<div class="panels two">
{drawn}
</div>
{seeds if repeated else ""}
{_table_of_folds(everyone, rows)}"""


def _table_of_folds(everyone: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """What the picture shows, where it is not too wide to be read."""
    if len(everyone) > MOST_LINES:
        return ""
    shown = table(["Row", *everyone], rows, (), range(1, len(everyone) + 1), "UA of every fold")
    return f"<details><summary>UA of every fold as a table</summary>\n{shown}</details>"


def _means(row: Mapping[str, Any], key: str) -> dict[str, float]:
    """UA of each fold over the seeds, or of each seed over the folds."""
    found: dict[str, list[float]] = {}
    for unit in row["folds"]:
        found.setdefault(str(unit[key]), []).append(unit["ua"])
    return {name: fmean(values) for name, values in found.items()}


def _titled(
    record: AblationRecord, found: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, Mapping[str, float]]]:
    return [(plain_title(record, name), values) for name, values in found.items()]


def emotions(record: AblationRecord) -> str:
    """Recalls and confusion matrices of all rows."""
    classes = record.results["classes"]
    rows = [
        [label(record, name), *(per_cent(row["recalls"][one]) for one in classes)]
        for name, row in record.rows.items()
    ]
    pictures = "\n".join(
        f"<figure><figcaption>{label(record, name)}</figcaption>"
        f"{confusion_picture(row['confusion'], classes, row['oracle'], f'confusion-{k}')}</figure>"
        for k, (name, row) in enumerate(record.rows.items())
    )
    return f"""<p>Recall is the share of an emotion's utterances that were recognised, all folds and seeds together.</p>
{table(["Row", *classes], rows, (), range(1, len(classes) + 1), "recall of each emotion", marked=marked(record))}
<p>Confusion matrices: a row of one holds the utterances labelled with an emotion and sums to 100 %; the column
says as what they were recognised. The diagonal is right. Small numbers count utterances, once for each seed.</p>
<div class="panels">
{pictures}
</div>"""


def groups(record: AblationRecord) -> str:
    """WA and UA of all rows by duration, session and style, as far as they are known."""
    order = [name for name, _, _ in DURATIONS]
    parts = []
    for kind, (title, meaning) in GROUPS.items():
        known = {name: row["breakdown"].get(kind) or {} for name, row in record.rows.items()}
        found = {group for of in known.values() for group in of}
        at = sorted(found, key=lambda name: (order.index(name) if name in order else 0, name))
        if not at:
            continue
        first = next(name for name in [record.reference, *record.rows] if name)
        sizes = {g: known[first].get(g, {}).get("n", 0) // len(record.rows[first]["seeds"]) for g in at}
        head = ["Row", *(Markup(f"{escaped(g)}<br><small>n = {sizes[g]:,}</small>") for g in at)]
        for score in ("ua", "wa"):
            rows = [
                [label(record, name), *(per_cent(of.get(group, {}).get(score)) for group in at)]
                for name, of in known.items()
            ]
            caption = f"{score.upper()} {title.lower()}"
            shown = table(head, rows, (), range(1, len(head)), caption, marked=marked(record))
            parts.append(f"<section><h3>{caption}</h3>\n{shown}</section>")
        parts.append(f'<p class="small wide">{meaning}</p>')
    if not parts:
        return ""
    return f"""<p>All folds together, in per cent. UA is the mean over the emotions that occur in the group, so compare
down a column, not along a row.</p>
<div class="panels two">
{"".join(parts)}
</div>"""


def training(record: AblationRecord) -> str:
    """Learning curves of every network."""
    if not record.networks:
        return ""
    losses = [
        value
        for of in record.histories.values()
        for history in of
        for value in (*history["train_loss"], *history["validation_loss"])
        if isfinite(value)
    ]
    scores = [100 * v for of in record.histories.values() for history in of for v in history["validation_ua"]]
    # One cut for all rows; a few networks that have diverged must not flatten the others.
    most = max(1.05 * quantiles(losses, n=50)[-1], 0.1) if len(losses) > 1 else 2.0
    limits = ((0.0, most), (max(0.0, min(scores, default=0.0) - 4), 102.0))
    pictures = []
    for k, (name, row) in enumerate(record.networks.items()):
        of = record.histories[name]
        where = "test speaker" if row["oracle"] else "validation"
        drawn = curves_picture(
            f"curves-{k}",
            plain_title(record, name),
            {"training": [h["train_loss"] for h in of], where: [h["validation_loss"] for h in of]},
            {where: [[100 * value for value in history["validation_ua"]] for history in of]},
            [unit["best_epoch"] for unit in row["folds"]],
            row["oracle"],
            limits,
        )
        pictures.append(f"<figure><figcaption>{label(record, name)}</figcaption>{drawn}</figure>")
    thin = "a thin line is one fold with one seed"
    if any(len(row["folds"]) > MOST_LINES for row in record.networks.values()):
        thin += " (a shade, where they are too many: where eight in ten of them lie)"
    shown = "\n".join(pictures)
    return f"""<p class="key"><i class="first"></i> Training, <i class="second"></i> validation (UA: validation only),
a dot is the selected epoch; {thin}, the thick one their median. All rows have the same scales. Loss is taken over
segments in training and over whole utterances in validation.</p>
<div class="panels">
{shown}
</div>"""


def sizes(record: AblationRecord, baseline: Baseline | None) -> str:
    """Parameters of every row, and what it saves against the baseline."""
    modules = [
        name for name in MODULES if any(name in row["parameters_by_module"] for row in record.rows.values())
    ]
    head = ["Row", "Parameters", *(["Against [13]"] if baseline else []), *modules]
    rows = [
        [
            label(record, name),
            f"{row['parameters']:,}",
            *([_saved(baseline, row["parameters"])] if baseline else []),
            *(_count(row["parameters_by_module"].get(module)) for module in modules),
        ]
        for name, row in record.rows.items()
    ]
    meanings = "; ".join(f"<b>{name}</b>: {MODULES[name]}" for name in modules)
    return f"""<p>Parameters are the numbers that training can change. The speech encoder is frozen, no part of any row,
and not counted. {_about(record, baseline)}</p>
{table(head, rows, (), range(1, len(head)), "parameters of every row", marked=marked(record))}
<p class="small">{meanings}.</p>"""


def layers(record: AblationRecord) -> str:
    """The weight of each layer of the speech encoder, of the rows that learned their sum."""
    summed = {name: row for name, row in record.rows.items() if row.get(layer_weights.KEY)}
    if not summed:
        return ""
    rows = [
        [layer, *(_share(row[layer_weights.KEY].get(layer)) for row in summed.values())]
        for layer in layer_weights.layers_of(summed)
    ]
    head = ["Layer", *(label(record, name) for name in summed)]
    return f"""<p>{plural(len(summed), "row")} read{"s" * (len(summed) == 1)} a weighted sum of all layers.
{layer_weights.MEANING}</p>
{table(head, rows, (), range(len(head)), "weights of the layers")}"""


def _share(weight: Mapping[str, Any] | None) -> str:
    if weight is None:
        return "–"
    return per_cent(weight["mean"]) + ("" if weight["std"] is None else f" ± {per_cent(weight['std'])}")


def _saved(baseline: Baseline, parameters: int) -> str:
    share = 100 * baseline.saved(parameters)
    return "the same" if share == 0 else f"{'−' if share > 0 else '+'}{abs(share):.2f} %"


def _about(record: AblationRecord, baseline: Baseline | None) -> str:
    if baseline is None:
        return ""
    if baseline.row:
        text = f"The baseline [13] is the row {quoted(record, baseline.row)}"
    else:
        text = (
            f"The baseline [13] is no row here; its network, built for hidden states of width {baseline.ssl_width:,} "
            f"only to be counted, has {baseline.parameters:,}"
        )
    claims = [
        f" The paper's figure, {escaped(claim['what'])}: {claim['value']:g} % ({escaped(claim['source'])})."
        for claim in record.results.get("claims") or []
    ]
    return f"{text}.{''.join(claims)}"


def _count(parameters: int | None) -> str:
    return "–" if parameters is None else f"{parameters:,}"
