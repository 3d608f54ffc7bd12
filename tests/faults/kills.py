"""kill -9 at any point, and the same command again: what comes out is what an undisturbed command makes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from faults.command import Finished, Kill, run
from faults.scene import COMMANDS, Scene, debris, difference, outcome, place
from faults.trial import Action, Outcome, Trial
from faults.world import EDITS, World, edit_name

PROMISE: Final = (
    "visible files are complete, and the same command, run again, ends with the bytes of an undisturbed run"
)
EDIT_PROMISE: Final = (
    "run again, it produces what a new run on the edited input does, or refuses and names the difference"
)
FAULTS: Final = {
    **{f"kill -9 of `{name}`": name for name in ("features", "cv", "ablate", "report")},
    "kill -9 of `cv --jobs 2`": "cv, two jobs",
}
EDIT_FAULT: Final = "kill -9, then an edit of audio or label"
PROMISES: Final = {**dict.fromkeys(FAULTS, PROMISE), EDIT_FAULT: EDIT_PROMISE}
FAMILIES: Final = dict.fromkeys(
    FAULTS, "`kill -9` at any point of `features`, `cv` (one or two jobs), `ablate`, `report`"
)


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """Trials by the name of the fault; every third is a row of kills."""
    found = [
        Trial(fault, number, _kill(name, number))
        for fault, name in FAULTS.items()
        for number in range(counts.get(fault, 0))
    ]
    return found + [
        Trial(EDIT_FAULT, number, _kill_and_edit(number)) for number in range(counts.get(EDIT_FAULT, 0))
    ]


def _kill(name: str, number: int) -> Action:
    def action(world: World, folder: Path, chance: random.Random) -> Outcome:
        scene, found = world.before(name).copy(folder), Outcome()
        begin(scene, name)
        for _ in range(chance.randint(2, 4) if number % 3 == 2 else 1):
            kill_once(world, scene, name, chance, found)
        again = scene.do(name)
        found.lose(unlike(again, scene, name, world))
        return found

    return action


def begin(scene: Scene, name: str) -> None:
    """A report is written again into a folder that has lost it; every other command finds what it expects."""
    if name == "report":
        for path in ("report.html", "report.md"):
            (scene.folder / "runs/cv" / path).unlink()


def kill_once(world: World, scene: Scene, name: str, chance: random.Random, found: Outcome) -> None:
    """Kills the command at a random point; what it leaves in sight is compared with what it should become."""
    longest = world.references[name].seconds
    for _ in range(8):
        kill = any_point(world, name, chance, longest)
        killed = run(COMMANDS[name], scene.folder, kill)
        if killed.killed:
            break
        if killed.code:
            found.lose(f"{name}, before it was killed: {killed.error}")
            return
        # It was faster than its reference: there is nothing left to kill, so it begins again.
        longest = min(longest, killed.seconds)
        for part in ("cache",) if name == "features" else () if name == "report" else ("runs",):
            _remove(scene.folder / part)
    else:
        found.lose("could not be killed")
        return
    found.tried += 1
    expected = world.expected(name)
    there = outcome(scene, name)
    torn = sorted(path for path, digest in there.items() if digest != expected.get(path))
    if torn:
        found.lose(f"after {kill}: in sight and not as it should be: {', '.join(torn[:5])}")


def any_point(world: World, name: str, chance: random.Random, longest: float) -> Kill:
    """A time of at most `longest` seconds, or one of the command's calls that change files, half done or not."""
    reference = world.references[name]
    workers = name == "cv, two jobs"
    if workers or chance.random() < 0.5:
        return Kill(chance.uniform(0, longest), alone=workers and chance.random() < 0.5)
    return Kill(at_call=chance.randint(1, reference.calls), torn=chance.random() < 0.5)


def unlike(again: Finished, scene: Scene, name: str, world: World, edit: str = "") -> str | None:
    """In what a command that was run again differs from one that was never disturbed; None for nothing."""
    if again.code:
        return f"{name}, run again: exit code {again.code}: {again.output[-600:]}"
    differing = difference(outcome(scene, name), world.expected(name, edit))
    if differing:
        return f"{name}, run again: {differing}"
    left = list(debris(place(scene, name)))
    return f"{name}, run again: left {', '.join(left[:5])}" if left else None


def _kill_and_edit(number: int) -> Action:
    name = ("features", "cv")[number % 2]

    def action(world: World, folder: Path, chance: random.Random) -> Outcome:
        what = "audio" if name == "features" else chance.choice(sorted(EDITS))
        at = chance.choice(world.edited)
        scene, found = world.before(name).copy(folder), Outcome()
        kill_once(world, scene, name, chance, found)
        EDITS[what](scene, at)
        if name == "cv" and what == "audio":
            ready = do_or_replace(scene, "features", found)
            if ready.code:
                raise RuntimeError(f"features: {ready.output}")
        again = do_or_replace(scene, name, found)
        if name == "cv" and again.refused and "holds another run" in again.output:
            found.refusals += 1
            _remove(scene.folder / "runs")  # as the message says
            again = scene.do(name)
        found.lose(unlike(again, scene, name, world, edit_name(what, at)))
        return found

    return action


def do_or_replace(scene: Scene, name: str, found: Outcome) -> Finished:
    """Runs a command; `features` again with --replace if it asks for it: a trial is a copy of a corpus."""
    finished = scene.do(name)
    if name == "features" and finished.refused and "--replace" in finished.output:
        found.refusals += 1
        finished = run([*COMMANDS[name], "--replace"], scene.folder)
    return finished


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
