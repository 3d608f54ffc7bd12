"""No room: files that cannot grow beyond a size, and a small file system of its own that is really full."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from faults.command import Finished, run
from faults.kills import begin, unlike
from faults.scene import COMMANDS
from faults.trial import Action, Outcome, Trial
from faults.world import World

NAMES: Final = ("features", "cv", "ablate", "report")
LIMITED: Final = {f"no space for `{name}`: files that cannot grow": name for name in NAMES}
MOUNTED: Final = {f"no space for `{name}`: a full disk": name for name in NAMES}
PROMISE: Final = (
    "one line and exit code 1; with free space the same command ends with the bytes of an undisturbed run"
)
PROMISES: Final = dict.fromkeys((*LIMITED, *MOUNTED), PROMISE)
FAMILIES: Final = dict.fromkeys(
    PROMISES, "no space for `features`, `cv`, `ablate`, `report`: a full disk, or files that cannot grow"
)
AMPLE: Final = 64 << 20  # bytes of a file system that is large enough
PAGE: Final = 4096


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """Trials by the name of the fault."""
    ways = [(fault, _limited(name)) for fault, name in LIMITED.items()]
    ways += [(fault, _mounted(name)) for fault, name in MOUNTED.items()]
    return [Trial(fault, n, action) for fault, action in ways for n in range(counts.get(fault, 0))]


def _limited(name: str) -> Action:
    def action(world: World, folder: Path, chance: random.Random) -> Outcome:
        scene, found = world.before(name).copy(folder), Outcome()
        begin(scene, name)
        room = chance.choice(_sizes(world, name)) - 1
        room = chance.choice((room, chance.randint(0, room), int(room ** chance.random())))
        again = run(COMMANDS[name], scene.folder, room_bytes=room)
        found.tried += 1
        _judge(again, found, f"{name} with files of at most {room} bytes")
        found.lose(unlike(scene.do(name), scene, name, world))
        return found

    return action


def _sizes(world: World, name: str) -> list[int]:
    """The sizes of the files that a command makes."""
    before, after = world.before(name).folder, world.after(name).folder
    made = {path.relative_to(after): path for path in after.rglob("*") if path.is_file()}
    begun = {Path("runs/cv/report.html"), Path("runs/cv/report.md")} if name == "report" else set()
    new = [p for relative, p in made.items() if relative in begun or not (before / relative).exists()]
    sizes = {
        p.stat().st_ino: p.stat().st_size for p in new if p.name != "log.txt"
    }  # linked ones take room once
    return sorted(size for size in sizes.values() if size)


def _judge(again: Finished, found: Outcome, what: str) -> None:
    if again.refused:
        found.refusals += 1
    elif again.code:
        found.lose(f"{what}: exit code {again.code}: {again.output[-600:]}")
    else:
        found.lose(f"{what}: ended well, as if there had been room")


def _mounted(name: str) -> Action:
    def action(world: World, folder: Path, chance: random.Random) -> Outcome:
        folder.mkdir()
        refused = _mount(folder, AMPLE)
        if refused:
            return Outcome(skipped=f"no file system can be mounted here ({refused})")
        try:
            scene, found = world.before(name).copy(folder / "scene"), Outcome(tried=1)
            begin(scene, name)
            free = chance.randrange(0, max(PAGE, int(0.9 * _grown(world, name))), PAGE)
            status = os.statvfs(folder)
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            _resize(folder, used + free)
            again = run(COMMANDS[name], scene.folder)
            _judge(again, found, f"{name} with {free} bytes free")
            _resize(folder, AMPLE)
            found.lose(unlike(scene.do(name), scene, name, world))
        finally:
            # Lazily: the processes that joblib and Python start to clean up end a moment after the command.
            subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
        return found

    return action


def _grown(world: World, name: str) -> int:
    """How many bytes the files of a command take, those that are replaced in the end not counted."""
    return sum(-(-size // PAGE) * PAGE for size in _sizes(world, name))


def _mount(folder: Path, size: int) -> str:
    """Mounts a file system in memory; why that cannot be done, if it cannot."""
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
            check=False,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or "mount failed"


def _resize(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True)
