"""A trial, what came of it, and many of them side by side, each outcome in a file of its own."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from faults.world import World

SEED: Final = 20240719


@dataclass
class Outcome:
    """What came of a trial."""

    tried: int = 0  # faults
    refusals: int = 0  # commands that ended with one line
    losses: list[str] = field(default_factory=list)  # what did not hold
    skipped: str = ""  # why it could not be tried here
    seconds: float = 0.0

    def lose(self, what: str | None) -> None:
        """Notes what did not hold; None: it did."""
        if what:
            self.losses.append(what)


Action = Callable[[World, Path, random.Random], Outcome]


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        fault: what goes wrong, for the table.
        number: among those of the fault; seeds its randomness.
        action: does it, in a folder of its own.
    """

    fault: str
    number: int
    action: Action

    @property
    def name(self) -> str:
        """Of its files."""
        return "-".join(re.findall(r"\w+", f"{self.fault} {self.number}"))

    def do(self, world: World, folder: Path) -> Outcome:
        """Does it; a crash of the trial itself counts as a loss."""
        try:
            return self.action(world, folder, random.Random(f"{SEED}/{self.fault}/{self.number}"))
        except Exception:
            return Outcome(1, 0, [f"the trial itself failed: {traceback.format_exc()}"])


def do_all(
    trials: Sequence[Trial], world: World, outcomes: Path, slots: int, done: Callable[[Trial, Outcome], None]
) -> None:
    """Does all trials that have no outcome yet, some side by side.

    Args:
        trials: in order.
        world: what they begin with.
        outcomes: folder of their outcomes, and of what a loss has left.
        slots: how many side by side.
        done: called after each.
    """
    outcomes.mkdir(parents=True, exist_ok=True)
    waiting = [trial for trial in trials if not (outcomes / f"{trial.name}.json").exists()]
    running: dict[int, Trial] = {}
    try:
        while waiting or running:
            while waiting and len(running) < slots:
                trial = waiting.pop(0)
                pid = os.fork()
                if pid == 0:
                    _slot(trial, world, outcomes)
                running[pid] = trial
            pid, _ = os.wait()
            trial = running.pop(pid)
            path = outcomes / f"{trial.name}.json"
            found = read(path) if path.exists() else Outcome(1, 0, ["the trial's process died"])
            done(trial, found)
    finally:
        for pid in running:
            os.waitpid(pid, 0)  # an interrupted trial ends with its command


def read(path: Path) -> Outcome:
    """The outcome of a trial that was done."""
    return Outcome(**json.loads(path.read_text()))


def _slot(trial: Trial, world: World, outcomes: Path) -> NoReturn:
    code = 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the program lets the trials end
    try:
        folder = outcomes / trial.name
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        found = trial.do(world, folder)
        if not found.losses:
            shutil.rmtree(folder, ignore_errors=True)
        found.seconds = round(time.monotonic() - started, 2)
        path = outcomes / f"{trial.name}.json"
        path.with_suffix(".tmp").write_text(json.dumps(asdict(found)))
        path.with_suffix(".tmp").replace(path)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
