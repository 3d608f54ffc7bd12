"""The queue of units: one after the other here, in processes side by side, or on the workers of a cluster.

All three give the same bits. Units are trained at most once, and go on from their
last checkpoint: a worker that dies costs the epoch it was at.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from mfhca_cache.common import hardware, log
from mfhca_cache.common.cluster import Cluster, await_file, results, stop_if_cancelled
from mfhca_cache.common.console import progress
from mfhca_cache.common.errors import MfhcaError
from mfhca_train.results.schema import RESULT_FILE
from mfhca_train.training import process
from mfhca_train.training.unit import Unit, run_unit

ATTEMPTS = 3  # of a unit whose worker processes are killed
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of libraries beside torch
BUSY_SECONDS = 600.0  # a cluster's worker lets go of a unit that nobody wants at the end of its epoch


def surroundings(device: str, cluster: Cluster | None = None) -> dict[str, Any]:
    """What units are trained on besides their settings: versions, type of processor, kind of device.

    Args:
        device: as asked for, "auto" included.
        cluster: where units are to be trained; some worker of it is asked.

    Raises:
        MfhcaError: the device is not there, or the cluster is not.
    """
    if cluster is not None:
        ((_, found),) = results(cluster, surroundings, [device], lambda _: "the first question")
        return found
    return {
        "versions": process.versions(),
        "cpu": process.cpu_type(),
        "device": hardware.resolve_device(device),
    }


def train(
    units: Sequence[Unit],
    jobs: int | None = None,
    cluster: Cluster | None = None,
    expected: Mapping[str, Any] | None = None,
) -> None:
    """Trains units.

    Args:
        units: those to train.
        jobs: how many side by side, each in a process of its own unless there is only one; None for as many
            as the cores allow. Without meaning for a cluster, where the workers decide.
        cluster: where; None for this machine.
        expected: with a cluster, the `surroundings` that every worker must have.

    Raises:
        MfhcaError: a unit failed; what is finished stays.
    """
    if not units:
        return
    with progress(len(units), "fold", "training") as bar:
        if cluster is not None:
            _train_on_cluster(units, cluster, expected or surroundings(units[0].device, cluster), bar)
            return
        if jobs is None:
            jobs = process.default_jobs(hardware.resolve_device(units[0].device), units[0].threads)
        jobs = min(len(units), jobs)
        log.LOG.debug(
            "to train: %d units, %d side by side, %d threads each", len(units), jobs, units[0].threads
        )
        units = [replace(unit, side_by_side=jobs) for unit in units]
        if jobs == 1:
            _train_here(units, bar)
        else:
            _train_in_pool(units, jobs, bar)


def _train_here(units: Sequence[Unit], bar: Any) -> None:
    for unit in units:

        def show(row: Mapping[str, float], fold: str = unit.fold.id) -> None:
            bar.set_postfix_str(f"fold {fold} epoch {row['epoch']}: validation WA {row['validation_wa']:.3f}")

        run_unit(unit, show)
        bar.update()


def _train_in_pool(units: Sequence[Unit], jobs: int, bar: Any) -> None:
    """Trains so many side by side, each in a pool of a single process: one that is killed takes no other along."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # A worker keeps what it freed (see machine.prepare_process); loky takes that for a leak and renews it.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    settings = {name: str(units[0].threads) for name in THREADS}

    def lane() -> Any:
        return ProcessPoolExecutor(1, env=settings)

    waiting = deque((unit, 1) for unit in units)
    idle = [lane() for _ in range(jobs)]
    busy: dict[Future[None], tuple[Any, Unit, int]] = {}
    try:
        while waiting or busy:
            while waiting and idle:
                unit, attempt = waiting.popleft()
                worker = idle.pop()
                busy[worker.submit(_run_in_process, unit, os.getpid(), log.path(), log.level())] = (
                    worker,
                    unit,
                    attempt,
                )
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                worker, unit, attempt = busy[future]
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
                    worker = lane()
                    waiting.appendleft((unit, attempt + 1))
                else:
                    bar.update()
                del busy[future]
                idle.append(worker)
    finally:
        for worker in (*idle, *(worker for worker, _, _ in busy.values())):
            worker.shutdown(kill_workers=True)


def _run_in_process(unit: Unit, parent: int, file: Path | None, level: int) -> None:
    process.die_with(parent)
    with log.worker(file, level):
        run_unit(unit)


def _train_on_cluster(units: Sequence[Unit], cluster: Cluster, expected: Mapping[str, Any], bar: Any) -> None:
    # Joblib's own Dask backend neither cancels what is running nor notices that all workers are gone.
    tasks = [(replace(unit.absolute(), device=expected["device"]), expected) for unit in units]
    warned = {expected["cpu"]}
    done = results(cluster, _run_on_worker, tasks, lambda task: task[0].name)
    with contextlib.closing(done):  # at once, so that nothing trains on after an error here
        for (unit, _), cpu in done:
            await_file(unit.folder / RESULT_FILE)
            bar.update()
            if cpu not in warned:
                warned.add(cpu)
                log.LOG.warning("%s was trained on %s; last digits may differ", unit.name, cpu)


def _run_on_worker(task: tuple[Unit, Mapping[str, Any]]) -> str:
    """Trains a unit in a worker of a cluster; the type of its processor."""
    unit, expected = task
    here = surroundings(unit.device)
    other = [
        f"{name} {here['versions'].get(name)}, another worker {version}"
        for name, version in expected["versions"].items()
        if here["versions"].get(name) != version
    ]
    if other:
        raise MfhcaError(f"has {'; '.join(other)}; install the same on every machine")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            run_unit(unit, stop_if_cancelled)
            return str(here["cpu"])
        except MfhcaError as error:
            busy = isinstance(error.__cause__, BlockingIOError)
            if not busy or time.monotonic() > deadline:
                raise
        stop_if_cancelled()
