"""Measuring in turns, and summaries of repeated measurements.

Variants that are compared do not run in blocks, because the processor's clock, other load
and the page cache change within minutes. They run A, B, A, B, ..., and ratios are computed
per round.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spread:
    """Median and range of repeated measurements."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.0, high=3.0, count=3)
        """
        return cls(statistics.median(values), min(values), max(values), len(values))


def in_turns(
    actions: Mapping[str, Callable[[], float]],
    rounds: int,
    limits: Mapping[str, int] | None = None,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Runs all actions in turns, round after round.

    Args:
        actions: each measures once and returns the value.
        rounds: number of turns of each action.
        limits: fewer turns for slow actions.
        warm_up: whether each action runs once before the first round.

    Returns:
        The values of every action, in the order of the rounds.

    >>> in_turns({"a": lambda: 1.0, "b": lambda: 2.0}, 2, {"b": 1})
    {'a': [1.0, 1.0], 'b': [2.0]}
    """
    limits = limits or {}
    if warm_up:
        for action in actions.values():
            action()
    values: dict[str, list[float]] = {name: [] for name in actions}
    for index in range(rounds):
        for name, action in actions.items():
            if index < limits.get(name, rounds):
                values[name].append(action())
    return values


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Ratios of values of the same round; rounds in which one is missing are left out.

    >>> ratios([4.0, 9.0, 5.0], [2.0, 3.0])
    [2.0, 3.0]
    """
    return [a / b for a, b in zip(over, under, strict=False)]


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Cost:
    """The cost of a command."""

    wall: float  # seconds
    cpu: float  # seconds, of the process and its children


def cost_of(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Cost:
    """Runs a command and measures it.

    Args:
        command: program and arguments.
        log: file for its output.
        environment: variables in addition to ours.

    Raises:
        RuntimeError: it failed; the message has the end of its output.
    """
    with open(log, "wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{command[-1]} exit code {process.returncode}:\n{tail}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def private_bytes(pid: int | str = "self") -> int:
    """Private memory (USS) of a process in bytes; 0 if it has ended. Linux only."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
