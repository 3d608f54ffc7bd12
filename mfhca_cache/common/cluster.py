"""More than one machine: both stages hand their work to the workers of a Dask scheduler through here.

Work is a function of this project and a small value for each call; files are
read and written by the workers, so all machines share a file system. Every
function handed over may run again from the start: Dask repeats what a lost
worker had.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import logging
import queue
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError

WORKER_TIMEOUT = 60.0
CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.5
VISIBLE_SECONDS = 90.0  # network file systems remember for up to a minute that a file was not there

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Cluster:
    """A Dask scheduler, and how many seconds it may be without any worker."""

    address: str
    worker_timeout: float = WORKER_TIMEOUT


class UnwantedError(Exception):
    """Raised in a worker whose task was cancelled, to end it between two steps."""


@dataclass(frozen=True)
class _Answer:
    """What a worker sends back: a value, or the words of a foreseen failure (exceptions lose their cause when
    they are sent), and what it said meanwhile."""

    value: Any
    failure: str | None
    said: list[logging.LogRecord]


def cluster_options(local: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command the options that choose where it works; it is called with `cluster`, None for here.

    Args:
        local: what the backend of this machine is called.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--backend",
            type=click.Choice((local, "dask")),
            default=local,
            show_default=True,
            help="This machine, or the workers of a Dask scheduler.",
        )
        @click.option("--scheduler", metavar="ADDR", help="With dask: the scheduler, e.g. tcp://node1:8786.")
        @click.option(
            "--worker-timeout",
            metavar="SECONDS",
            type=click.FloatRange(0, min_open=True),
            help=f"With dask: give up after so long without any worker.  [default: {WORKER_TIMEOUT:.0f}]",
        )
        @functools.wraps(command)
        def wrapped(
            *args: Any, backend: str, scheduler: str | None, worker_timeout: float | None, **options: Any
        ) -> Any:
            return command(*args, cluster=_chosen(backend, scheduler, worker_timeout), **options)

        return wrapped

    return decorate


def _chosen(backend: str, scheduler: str | None, worker_timeout: float | None) -> Cluster | None:
    if backend != "dask":
        for name, value in (("--scheduler", scheduler), ("--worker-timeout", worker_timeout)):
            if value is not None:
                raise click.UsageError(f"{name} has no meaning without --backend dask")
        return None
    if not scheduler:
        raise click.UsageError("--backend dask needs --scheduler ADDR")
    if importlib.util.find_spec("distributed") is None:
        raise MfhcaError("--backend dask needs the package distributed: pip install 'mfhca[cluster]'")
    return Cluster(scheduler, worker_timeout or WORKER_TIMEOUT)


def results(
    cluster: Cluster, function: Callable[[Item], Value], items: Sequence[Item], name: Callable[[Item], str]
) -> Generator[tuple[Item, Value]]:
    """Calls a function for every item on the workers; what is not done when the caller leaves is cancelled.

    Args:
        cluster: where.
        function: of a module of this project; it may be called more than once for an item.
        items: what it is called with.
        name: what an item is called in messages.

    Yields:
        An item and its value, in the order in which they are done.

    Raises:
        MfhcaError: the function raised one; the scheduler cannot be reached or is lost; there was no worker for
            too long, or the workers that had an item died again and again.
    """
    version = importlib.metadata.version("mfhca")
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with _connected(cluster) as client:
        waiting = {}
        for item in items:
            future = client.submit(_task, function, item, version, pure=False)
            future.add_done_callback(finished.put)
            waiting[future.key] = (future, item)
        watch = _Watch(client, cluster)
        try:
            while waiting:
                key = watch.patiently(lambda seconds: finished.get(timeout=seconds)).key
                future, item = waiting[key]
                yield item, _value(watch, future, name(item))
                del waiting[key], future
        finally:
            with contextlib.suppress(Exception):  # the scheduler may be what failed
                client.cancel([future for future, _ in waiting.values()])


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    import dask.config
    from distributed import Client

    for logger in ("distributed", "distributed.client"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # the messages here say it in a line
    with dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s"}):
        try:
            client = Client(cluster.address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:  # a ValueError for an address that is none
            raise MfhcaError(
                f"scheduler {cluster.address}: not to be reached; start it with `dask scheduler`, "
                "or correct --scheduler"
            ) from error
        try:
            yield client
        finally:
            client.close(timeout=CONNECT_SECONDS)


class _Watch:
    """Waits, but not for ever where there is nobody left to wait for."""

    def __init__(self, client: Any, cluster: Cluster) -> None:
        self._client, self.cluster = client, cluster
        self._seen = time.monotonic()  # when there was a worker, the start included

    def patiently(self, ask: Callable[[float], Value]) -> Value:
        """Asks (for so many seconds at a time) until there is an answer.

        Raises:
            MfhcaError: there is no worker any more, and none came in time.
        """
        while True:
            try:
                answer = ask(POLL_SECONDS)
            except (queue.Empty, TimeoutError):
                self._look()
            else:
                self._seen = time.monotonic()
                return answer

    def _look(self) -> None:
        try:
            workers = len(self._client.nthreads())
        except (OSError, TimeoutError):
            workers = 0  # the scheduler itself is gone, perhaps to come back
        if workers:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > self.cluster.worker_timeout:
            address = self.cluster.address
            raise MfhcaError(
                f"scheduler {address}: no worker for {self.cluster.worker_timeout:g} s; "
                f"start some with `dask worker {address} --nthreads 1` and run the same command again"
            )


def _value(watch: _Watch, future: Any, name: str) -> Any:
    """What a finished task returned."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        answer: _Answer = watch.patiently(future.result)
    except KilledWorker as error:
        raise MfhcaError(
            f"{name}: the workers that had it died again and again (out of memory?); "
            "give them more memory and run the same command again"
        ) from error
    except CancelledError as error:
        raise MfhcaError(
            f"scheduler {watch.cluster.address}: lost, or it cancelled the work; run the same command again"
        ) from error
    except ImportError as error:
        raise MfhcaError(
            f"a worker cannot load what it is to run ({error}); install the same mfhca on every machine"
        ) from error
    log.tell(answer.said)
    if answer.failure is not None:
        raise MfhcaError(answer.failure)
    return answer.value


def _task(function: Callable[[Item], Value], item: Item, version: str) -> _Answer | None:
    """Runs in a worker."""
    from distributed import get_worker

    worker = get_worker()
    with log.kept() as said:
        try:
            return _Answer(_work(worker, function, item, version), None, said)
        except MfhcaError as error:
            return _Answer(None, f"worker {worker.address}: {error}", said)
        except UnwantedError:
            return None


def _work(worker: Any, function: Callable[[Item], Value], item: Item, version: str) -> Value:
    if worker.state.nthreads > 1:
        # Threads of a process share torch's number of threads and its random numbers.
        raise MfhcaError(f"has {worker.state.nthreads} threads; start workers with `--nthreads 1`")
    there = importlib.metadata.version("mfhca")
    if there != version:
        raise MfhcaError(f"has mfhca {there}, this is {version}; install the same on every machine")
    return function(item)


def stop_if_unwanted(*_: object) -> None:
    """Ends the task that this thread runs if nobody waits for it any more; does nothing outside a worker.

    A worker cannot be made to drop what it is running, and would hold its locks against the next run.

    Raises:
        UnwantedError: nobody does.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise UnwantedError


def await_file(path: Path) -> None:
    """Waits until a file that a worker has written is to be seen here.

    Raises:
        MfhcaError: it does not appear.
    """
    deadline = time.monotonic() + VISIBLE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise MfhcaError(
                f"{path}: a worker wrote it, and it is not to be seen here; "
                "choose a folder that all machines share"
            )
        time.sleep(POLL_SECONDS)
        with contextlib.suppress(OSError):
            next(path.parent.iterdir(), None)  # makes a network file system look again
