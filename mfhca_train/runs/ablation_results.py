"""results.json of an ablation, from the finished units of its rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mfhca_cache.common.typed import plain
from mfhca_train.data.folds import ORACLES
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.results.comparison import EXPLAINED, against, optimism, outcome
from mfhca_train.results.published import comparable, encoders_of, of_same_encoder
from mfhca_train.results.schema import CHOSEN, CITED, LOGISTIC, NETWORK
from mfhca_train.results.summary import head, read_units, summarise
from mfhca_train.runs.folder import finished_folders
from mfhca_train.runs.grid import Grid, GridRow
from mfhca_train.runs.plan import Plan, Request

PROBABILISTIC = (NETWORK, LOGISTIC, CHOSEN)  # kinds of rows; the margins of an svm are no probabilities
SHARED = ("corpus", "label_set", "threads")  # of every row's results


def aggregate(
    request: Request, grid: Grid, labelled: LabelledCorpus, plans: Mapping[str, Plan]
) -> dict[str, Any]:
    """results.json from the finished units.

    Args:
        request: what all rows begin with.
        grid: the rows, and the published figures that they name.
        labelled: the corpus.
        plans: of the rows that are finished, by name.

    Raises:
        MfhcaError: a unit is missing or damaged.
    """
    classes = labelled.label_set.classes
    rows: dict[str, dict[str, Any]] = {}
    outcomes = {}
    for row in grid.trained:
        if row.name not in plans:
            continue
        entry = plans[row.name]
        files = read_units(finished_folders(request.out, entry.row), entry.digest, classes)
        summary = summarise(files, labelled.utterances, classes, entry.row.protocol, len(entry.row.folds))
        if row.kind not in PROBABILISTIC:
            del summary["calibration"]
        rows[row.name] = {
            # In the title, because every table, figure and sentence shows it.
            "title": f"{row.title} (transductive)"
            if entry.row.config.is_transductive(entry.row.protocol)
            else row.title,
            "kind": entry.row.kind,
            "published": _published(grid, row, encoders_of([entry.row.recipes])),
            **head(entry.identity),
            **summary,
            **({"chosen_from": list(row.candidates)} if row.candidates else {}),
        }
        outcomes[row.name] = outcome(files, classes, row.kind == NETWORK)
    oracles = [name for name, summary in rows.items() if summary["oracle"]]
    compared = against(outcomes, grid.reference, oracles)
    for name, summary in rows.items():
        summary["comparison"] = compared.get(name)
    first = next(iter(rows.values()))
    shared = {key: first[key] for key in SHARED}
    encoders = encoders_of(entry.row.recipes for entry in plans.values())
    named = {key for row in grid.rows for key in row.published_keys}
    return {
        "grid": grid.name,
        "title": grid.title,
        "note": grid.note,
        **shared,
        "classes": list(classes),
        "protocol": request.protocol,
        "oracle": any(row["protocol"] in ORACLES for row in rows.values()),
        "reference": grid.reference,
        "seeds": sorted({seed for row in rows.values() for seed in row["seeds"]}),
        "config": request.config.to_dict(),
        "complete": all(row["complete"] for row in rows.values()) and len(rows) == len(grid.trained),
        "tests": EXPLAINED,
        "rows": rows,
        "optimism": optimism(outcomes, rows),
        "cited": [
            {
                "name": row.name,
                "title": row.title,
                "published": _published(grid, row, encoders),
            }
            for row in grid.rows
            if row.kind == CITED
        ],
        **({"default_preset": request.default_preset} if request.default_preset else {}),
        "yardsticks": plain(
            comparable(grid.published.values(), shared["corpus"], shared["label_set"], encoders, named)
        ),
        "claims": plain(grid.claims),
    }


def _published(grid: Grid, row: GridRow, encoders: Collection[str]) -> Any:
    """The published scores that a row names, without those of other encoders."""
    return plain(of_same_encoder((grid.published[key] for key in row.published_keys), encoders))
