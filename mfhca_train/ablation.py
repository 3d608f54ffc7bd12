"""An ablation: the rows of a grid, trained through one queue and compared with their reference row.

runs/<name>/run.json                    rows: what decides the results of each
runs/<name>/<row>/seed-<n>/fold-<id>/   units as in a `cv` run, linked where another row or run has the same
runs/<name>/results.json                rows: for each what `cv` writes, and its comparison
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mfhca_cache.errors import MfhcaError
from mfhca_cache.files import lock, write_json
from mfhca_train import classic, pool, runfolder, share
from mfhca_train.comparison import EXPLAINED, against, optimism, outcome
from mfhca_train.folds import ORACLES
from mfhca_train.grid import CITED, Grid
from mfhca_train.gridrows import complain, resolve, select
from mfhca_train.plan import (
    NETWORK,
    RUN_FORMAT,
    Corpora,
    Ground,
    Plan,
    Request,
    Row,
    check,
    finished_folders,
    plan,
    read_ground,
    recipe_names,
)
from mfhca_train.results import head, read_units, summarise

SHARED = ("corpus", "label_set", "threads")  # of every row's results


def ablate(
    request: Request, grid: Grid, names: Sequence[str] = (), skip_missing: bool = False
) -> dict[str, Any]:
    """Runs what is left of an ablation, and writes results.json.

    Args:
        request: what all rows begin with; its settings come before those of a row.
        grid: the rows.
        names: of the rows to train; empty for all.
        skip_missing: leave rows out whose features the cache lacks, instead of refusing.

    Returns:
        The content of results.json: also rows that an earlier call has finished.

    Raises:
        MfhcaError: a row cannot be trained here, the run folder holds other rows of these names, a unit failed.
    """
    ground = read_ground(request)
    wanted = select(grid, names)
    protocols = sorted({row.protocol or request.protocol for row in grid.trained})
    check(request, ground, protocols)
    rows, lacking = resolve(request, grid, ground, wanted)
    if lacking and not skip_missing:
        raise MfhcaError(
            f"{len(lacking)} of {len(wanted)} rows cannot be trained here; choose others with --row, "
            f"or leave these out with --skip-missing:\n{complain(lacking)}"
        )
    if lacking:
        runfolder.note(f"left out:\n{complain(lacking)}")
    if not rows:
        raise MfhcaError(f"no row of {grid.name} is left to train")
    with lock(request.out / ".lock", f"{request.out}: this run"):
        with Corpora(ground) as corpora:
            plans = {row.name: _plan(request, ground, row, corpora) for row in rows}
            known = _known(request, plans)
            unfinished = [unit for entry in plans.values() for unit in entry.unfinished]
            here = _claim(request, grid, plans, known, bool(unfinished))
            if unfinished:
                _train(request, plans, corpora, here)
            plans |= _finished_before(request, grid, ground, corpora, plans)
        pool_units = [unit for name in plans for unit in plans[name].unfinished if _is_network(plans[name])]
        first, copies = share.distinct(pool_units)
        pool.train(first, request.jobs, request.cluster, here)
        for unit, trained in copies:
            share.take_over(trained.folder, unit, ground.label_set.classes)
        results = _results(request, grid, ground, plans)
        if lacking:
            results["left_out"] = {row.name: row.reason for row in lacking}
        write_json(request.out / "results.json", results)
    return results


def _plan(request: Request, ground: Ground, row: Row, corpora: Corpora) -> Plan:
    try:
        return plan(request, ground, row, corpora.of(row.recipes))
    except MfhcaError as error:  # features that are there, but not whole, are never skipped
        raise MfhcaError(f"row {row.name}: {error}") from error


def _is_network(entry: Plan) -> bool:
    return entry.row.kind == NETWORK


def _known(request: Request, plans: Mapping[str, Plan]) -> dict[str, Any]:
    """The rows that run.json lists, but for those that may be replaced."""
    there = runfolder.read_about(request.out)
    if there and "rows" not in there:
        raise MfhcaError(f"{request.out} holds a run of cv; choose another --out (or RUN=)")
    rows: dict[str, Any] = there.get("rows", {})
    for name, entry in plans.items():
        if name in rows and not runfolder.refuse_another(request.out, name, rows[name], entry.identity):
            del rows[name]
    return rows


def _claim(
    request: Request, grid: Grid, plans: Mapping[str, Plan], known: Mapping[str, Any], to_train: bool
) -> dict[str, Any]:
    """run.json with the rows of this call; where it would go on is returned."""
    rows = {**known, **{name: entry.identity for name, entry in plans.items()}}
    names = recipe_names([entry.row for entry in plans.values()])
    deciding = {"format": RUN_FORMAT, "grid": grid.name, "title": grid.title, "rows": rows}
    about = {**deciding, "recipe_names": names}
    here = runfolder.claim(request.out, about, request.device, request.cluster, to_train)
    there = runfolder.read_about(request.out)
    if there["rows"] != rows:
        names = {**there.get("recipe_names", {}), **names}
        write_json(request.out / runfolder.ABOUT, there | {"rows": rows, "recipe_names": names})
    return here


def _train(request: Request, plans: Mapping[str, Plan], corpora: Corpora, here: Mapping[str, Any]) -> None:
    """All that needs the open features: looking for finished units, checking bytes, and rows without a network."""
    classes = next(iter(plans.values())).identity["classes"]
    unfinished = [unit for entry in plans.values() for unit in entry.unfinished]
    taken = share.adopt(request.out, unfinished, here, classes)
    for run, count in taken.items():
        runfolder.note(f"{count} of {len(unfinished)} units are there already, from {run}")
    left = [entry for entry in plans.values() if entry.unfinished]
    corpora.verify([entry.row for entry in left])
    for entry in left:
        if not _is_network(entry):
            classic.train(entry, corpora.of(entry.row.recipes))


def _finished_before(
    request: Request, grid: Grid, ground: Ground, corpora: Corpora, plans: Mapping[str, Plan]
) -> dict[str, Plan]:
    """Rows that were not asked for now, but that an earlier call has finished with the same seeds and folds."""
    listed = runfolder.read_about(request.out)["rows"]
    others = [row.name for row in grid.trained if row.name not in plans and row.name in listed]
    found = {}
    for row in resolve(request, grid, ground, others)[0] if others else []:
        entry = _plan(request, ground, row, corpora)
        if entry.identity == listed[row.name] and not entry.unfinished:
            found[row.name] = entry
    return found


def _results(request: Request, grid: Grid, ground: Ground, plans: Mapping[str, Plan]) -> dict[str, Any]:
    """results.json from the finished units."""
    classes = ground.label_set.classes
    rows: dict[str, dict[str, Any]] = {}
    outcomes = {}
    for row in grid.trained:
        if row.name not in plans:
            continue
        entry = plans[row.name]
        files = read_units(finished_folders(request.out, entry.row), entry.digest, classes)
        summary = summarise(files, ground.utterances, classes, entry.row.protocol, len(entry.row.folds))
        rows[row.name] = {
            "title": row.title,
            "kind": row.kind,
            "published": [dict(grid.figures[key]) for key in row.published],
            **head(entry.identity),
            **summary,
        }
        outcomes[row.name] = outcome(files, classes)
    compared = against(outcomes, grid.reference)
    for name, summary in rows.items():
        summary["comparison"] = compared.get(name)
    first = next(iter(rows.values()))
    return {
        "grid": grid.name,
        "title": grid.title,
        "note": grid.note,
        **{key: first[key] for key in SHARED},
        "classes": list(classes),
        "protocol": request.protocol,
        "oracle": any(row["protocol"] in ORACLES for row in rows.values()),
        "reference": grid.reference,
        "seeds": list(request.seeds),
        "complete": all(row["complete"] for row in rows.values()) and len(rows) == len(grid.trained),
        "tests": EXPLAINED,
        "rows": rows,
        "optimism": optimism(outcomes, rows),
        "cited": [
            {
                "name": row.name,
                "title": row.title,
                "published": [dict(grid.figures[k]) for k in row.published],
            }
            for row in grid.rows
            if row.kind == CITED
        ],
    }
