"""Running both stages on the workers of a Dask cluster.

A task is a function of this project and a small argument. Workers read and
write files themselves, so all machines must share a file system. Any task may
run again from the start: Dask repeats the tasks of a lost worker.
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
VISIBLE_SECONDS = 90.0  # network file systems may cache for up to a minute that a file does not exist

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Cluster:
    """A Dask scheduler, and the longest time in seconds to wait while it has no worker."""

    address: str
    worker_timeout: float = WORKER_TIMEOUT


class CancelledTaskError(Exception):
    """Raised in a worker to end a cancelled task between two steps."""


@dataclass(frozen=True)
class _Answer:
    """A worker's answer: a value, or the message of an expected failure (exceptions lose their cause on
    the way to another process), and the records it logged."""

    value: Any
    failure: str | None
    records: list[logging.LogRecord]


def cluster_options() -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds --backend, --scheduler and --worker-timeout; the command is called with `cluster`, None for this machine."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--backend",
            type=click.Choice(("local", "loky", "dask")),
            metavar="local|dask",
            default="local",
            show_default=True,
            help="Run on this machine, or on the workers of a Dask scheduler. (loky is another name of local.)",
        )
        @click.option("--scheduler", metavar="ADDR", help="With dask: the scheduler, e.g. tcp://node1:8786.")
        @click.option(
            "--worker-timeout",
            metavar="SECONDS",
            type=click.FloatRange(0, min_open=True),
            help=f"With dask: longest time to wait while there is no worker.  [default: {WORKER_TIMEOUT:.0f}]",
        )
        @functools.wraps(command)
        def wrapped(
            *args: Any, backend: str, scheduler: str | None, worker_timeout: float | None, **options: Any
        ) -> Any:
            return command(*args, cluster=_parse(backend, scheduler, worker_timeout), **options)

        return wrapped

    return decorate


def _parse(backend: str, scheduler: str | None, worker_timeout: float | None) -> Cluster | None:
    if backend != "dask":
        for name, value in (("--scheduler", scheduler), ("--worker-timeout", worker_timeout)):
            if value is not None:
                raise click.UsageError(f"{name} needs --backend dask")
        return None
    if not scheduler:
        raise click.UsageError("--backend dask needs --scheduler ADDR")
    if importlib.util.find_spec("distributed") is None:
        raise MfhcaError("--backend dask needs the package distributed; pip install 'mfhca[cluster]'")
    return Cluster(scheduler, worker_timeout or WORKER_TIMEOUT)


def results(
    cluster: Cluster,
    function: Callable[[Item], Value],
    items: Sequence[Item],
    name: Callable[[Item], str],
    while_waiting: Callable[[], object] = lambda: None,
) -> Generator[tuple[Item, Value]]:
    """Calls a function for every item on the workers; closing the generator cancels the unfinished tasks.

    Args:
        cluster: the Dask cluster.
        function: a function of this project; it may be called more than once for an item.
        items: its arguments.
        name: gives the name of an item in error messages.
        while_waiting: called here about twice a second.

    Yields:
        An item and its value, in the order of completion.

    Raises:
        MfhcaError: the function raised one; the scheduler cannot be reached or is lost; there was no worker for
            too long, or the workers of an item died repeatedly.
    """
    version = importlib.metadata.version("mfhca")
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def next_finished(seconds: float) -> Any:
        while_waiting()
        return finished.get(timeout=seconds)

    with _connected(cluster) as client:
        waiting = {}
        for item in items:
            future = client.submit(_task, function, item, version, pure=False)
            future.add_done_callback(finished.put)
            waiting[future.key] = (future, item)
        watch = _Watch(client, cluster)
        try:
            while waiting:
                key = watch.wait(next_finished).key
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
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # the errors raised here have one-line messages
    with dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s"}):
        try:
            client = Client(cluster.address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:  # ValueError: not a valid address
            raise MfhcaError(
                f"scheduler {cluster.address}: cannot be reached; start it with `dask scheduler`, "
                "or correct --scheduler"
            ) from error
        try:
            yield client
        finally:
            client.close(timeout=CONNECT_SECONDS)


class _Watch:
    """Waits for workers, but not forever if there are none left."""

    def __init__(self, client: Any, cluster: Cluster) -> None:
        self._client, self.cluster = client, cluster
        self._seen = time.monotonic()  # the last time there was a worker, or the start

    def wait(self, poll: Callable[[float], Value]) -> Value:
        """Calls `poll` with a time limit in seconds until it returns a value.

        Raises:
            MfhcaError: there are no workers left, and none was started in time.
        """
        while True:
            try:
                answer = poll(POLL_SECONDS)
            except (queue.Empty, TimeoutError):
                self._check_workers()
            else:
                self._seen = time.monotonic()
                return answer

    def _check_workers(self) -> None:
        try:
            workers = len(self._client.nthreads())
        except (OSError, TimeoutError):
            workers = 0  # the scheduler is unreachable, perhaps only for a while
        if workers:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > self.cluster.worker_timeout:
            address = self.cluster.address
            raise MfhcaError(
                f"scheduler {address}: no worker for {self.cluster.worker_timeout:g} s; "
                f"start some with `dask worker {address} --nthreads 1` and run the same command again"
            )


def _value(watch: _Watch, future: Any, name: str) -> Any:
    """The value of a finished task."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        answer: _Answer = watch.wait(future.result)
    except KilledWorker as error:
        raise MfhcaError(
            f"{name}: its workers died repeatedly (out of memory?); "
            "give workers more memory and run the same command again"
        ) from error
    except CancelledError as error:
        raise MfhcaError(
            f"scheduler {watch.cluster.address}: the connection was lost, or it cancelled the tasks; "
            "run the same command again"
        ) from error
    except ImportError as error:
        raise MfhcaError(
            f"a worker cannot import the task ({error}); install the same version of mfhca on every machine"
        ) from error
    log.replay(answer.records)
    if answer.failure is not None:
        raise MfhcaError(answer.failure)
    return answer.value


def _task(function: Callable[[Item], Value], item: Item, version: str) -> _Answer | None:
    """Runs in a worker."""
    from distributed import get_worker

    worker = get_worker()
    with log.collect() as records:
        try:
            return _Answer(_work(worker, function, item, version), None, records)
        except MfhcaError as error:
            return _Answer(None, f"worker {worker.address}: {error}", records)
        except CancelledTaskError:
            return None


def _work(worker: Any, function: Callable[[Item], Value], item: Item, version: str) -> Value:
    if worker.state.nthreads > 1:
        # All threads of a process share torch's thread count and random state.
        raise MfhcaError(f"has {worker.state.nthreads} threads; start workers with `--nthreads 1`")
    own_version = importlib.metadata.version("mfhca")
    if own_version != version:
        raise MfhcaError(
            f"has mfhca {own_version}, expected {version}; install the same version on every machine"
        )
    return function(item)


def stop_if_cancelled(*_: object) -> None:
    """Ends this thread's task if it was cancelled; does nothing outside a worker.

    Dask cannot interrupt a running task, which would keep its locks and block the next run.

    Raises:
        CancelledTaskError: the task was cancelled.
    """
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise CancelledTaskError


def await_file(path: Path) -> None:
    """Waits until a file written by a worker is visible on this machine.

    Raises:
        MfhcaError: it does not appear.
    """
    deadline = time.monotonic() + VISIBLE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise MfhcaError(
                f"{path}: was written by a worker but is not visible here; "
                "choose a folder that all machines share"
            )
        time.sleep(POLL_SECONDS)
        with contextlib.suppress(OSError):
            next(path.parent.iterdir(), None)  # makes a network file system refresh its cache
