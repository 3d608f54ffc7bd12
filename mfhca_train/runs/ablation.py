"""An ablation: the rows of a grid, trained through one queue and compared with their reference row.

runs/<name>/run.json                    rows: what decides the results of each
runs/<name>/<row>/seed-<n>/fold-<id>/   units as in a `cv` run, linked where another row or run has the same
runs/<name>/results.json                rows: for each what `cv` writes, and its comparison (ablation_results.py)
runs/<name>/report.html, report.md      all of it in words, tables and pictures
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_train.results.checksums import write_sealed
from mfhca_train.results.schema import NETWORK, RUN_FILE
from mfhca_train.runs import analysis, chosen, data_csv, folder, reuse
from mfhca_train.runs.ablation_results import aggregate
from mfhca_train.runs.grid import Grid
from mfhca_train.runs.grid_rows import complain, resolve, select
from mfhca_train.runs.plan import (
    RUN_FORMAT,
    Corpora,
    Ground,
    Plan,
    Request,
    Row,
    check,
    finished_seeds,
    plan,
    read_ground,
    recipe_names,
)
from mfhca_train.training import classical, queue


def ablate(
    request: Request, grid: Grid, names: Sequence[str] = (), skip_missing: bool = False
) -> dict[str, Any]:
    """Runs what is left of an ablation, and writes results.json, report.html and report.md.

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
    with log.phase(f"reading {request.manifest}"):
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
        folder.note(f"left out:\n{complain(lacking)}")
    if not rows:
        raise MfhcaError(f"no row of {grid.name} is left to train")
    with lock(request.out / ".lock", f"{request.out}: this run"), log.to(request.out / log.FILE):
        with Corpora(ground) as corpora:
            with log.phase("opening the features"):
                plans = {row.name: _plan(request, ground, row, corpora) for row in rows}
            known = _known(request, plans, corpora)
            unfinished = [unit for entry in plans.values() for unit in entry.unfinished]
            data = data_csv.write(request.out, corpora.of(rows[0].recipes))
            here = _claim(request, grid, plans, known, data, bool(unfinished))
            if unfinished:
                _train(request, plans, corpora, here)
            plans |= _finished_before(request, grid, ground, corpora, plans)
        pool_units = [unit for name in plans for unit in plans[name].unfinished if _is_trained(plans[name])]
        first, copies = reuse.distinct(pool_units)
        with log.phase("training"):
            queue.train(first, request.jobs, request.cluster, here)
        for unit, trained in copies:
            reuse.take_over(trained.folder, unit, ground.label_set.classes)
        for entry in plans.values():
            chosen.choose(entry, plans, ground.label_set.classes)
        with log.phase("results.json"):
            results = aggregate(request, grid, ground, plans)
            if lacking:
                results["left_out"] = {row.name: _anywhere(request, results, row.reason) for row in lacking}
            write_sealed(request.out / "results.json", results)
        if request.analysis:
            with log.phase("analysis"):
                analysis.analyse(request, list(plans.values()), ground, grid.reference)
        with log.phase("report.html"):
            from mfhca_train.report.page import write_report

            write_report(request.out)
    return results


def _anywhere(request: Request, results: Mapping[str, Any], reason: str) -> str:
    """Why a row is left out, without the names of this machine's folders."""
    for here, anywhere in (
        (request.manifest, f"manifests/{results['corpus']}.csv"),
        (request.cache, "cache"),
    ):
        reason = reason.replace(f" {here} ", f" {anywhere} ")
    return reason


def _plan(request: Request, ground: Ground, row: Row, corpora: Corpora) -> Plan:
    try:
        return plan(request, ground, row, corpora.of(row.recipes))
    except MfhcaError as error:  # features that are there, but not whole, are never skipped
        raise MfhcaError(f"row {row.name}: {error}") from error


def _is_network(entry: Plan) -> bool:
    return entry.row.kind == NETWORK


def _is_trained(entry: Plan) -> bool:
    return _is_network(entry) and not entry.row.origins


def _known(request: Request, plans: Mapping[str, Plan], corpora: Corpora) -> dict[str, Any]:
    """The rows that run.json lists, but for those that may be replaced."""
    there = folder.read_about(request.out)
    if there and "rows" not in there:
        raise MfhcaError(f"{request.out} holds a run of cv; choose another --out (or RUN=)")
    rows: dict[str, Any] = there.get("rows", {})
    for name, entry in plans.items():
        if name not in rows:
            continue
        corpus = corpora.of(entry.row.recipes)
        if not folder.refuse_another(request.out, name, rows[name], entry.identity, corpus):
            del rows[name]
    return rows


def _claim(
    request: Request,
    grid: Grid,
    plans: Mapping[str, Plan],
    known: Mapping[str, Any],
    data: str,
    to_train: bool,
) -> dict[str, Any]:
    """run.json with the rows of this call; where it would go on is returned."""
    rows = {**known, **{name: entry.identity for name, entry in plans.items()}}
    names = recipe_names([entry.row for entry in plans.values()])
    deciding = {"format": RUN_FORMAT, "grid": grid.name, "title": grid.title, "rows": rows}
    about = {**deciding, "recipe_names": names, data_csv.DATA_DIGEST: data}
    here = folder.claim(request.out, about, request.device, request.cluster, to_train)
    there = folder.read_about(request.out)
    if there["rows"] != rows:
        names = {**there.get("recipe_names", {}), **names}
        write_sealed(request.out / RUN_FILE, there | {"rows": rows, "recipe_names": names})
    return here


def _train(request: Request, plans: Mapping[str, Plan], corpora: Corpora, here: Mapping[str, Any]) -> None:
    """All that needs the open features: looking for finished units, checking bytes, and rows without a network."""
    classes = next(iter(plans.values())).identity["classes"]
    unfinished = [unit for entry in plans.values() for unit in entry.unfinished]
    taken = reuse.adopt(request.out, unfinished, here, classes)
    for run, count in taken.items():
        folder.note(f"{count} of {len(unfinished)} units are there already, from {run}")
    left = [entry for entry in plans.values() if entry.unfinished]
    with log.phase("verifying the shards"):
        corpora.verify([entry.row for entry in left])
    for entry in left:
        if not _is_network(entry):
            with log.phase(f"training {entry.row.name}"):
                classical.train(entry, corpora.of(entry.row.recipes))


def _finished_before(
    request: Request, grid: Grid, ground: Ground, corpora: Corpora, plans: Mapping[str, Plan]
) -> dict[str, Plan]:
    """Rows that were not asked for now, with the seeds of which an earlier call has finished all these folds."""
    listed = folder.read_about(request.out)["rows"]
    others = [row.name for row in grid.trained if row.name not in plans and row.name in listed]
    found = {}
    for row in resolve(request, grid, ground, others)[0] if others else []:
        seeds = finished_seeds(request.out, row)
        entry = _plan(request, ground, replace(row, seeds=seeds), corpora)
        if entry.identity == listed[row.name] and seeds:
            found[row.name] = entry
    return found
