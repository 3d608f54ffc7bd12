"""What a cross-validation would train and about how long it would take; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator

from mfhca_cache.common.hardware import resolve_device
from mfhca_cache.common.progress import phase
from mfhca_cache.common.text import duration_text
from mfhca_train.results.checksums import read_about
from mfhca_train.results.schema import CV_ROW
from mfhca_train.runs import folder
from mfhca_train.runs.crossval import plan_row
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.plan import Request, make_plan
from mfhca_train.training import process
from mfhca_train.training.progress import makespan
from mfhca_train.training.trial import seconds_per_epoch


def describe(request: Request) -> Iterator[str]:
    """Units, segments, what is finished, and the estimated time from a few timed steps.

    Yields:
        Lines for the terminal.

    Raises:
        MfhcaError: as `cross_validate` before it trains.
    """
    labelled, row = plan_row(request)
    with OpenFeatures(labelled) as features:
        corpus = features.of(row.recipes)
        plan = make_plan(request, labelled, row, corpus)
        recorded = folder.recorded_rows(read_about(request.out))
        if CV_ROW in recorded:
            folder.is_same_row(request.out, CV_ROW, recorded[CV_ROW], plan.identity, corpus)
        counts = [len(corpus.segments(corpus.of_fold(fold, "train"))) for fold in row.selected_folds]
        total = len(corpus.segments(corpus.of_fold(row.folds[0], "train", "validation", "test")))
    units = plan.unfinished
    yield (
        f"units: {len(plan.units)} ({len(row.selected_folds)} folds, {len(row.seeds)} seeds, protocol {row.protocol}), "
        f"{len(plan.units) - len(units)} finished, {len(units)} to train"
    )
    yield f"segments: {total}, of which {min(counts)} to {max(counts)} train a fold"
    if not units:
        yield "nothing to train"
        return
    with phase("timing a few steps"):
        seconds = seconds_per_epoch(units[0])
    train = request.config.train
    yield f"epochs: at most {train.epochs} per unit, about {duration_text(seconds)} each"
    if request.cluster is not None:
        total_seconds = seconds * train.epochs * len(units)
        yield f"time: at most about {duration_text(total_seconds)} divided by the number of workers"
        return
    jobs = request.jobs or process.default_jobs(resolve_device(request.device), request.threads)
    jobs = min(jobs, len(units))
    longest = seconds * makespan([float(train.epochs)] * len(units), jobs)
    early = "" if train.select == "last" else f"; patience ({train.patience}) may end a unit earlier"
    yield f"time: at most about {duration_text(longest)} with {jobs} units at a time{early}"
