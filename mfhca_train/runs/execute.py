"""The path that `cv` and `ablate` share: plan, reuse, train, results.json, analysis, report.

    runs/<name>/run.json                              what decides the results
    runs/<name>/<row>/seed-<n>/fold-<id>/             one finished unit
    runs/<name>/<row>/analysis.safetensors            analysis of the row's networks
    runs/<name>/results.json, report.html, report.md
    runs/<name>/data.csv                              audio, speaker and class of each utterance
    runs/<name>/log.txt                               times and progress; no result depends on it

Every unit is trained at most once, and a stopped run resumes where it was.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import lock
from mfhca_cache.common.progress import phase
from mfhca_cache.common.text import plural
from mfhca_train.data.coverage import check_classes
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.results.checksums import DATA_DIGEST, read_about, write_sealed
from mfhca_train.results.run_file import AUDIO_CHECKED
from mfhca_train.results.schema import DATA_FILE, NETWORK, RESULTS_FILE, RUN_FILE
from mfhca_train.runs import data_csv, folder, reuse
from mfhca_train.runs.analysis import analyse
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.grid import Grid
from mfhca_train.runs.plan import (
    RUN_FORMAT,
    Plan,
    Request,
    Row,
    make_plan,
)
from mfhca_train.tracking.tracker import tracking
from mfhca_train.training import classical, queue


def execute(
    request: Request,
    labelled: LabelledCorpus,
    rows: Sequence[Row],
    summarise: Callable[[Mapping[str, Plan]], dict[str, Any]],
    grid: Grid | None = None,
    earlier: Callable[[OpenFeatures, Mapping[str, Plan], Mapping[str, Any]], dict[str, Plan]] | None = None,
) -> dict[str, Any]:
    """Trains what is unfinished, and writes results.json, report.html and report.md.

    Args:
        request: the arguments of the command.
        labelled: manifest and label set.
        rows: those to train.
        summarise: makes the content of results.json from the finished rows, by name.
        grid: of an ablation; None for a cv run.
        earlier: finds rows of an ablation that an earlier call has finished, from the open features, the rows to
            train and the rows in run.json.

    Returns:
        The content of results.json.

    Raises:
        MfhcaError: the features do not fit the manifest, the run folder holds another run, or a unit failed.
    """
    folds = dict.fromkeys(fold for row in rows for fold in row.selected_folds)
    check_classes(labelled.utterances, labelled.label_set, folds, request.accept_untrained)
    with (
        _removed_if_nothing_began(request.out),
        lock(request.out / ".lock", f"{request.out}: this run"),
        log.to(request.out / log.FILE),
        tracking(request.track, request.out) as tracker,
    ):
        with OpenFeatures(labelled, with_audio=True) as features:
            with phase("opening the features"):
                plans = {row.name: plan_with_features(request, labelled, row, features, grid) for row in rows}
            unfinished = any(plan.unfinished for plan in plans.values())
            with phase("loading PyTorch, and writing run.json"):
                recorded, environment = _record(request, plans, features, grid, unfinished)
            for plan in plans.values():
                if plan.row.config.is_transductive(plan.row.protocol):
                    log.LOG.warning(
                        "row %s is transductive: unlabelled recordings of the test speakers normalise their "
                        "features; do not compare it with rows that never see them",
                        plan.row.name,
                    )
            if unfinished:
                if grid is not None:
                    _adopt(request, plans, environment)
                _verify_and_train_classical(plans, features)
            if earlier is not None:
                plans |= earlier(features, plans, recorded)
        classes = labelled.label_set.classes
        networks = [plan for plan in plans.values() if plan.row.kind == NETWORK and not plan.row.candidates]
        units, copies = reuse.distinct([unit for plan in networks for unit in plan.unfinished])
        with log.phase("training"):
            callbacks = (*request.on_epoch, tracker.on_epoch)
            queue.train(units, request.jobs, request.cluster, environment, callbacks)
        for copy, trained in copies:
            reuse.reuse(trained.folder, copy, classes)
        for plan in plans.values():
            reuse.select_units(plan, plans, classes)
        with phase("results.json"):
            results = summarise(plans) | ({"mixed_features": features.mixed} if features.mixed else {})
            write_sealed(request.out / RESULTS_FILE, results)
        tracker.finish(results)
        if request.analysis:
            with log.phase("analysis"):
                analyse(request, list(plans.values()), labelled, grid.reference if grid else None)
        with phase("report.html"):
            from mfhca_train.report.page import write_report  # imports matplotlib

            write_report(request.out)
    return results


@contextlib.contextmanager
def _removed_if_nothing_began(out: Path) -> Iterator[None]:
    """Removes a new run folder if an expected failure comes before its first unit."""
    existed = out.exists()
    try:
        yield
    except MfhcaError as error:
        held = isinstance(error.__cause__, BlockingIOError)  # a process that began it at the same moment
        if not existed and not held and not any(out.glob("*/seed-*/*")):
            shutil.rmtree(out, ignore_errors=True)
        raise


def plan_with_features(
    request: Request, labelled: LabelledCorpus, row: Row, features: OpenFeatures, grid: Grid | None
) -> Plan:
    """The plan of a row; errors name the row of a grid.

    Raises:
        MfhcaError: see `make_plan` and `OpenFeatures.of`.
    """
    try:
        return make_plan(request, labelled, row, features.of(row.recipes))
    except MfhcaError as error:  # even with --skip-missing: the features exist, but are incomplete
        if grid is None:
            raise
        raise MfhcaError(f"row {row.name}: {error}") from error


def _record(
    request: Request, plans: Mapping[str, Plan], features: OpenFeatures, grid: Grid | None, to_train: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes run.json, or checks that it is of the same run; returns the identity of its rows, and the environment."""
    out = request.out
    recorded = read_about(out)
    if recorded and ("rows" in recorded) != (grid is not None):
        kind = "an ablation" if grid is None else "a cv run"
        raise MfhcaError(f"{out} holds {kind}; choose another --out (or RUN=)")
    rows = folder.recorded_rows(recorded)
    for name, plan in plans.items():
        corpus = features.of(plan.row.recipes)
        if name in rows and not folder.is_same_row(out, name, rows[name], plan.identity, corpus):
            del rows[name]
    if recorded and not rows:  # nothing of the recorded run is trained: start as in an empty folder
        (out / RUN_FILE).unlink()
        (out / DATA_FILE).unlink(missing_ok=True)
        recorded = {}
    first = next(iter(plans.values()))
    others = [name for name in rows if name not in plans]
    differing = data_csv.differences(out, features.of(first.row.recipes)) if others else []
    labels = first.identity["label_digest"]
    differing += [f"label_digest of row {name}" for name in others if rows[name]["label_digest"] != labels]
    if differing:
        raise MfhcaError(
            f"{out}: its rows {', '.join(others)} have other labels, speakers, folds or audio than the manifest and "
            f"the features have now; choose another --out (or RUN=), or delete it. Differences:\n{listing(differing)}"
        )
    rows |= {name: plan.identity for name, plan in plans.items()}
    head = first.identity
    if grid is not None:
        head = {"format": RUN_FORMAT, "grid": grid.name, "title": grid.title, "rows": rows}
    about = {
        **head,
        AUDIO_CHECKED: features.compares_audio,
        # For people: a recipe may be renamed without changing a result.
        "recipe_names": {r.key: r.name for plan in plans.values() for r in plan.row.recipes.values()},
        DATA_DIGEST: data_csv.write(out, features.of(first.row.recipes), recorded.get(DATA_DIGEST)),
    }
    return rows, folder.record(out, recorded, about, request.device, request.cluster, to_train)


def _adopt(request: Request, plans: Mapping[str, Plan], environment: Mapping[str, Any]) -> None:
    """Links units that another run in the same parent folder, or another row, has finished."""
    unfinished = [unit for plan in plans.values() for unit in plan.unfinished]
    classes = next(iter(plans.values())).identity["classes"]
    for run, count in reuse.adopt(request.out, unfinished, environment, classes).items():
        log.LOG.info("%s", f"{count} of {plural(len(unfinished), 'unit')} reused from {run}")


def _verify_and_train_classical(plans: Mapping[str, Plan], features: OpenFeatures) -> None:
    """Checks the bytes of the features still needed, and trains rows without a network."""
    unfinished = [plan for plan in plans.values() if plan.unfinished]
    log.LOG.debug("unfinished: %d units", sum(len(plan.unfinished) for plan in unfinished))
    with log.phase("verifying the shards"):
        features.verify([plan.row for plan in unfinished])
    for plan in unfinished:
        if plan.row.kind != NETWORK:
            with log.phase(f"training {plan.row.name}"):
                classical.train(plan.row.kind, plan.unfinished, features.of(plan.row.recipes))
