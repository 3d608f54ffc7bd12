"""A real Dask scheduler and real workers on the loopback interface, and whom to kill among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 120.0
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="who holds a lock is read in /proc"
)


class Place:
    """A scheduler and its workers, each a process; ports are the system's choice.

    They end by themselves some time after the tests, even if those were killed.
    """

    def __init__(self, folder: Path, allowed_failures: int = 3) -> None:
        self._folder, self._workers, self._started = folder, [], 0  # type: ignore[var-annotated]
        file = folder / "scheduler.json"
        options = ("--port", "0", "--scheduler-file", str(file), "--idle-timeout", "120")
        environment = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures)}
        self._scheduler = self._start("scheduler", *options, **environment)
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        self.address = json.loads(file.read_text())["address"]

    def _start(self, what: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{what}"
        arguments = [sys.executable, "-m", module, "--host", "127.0.0.1", "--no-dashboard", *options]
        self._started += 1
        with open(self._folder / f"{what}-{self._started}.log", "wb") as log:
            return subprocess.Popen(
                arguments, stdout=log, stderr=log, cwd=self._folder, env={**os.environ, **environment}
            )

    def ensure(self, workers: int, threads: int = 1) -> None:
        """Starts as many workers as are missing."""
        self._workers = [worker for worker in self._workers if worker.poll() is None]
        options = ("--no-nanny", "--nthreads", str(threads), "--memory-limit", "0", "--death-timeout", "20")
        while len(self._workers) < workers:
            self._workers.append(self._start("worker", self.address, *options))

    @property
    def pids(self) -> list[int]:
        """Processes of the workers."""
        return [worker.pid for worker in self._workers]

    def stop_workers(self) -> None:
        """Kills every worker."""
        for worker in self._workers:
            worker.kill()
            worker.wait()

    def stop(self) -> None:
        """Kills everything."""
        self.stop_workers()
        self.stop_scheduler()

    def stop_scheduler(self) -> None:
        """Kills the scheduler."""
        self._scheduler.kill()
        self._scheduler.wait()


def wait_for(condition: Callable[[], Any]) -> Any:
    """Waits until something is true, and gives it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)
    return found


def holders(folder: Path, pids: list[int] | None = None) -> dict[int, str]:
    """Processes (or those among some) that have a shard's or a unit's lock file below a folder open."""
    found = {}
    for pid in pids or [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]:
        try:
            files = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:  # it has ended, or is not ours
            continue
        for file in files:
            if file.suffix == ".lock" and file.is_relative_to(folder):  # the run's own has no suffix
                found[pid] = str(file)
    return found


class Killer(threading.Thread):
    """Kills a process with -9 as soon as one is named.

    Attributes:
        victim: its number; None where nobody was named in time.
    """

    def __init__(self, choose: Callable[[], int | None]) -> None:
        super().__init__(daemon=True)
        self._choose, self.victim = choose, None  # type: ignore[var-annotated]
        self.start()

    def run(self) -> None:
        self.victim = wait_for(self._choose)
        os.kill(self.victim, signal.SIGKILL)
