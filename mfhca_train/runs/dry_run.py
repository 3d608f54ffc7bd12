"""What a run would train and about how long it would take; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mfhca_cache.common.hardware import resolve_device
from mfhca_cache.common.progress import phase
from mfhca_cache.common.text import duration_text, plural
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.report.text import count_range
from mfhca_train.results.checksums import read_about
from mfhca_train.results.schema import NETWORK
from mfhca_train.runs import folder, reuse
from mfhca_train.runs.ablation import plan_rows
from mfhca_train.runs.crossval import plan_row
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.grid import Grid
from mfhca_train.runs.plan import Plan, Request, Row, make_plan
from mfhca_train.training import process
from mfhca_train.training.progress import makespan
from mfhca_train.training.trial import seconds_per_epoch
from mfhca_train.training.unit import Unit


def describe(request: Request) -> Iterator[str]:
    """Units, segments, what is finished, and the estimated time from a few timed steps.

    Yields:
        Lines for the terminal.

    Raises:
        MfhcaError: as `cross_validate` before it trains.
    """
    labelled, row = plan_row(request)
    with OpenFeatures(labelled) as features:
        plan = _plan(request, labelled, row, features)
        segments = _segments(features, [row])
    units = plan.unfinished
    yield (
        f"units: {len(plan.units)} ({plural(len(row.selected_folds), 'fold')}, {plural(len(row.seeds), 'seed')}, "
        f"protocol {row.protocol}), {len(plan.units) - len(units)} finished, {len(units)} to train"
    )
    yield segments
    yield from _estimate(request, [(row, units)])


def describe_ablation(
    request: Request, grid: Grid, names: Sequence[str], skip_missing: bool
) -> Iterator[str]:
    """The same of an ablation, whose rows differ in time; for the arguments see `ablate`.

    Yields:
        Lines for the terminal.

    Raises:
        MfhcaError: as `ablate` before it trains.
    """
    labelled, rows, missing = plan_rows(request, grid, names, skip_missing)
    with OpenFeatures(labelled) as features:
        plans = [_plan(request, labelled, row, features) for row in rows]
        segments = _segments(features, rows)
    unfinished = [unit for plan in plans if not plan.row.candidates for unit in plan.unfinished]
    units, copies = reuse.distinct(unfinished)
    elsewhere = {unit.folder for unit, _, _ in reuse.adoptable(request.out, units)}
    units = [unit for unit in units if unit.folder not in elsewhere]
    total = sum(len(plan.units) for plan in plans)
    finished = total - sum(len(plan.unfinished) for plan in plans)
    counts = {
        "equal to another": len(copies),
        "finished by another run": len(elsewhere),
        "selected from other rows": sum(len(plan.unfinished) for plan in plans if plan.row.candidates),
    }
    yield (
        f"units: {total} of {plural(len(plans), 'row')}, {finished} finished, "
        f"{''.join(f'{count} {what}, ' for what, count in counts.items() if count)}{len(units)} to train"
    )
    if missing:
        yield f"left out: {', '.join(row.name for row in missing)}"
    yield segments
    yield from _estimate(request, [(row, [unit for unit in units if unit.row == row.name]) for row in rows])


def _plan(request: Request, labelled: LabelledCorpus, row: Row, features: OpenFeatures) -> Plan:
    """A row's units; a run folder with another row of this name is refused."""
    corpus = features.of(row.recipes)
    plan = make_plan(request, labelled, row, corpus)
    recorded = folder.recorded_rows(read_about(request.out))
    if row.name in recorded:
        folder.is_same_row(request.out, row.name, recorded[row.name], plan.identity, corpus)
    return plan


def _segments(features: OpenFeatures, rows: Sequence[Row]) -> str:
    """How many segments the folds train on."""
    counts, totals = set(), set()
    for row in rows:
        corpus = features.of(row.recipes)
        counts |= {len(corpus.segments(corpus.of_fold(fold, "train"))) for fold in row.selected_folds}
        totals.add(len(corpus.segments(corpus.of_fold(row.folds[0], "train", "validation", "test"))))
    return f"segments: {count_range(totals)}, of which {count_range(counts)} train a fold"


def _estimate(request: Request, work: Sequence[tuple[Row, Sequence[Unit]]]) -> Iterator[str]:
    """What an epoch of each row takes, and how long all units take at most."""
    lengths: list[float] = []
    rows = [(row, units) for row, units in work if units]
    if not rows:
        yield "nothing to train"
        return
    networks = [(row, units) for row, units in rows if row.kind == NETWORK]
    for row, units in networks:
        name = f" of {row.name}" if len(work) > 1 else ""
        with phase(f"timing a few steps{name}"):
            seconds = seconds_per_epoch(units[0])
        train = row.config.train
        lengths += [train.epochs * (seconds.epoch + seconds.refit)] * len(units)
        refit = f", then as many of about {duration_text(seconds.refit)} for the refit" if train.refit else ""
        yield f"epochs{name}: at most {train.epochs} per unit, about {duration_text(seconds.epoch)} each{refit}"
    if others := sum(len(units) for row, units in rows if row.kind != NETWORK):
        yield f"not in the time: {plural(others, 'unit')} without a network, of a few seconds each"
    if not lengths:
        return
    if request.cluster is not None:
        yield f"time: at most about {duration_text(sum(lengths))} divided by the number of workers"
        return
    jobs = request.jobs or process.default_jobs(resolve_device(request.device), request.threads)
    jobs = min(jobs, len(lengths))
    patience = count_range(
        [row.config.train.patience for row, _ in networks if row.config.train.select != "last"]
    )
    early = f"; patience ({patience}) may end a unit earlier" if patience else ""
    yield f"time: at most about {duration_text(makespan(lengths, jobs))} with {plural(jobs, 'unit')} at a time{early}"
