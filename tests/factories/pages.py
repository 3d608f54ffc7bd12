"""The marked code blocks of the pages in docs/, and how they are executed.

A comment before a fenced block says what it is: `test` and `shell` blocks are run, `file` and `grid` blocks are
written, `edit` blocks are applied to a copy of the source.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from places import REPOSITORY

from mfhca_cache.cli import main as cache_command
from mfhca_train.cli.main import main as train_command

DOCS = REPOSITORY / "docs"
BLOCK = re.compile(r"<!-- (test|shell|file|edit|grid): ([\w./-]+) -->\n```\w+\n(.*?)```\n", re.DOTALL)
SECONDS = 300
COMMANDS = {"mfhca-cache": cache_command, "mfhca-train": train_command}
PROGRAMS = r"mfhca-\w+|make|pip|python3?|dask|eval|tensorboard"
RECORDER = '#!/bin/sh\nprintf \'%s\' "${0##*/}" >> calls\nprintf " \'%s\'" "$@" >> calls\necho >> calls\n'


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """(what, name, text) of every marked block, in the order of the page."""
    yield from BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def block(page: str, what: str, name: str) -> str:
    (text,) = [text for kind, called, text in blocks(page) if (kind, called) == (what, name)]
    return text


def commands_in(page: str) -> list[str]:
    """The commands in the indented code of README.md or a page, without their comments."""
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    found = re.findall(rf"^ {{4}}(?:\.venv/bin/)?((?:{PROGRAMS}) (?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [re.split(" {2,}#", command.replace("\\\n", " "))[0].strip() for command in found]


def make(folder: Path, command: str) -> str:
    """Runs `make` and returns the lines for mfhca-cache and mfhca-train that it would run, after the shell's work.

    The folder gets a `.venv` whose programs write down their arguments.
    """
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        if not (folder / name).exists():
            (folder / name).symlink_to(REPOSITORY / name)
    (folder / ".venv/bin").mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        (folder / ".venv/bin" / name).write_text(RECORDER)
        (folder / ".venv/bin" / name).chmod(0o755)
    (folder / ".venv/.installed").touch()
    done = subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (folder / "calls").read_text()
    (folder / "calls").unlink()
    return lines


def python(folder: Path, text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs an example in this process, in a folder; returns what it printed."""
    with contextlib.chdir(folder):
        exec(compile(text, "example.py", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out


def shell(folder: Path, text: str, training: tuple[str, ...] = (), exit_code: int = 0) -> str:
    """Runs the commands of a shell block in this process and returns their output.

    `training` is appended to `cv` and `ablate`, which run in a single process.
    """
    printed = ""
    for line in text.replace("\\\n", " ").splitlines():
        name, *arguments = shlex.split(line)
        *arguments, _, file = arguments if ">" in arguments else (*arguments, ">", "")
        if arguments[0] in ("cv", "ablate"):
            arguments += ["--jobs", "1", *training]
        with contextlib.chdir(folder):
            done = CliRunner().invoke(COMMANDS[name], arguments)
        assert done.exit_code == exit_code, f"{line}\n{done.output}"
        printed += done.output
        if file:
            (folder / file).write_text(done.stdout)
    return printed


def run(command: list[str], folder: Path, source: Path = REPOSITORY) -> str:
    """Runs a command that must succeed, with the packages of `source`; returns what it printed."""
    environment = os.environ | {"PYTHONPATH": str(source)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
