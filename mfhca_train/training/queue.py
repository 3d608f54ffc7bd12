"""Training many units: one after the other, in parallel processes, or on the workers of a cluster.

All three give the same bits. A unit is trained at most once and resumes from its last checkpoint, so a worker
that dies costs one epoch of one unit.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from mfhca_cache.common import hardware, log
from mfhca_cache.common.cluster import Cluster, await_file, results, stop_if_cancelled
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.progress import phase
from mfhca_train.results.schema import RESULT_FILE
from mfhca_train.training import process
from mfhca_train.training.epochs import POLL_SECONDS, OnEpoch
from mfhca_train.training.progress import TrainingProgress
from mfhca_train.training.trial import compile_loops
from mfhca_train.training.unit import Unit, open_corpus

ATTEMPTS = 3  # of a unit whose worker process is killed
# Of libraries besides torch.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BUSY_SECONDS = 600.0  # a cluster's worker gives up a cancelled unit at the end of its epoch


def environment(device: str, cluster: Cluster | None = None) -> dict[str, Any]:
    """What units are trained on: package versions, instruction set, and device.

    Args:
        device: as asked for, "auto" included.
        cluster: where units are trained; one of its workers is asked.

    Raises:
        MfhcaError: the device or the cluster is not available.
    """
    if cluster is not None:
        ((_, answer),) = results(cluster, environment, [device], lambda _: "the first question")
        return answer
    return process.environment(hardware.resolve_device(device))


def fastest_precision(device: str, cluster: Cluster | None = None) -> str:
    """What `train.precision=auto` stands for where units are trained; arguments and errors as of `environment`."""
    if cluster is not None:
        ((_, answer),) = results(cluster, fastest_precision, [device], lambda _: "the first question")
        return str(answer)
    return hardware.fastest_precision(hardware.resolve_device(device))


def run_unit(unit: Unit, on_epoch: Callable[[dict[str, float]], Any] | None = None) -> None:
    """Trains one unit in this process; does nothing if it is finished.

    Args:
        unit: what to train; its device is not "auto".
        on_epoch: see `fit.fit`.

    Raises:
        MfhcaError: features or labels have changed since the unit was planned, or see `fit.fit`.
    """
    process.prepare_process(unit.threads)
    from mfhca_train.training.fit import fit  # imports torch, whose threads must be set first

    log.LOG.debug("%s: started", unit.name)
    start = time.monotonic()
    with open_corpus(unit) as corpus:
        fit(
            corpus,
            unit.fold,
            unit.seed,
            unit.config,
            unit.folder,
            unit.device,
            on_epoch,
            unit.identity,
            unit.concurrent,
        )
    log.LOG.debug("%s: done in %.1f s", unit.name, time.monotonic() - start)


def train(
    units: Sequence[Unit],
    jobs: int | None = None,
    cluster: Cluster | None = None,
    expected: Mapping[str, Any] | None = None,
    on_epoch: Sequence[OnEpoch] = (),
) -> None:
    """Trains units.

    Args:
        units: those to train.
        jobs: how many at the same time, each in its own process unless there is only one; None for as many
            as the cores allow. Ignored on a cluster, which trains one unit per worker.
        cluster: where to train; None for this machine.
        expected: on a cluster, the `environment` that every worker must have.
        on_epoch: functions called in this process with every epoch, see `EpochWatcher`; with parallel units about
            once a second.

    Raises:
        MfhcaError: a unit failed; finished units remain.
    """
    if not units:
        return
    if cluster is not None:
        units, jobs = [unit.absolute() for unit in units], None
        expected = expected or environment(units[0].device, cluster)
    else:
        device = hardware.resolve_device(units[0].device)
        jobs = jobs or process.default_jobs(device, units[0].threads)
        jobs = min(len(units), jobs)
        with phase("starting processes"):
            reason = process.why_no_workers(jobs) if jobs > 1 else None
        if reason is not None:
            log.LOG.warning(
                "folds are trained one after the other, because parallel processes cannot be started (%s); make "
                "/dev/shm writable and free space in it",
                reason,
            )
            jobs = 1
        log.LOG.debug(
            "to train: %d units, %d in parallel, %d threads each", len(units), jobs, units[0].threads
        )
        units = [replace(unit, device=device, concurrent=jobs) for unit in units]
        compile_loops(units)
    progress = TrainingProgress(units, jobs, on_epoch)
    with progress.shown():
        if cluster is not None and expected is not None:
            _train_on_cluster(units, cluster, expected, progress)
        elif jobs == 1:
            _train_in_turn(units, progress)
        else:
            _train_in_processes(units, jobs or 1, progress)


def _train_in_turn(units: Sequence[Unit], progress: TrainingProgress) -> None:
    for unit in units:
        run_unit(unit, lambda _, unit=unit: progress.watcher.report(unit))  # type: ignore[misc]
        progress.finish(unit)


def _train_in_processes(units: Sequence[Unit], jobs: int, progress: TrainingProgress) -> None:
    """Trains `jobs` units at a time, each in an executor of one process."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # A worker keeps freed memory (see process.prepare_process); loky takes that for a leak and renews the worker.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    settings = {name: str(units[0].threads) for name in THREAD_VARIABLES}

    # One executor per worker, not one for all: when a worker is killed (by the kernel for memory, say), loky
    # breaks its whole executor, and every unit in it would lose the epoch that it is at.
    def new_worker() -> Any:
        return ProcessPoolExecutor(1, env=settings)

    waiting = deque((unit, 1) for unit in units)
    idle = [new_worker() for _ in range(jobs)]
    running: dict[Future[None], tuple[Any, Unit, int]] = {}
    try:
        while waiting or running:
            while waiting and idle:
                unit, attempt = waiting.popleft()
                worker = idle.pop()
                future = worker.submit(_run_in_process, unit, os.getpid(), log.path(), log.level())
                running[future] = worker, unit, attempt
            finished = wait(running, POLL_SECONDS, FIRST_COMPLETED).done
            progress.watcher.poll(unit for _, unit, _ in running.values())
            for future in finished:
                worker, unit, attempt = running[future]
                try:
                    future.result()
                except TerminatedWorkerError as error:
                    if attempt == ATTEMPTS:
                        raise MfhcaError(
                            f"{unit.name}: its worker was killed {ATTEMPTS} times (out of memory?); "
                            "run again with fewer --jobs"
                        ) from error
                    log.LOG.debug("%s: its worker was killed; started again", unit.name)
                    worker.shutdown(kill_workers=True)
                    worker = new_worker()
                    # At the front: its checkpoint is recent, and a unit that kills its worker is reported early.
                    waiting.appendleft((unit, attempt + 1))
                else:
                    progress.finish(unit)
                # Only now, so that on an error above the worker is still known here and is shut down below.
                del running[future]
                idle.append(worker)
    finally:
        # Workers that still train are killed: their units resume from the last checkpoint.
        for worker in (*idle, *(worker for worker, _, _ in running.values())):
            worker.shutdown(kill_workers=True)


def _run_in_process(unit: Unit, parent: int, log_file: Path | None, level: int) -> None:
    process.exit_with_parent(parent)
    with log.worker(log_file, level):
        run_unit(unit)


def _train_on_cluster(
    units: Sequence[Unit], cluster: Cluster, expected: Mapping[str, Any], progress: TrainingProgress
) -> None:
    # Not joblib's own Dask backend: it neither cancels running units nor notices that all workers are gone.
    tasks = [(replace(unit, device=expected["device"]), expected) for unit in units]
    known_cpus, unfinished = {expected["cpu"]}, {unit.folder: unit for unit in units}
    finished = results(
        cluster,
        _run_on_worker,
        tasks,
        lambda task: task[0].name,
        lambda: progress.watcher.poll(unfinished.values()),
    )
    with contextlib.closing(finished):  # cancels what still trains as soon as an error ends this block
        for (unit, _), cpu in finished:
            await_file(unit.folder / RESULT_FILE)  # a network file system may show it a little later
            progress.finish(unfinished.pop(unit.folder))
            if cpu not in known_cpus:
                known_cpus.add(cpu)
                log.LOG.warning("%s was trained on %s; the last digits may differ", unit.name, cpu)


def _run_on_worker(task: tuple[Unit, Mapping[str, Any]]) -> str:
    """Trains a unit in a worker of a cluster; returns the worker's instruction set."""
    unit, expected = task
    own = environment(unit.device)
    differing = [
        f"{name} {mine}, another worker {others}"
        for name, mine, others in process.differing(own["versions"], expected["versions"])
    ]
    if differing:
        raise MfhcaError(f"has {'; '.join(differing)}; install and set the same on every machine")
    # Dask may give a lost worker's unit to this one while the lost worker still trains it and holds its lock;
    # that one stops at the end of its epoch, when it learns that nobody waits for it.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            run_unit(unit, stop_if_cancelled)
            return str(own["cpu"])
        except MfhcaError as error:
            busy = isinstance(error.__cause__, BlockingIOError)
            if not busy or time.monotonic() > deadline:
                raise
        stop_if_cancelled()
