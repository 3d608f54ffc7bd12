"""Compares the main install of two commits: its direct dependencies, their size, and the time of imports and --help.

    python -m bench.weight BEFORE [AFTER] [--out bench/weight.json]

Sizes are those of the packages installed here. Times are CPU seconds, the commits in turns.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from functools import partial
from importlib.metadata import PackageNotFoundError, files
from io import BytesIO
from pathlib import Path
from typing import Any

import click

from bench import computer
from bench.timing import Spread, cost_of, in_turns

REPOSITORY = Path(__file__).resolve().parent.parent
ACTIONS = {
    "import mfhca_cache": ("-c", "import mfhca_cache"),
    "import mfhca_train": ("-c", "import mfhca_train"),
    "mfhca-cache --help": ("-m", "mfhca_cache", "--help"),
    "mfhca-train --help": ("-m", "mfhca_train", "--help"),
}


@click.command(help=__doc__)
@click.argument("before")
@click.argument("after", default="HEAD")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Turns of each command.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file to write.")
def main(before: str, after: str, rounds: int, out: Path | None) -> None:
    before, after = map(short, (before, after))
    found: dict[str, Any] = {"machine": computer.description(), "commits": {}}
    with tempfile.TemporaryDirectory(prefix="mfhca-weight-") as scratch:
        folders = {name: checked_out(name, Path(scratch) / str(k)) for k, name in enumerate((before, after))}
        times = in_turns(
            {
                f"{name} {action}": partial(cpu_seconds, folder, arguments, Path(scratch) / "log")
                for action, arguments in ACTIONS.items()
                for name, folder in folders.items()
            },
            rounds,
        )
        for name, folder in folders.items():
            spreads = {action: Spread.of(times[f"{name} {action}"]) for action in ACTIONS}
            found["commits"][name] = {
                "dependencies": sizes(folder),
                "cpu_seconds": {action: vars(spread) for action, spread in spreads.items()},
            }
    for name, commit in found["commits"].items():
        known = [size for size in commit["dependencies"].values() if size is not None]
        click.echo(f"{name}: {len(commit['dependencies'])} direct dependencies, {sum(known) / 1e6:,.0f} MB")
        for action, spread in commit["cpu_seconds"].items():
            click.echo(f"  {action}: {spread['median']:.3f} s ({spread['low']:.3f} to {spread['high']:.3f})")
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def short(commit: str) -> str:
    """The first digits of a commit's name."""
    command = ["git", "rev-parse", "--short", commit]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout.strip()


def checked_out(commit: str, folder: Path) -> Path:
    """The files of a commit in a folder."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=REPOSITORY, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=BytesIO(archive)) as file:
        file.extractall(folder, filter="data")
    return folder


def sizes(folder: Path) -> dict[str, int | None]:
    """Bytes of the files of each direct dependency; None where it is not installed here."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, int | None] = {}
    for requirement in project["dependencies"]:
        name = re.split(r"[^\w.-]", requirement)[0]
        try:
            paths = [Path(str(entry.locate())) for entry in files(name) or ()]
        except PackageNotFoundError:
            found[name] = None
            continue
        found[name] = sum(path.stat().st_size for path in paths if path.is_file())
    return found


def cpu_seconds(folder: Path, arguments: tuple[str, ...], log: Path) -> float:
    """Of one call with the packages of a folder."""
    return cost_of([sys.executable, *arguments], log, {"PYTHONPATH": str(folder)}).cpu


if __name__ == "__main__":
    main()
