"""An ablation: the rows of a grid, trained together and compared with their reference row.

Training and writing are shared with cross-validations, see `execute`. Units that another row or run has
finished are linked, see `reuse`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.progress import phase
from mfhca_cache.common.text import plural
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.runs.ablation_results import aggregate
from mfhca_train.runs.execute import execute, plan_with_features
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.folder import finished_seeds
from mfhca_train.runs.grid import Grid
from mfhca_train.runs.grid_rows import MissingRow, list_missing, resolve, select
from mfhca_train.runs.plan import Plan, Request, Row, check, read_labels, with_precision


def ablate(
    request: Request, grid: Grid, names: Sequence[str] = (), skip_missing: bool = False
) -> dict[str, Any]:
    """Trains what is unfinished of an ablation; writes results.json, report.html and report.md.

    Args:
        request: what all rows start from; a row's own settings replace these.
        grid: the rows.
        names: of the rows to train; empty for all.
        skip_missing: leave out rows whose features the cache lacks, instead of refusing.

    Returns:
        The content of results.json, with rows that an earlier call has finished.

    Raises:
        MfhcaError: a row cannot be trained, the run folder holds other rows of these names, or a unit failed.
    """
    request = replace(request, config=with_precision(request, request.config))
    labelled, rows, missing = plan_rows(request, grid, names, skip_missing)

    def results(plans: Mapping[str, Plan]) -> dict[str, Any]:
        content = aggregate(request, grid, labelled, plans)
        if missing:
            content["left_out"] = {
                row.name: _without_paths(request, content["corpus"], row.reason) for row in missing
            }
        return content

    def earlier(
        features: OpenFeatures, plans: Mapping[str, Plan], recorded: Mapping[str, Any]
    ) -> dict[str, Plan]:
        names = [row.name for row in grid.trained if row.name not in plans and row.name in recorded]
        finished = {}
        for row in resolve(request, grid, labelled, names)[0] if names else []:
            seeds = finished_seeds(request.out, row)  # for which all these folds are finished
            found = plan_with_features(request, labelled, replace(row, seeds=seeds), features, grid)
            if found.identity == recorded[row.name] and seeds:
                finished[row.name] = found
        return finished

    return execute(request, labelled, rows, results, grid, earlier)


def plan_rows(
    request: Request, grid: Grid, names: Sequence[str], skip_missing: bool
) -> tuple[LabelledCorpus, list[Row], list[MissingRow]]:
    """The labelled corpus, the rows to train, and those that are left out; for the arguments see `ablate`.

    Raises:
        MfhcaError: a row cannot be trained, or the request does not fit the corpus.
    """
    with phase(f"reading {' and '.join(str(s.manifest) for s in request.sources)}"):
        labelled = read_labels(request)
    wanted = select(grid, names)
    protocols = sorted({row.protocol or request.protocol for row in grid.trained})
    check(request, labelled, protocols)
    rows, missing = resolve(request, grid, labelled, wanted)
    if missing and not skip_missing:
        raise MfhcaError(
            f"{len(missing)} of {plural(len(wanted), 'row')} cannot be trained; choose others with --row, "
            f"or leave these out with --skip-missing:\n{list_missing(missing)}"
        )
    if missing:
        log.LOG.info("%s", f"left out:\n{list_missing(missing)}")
    if not rows:
        raise MfhcaError(f"no row of {grid.name} is left to train")
    return labelled, rows, missing


def _without_paths(request: Request, corpus: str, reason: str) -> str:
    """Why a row is left out, with the repository's usual paths instead of this machine's."""
    corpus = request.manifest.stem if request.others else corpus
    return reason.replace(f" {request.manifest} ", f" manifests/{corpus}.csv ").replace(
        f" {request.cache} ", " cache "
    )
