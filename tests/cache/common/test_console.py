"""Commands: levels of output, exit codes, options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
from click.testing import CliRunner
from places import REPOSITORY

from mfhca_cache.cli import main as cache_command
from mfhca_cache.common import log
from mfhca_cache.common.console import Command, progress
from mfhca_train.cli.main import main as train_command


def test_every_command_of_both_stages_speaks_like_this() -> None:
    for main in (cache_command, train_command):
        for command in main.commands.values():
            assert isinstance(command, Command), command.name


def test_q_silences_progress() -> None:
    with log.command(log.QUIET):
        assert progress(3, "x", "y").disable


def test_standard_output_on_a_full_disk_is_one_line() -> None:
    command = [sys.executable, "-m", "mfhca_cache", "prune", "--cache", "tests"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY
        )
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written (No space left on device); free disk space\n"


def test_a_lack_of_memory_is_one_line() -> None:
    @click.command(cls=Command)
    def hungry() -> None:
        raise MemoryError

    result = CliRunner().invoke(hungry)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: not enough memory; close other programs or use fewer --jobs")


def test_names_with_terminal_escapes_are_shown_as_text(tmp_path: Path) -> None:
    folder = tmp_path / f"evil\x1b[31m-{'0' * 16}"
    folder.mkdir()
    result = CliRunner().invoke(cache_command, ["prune", "--cache", str(tmp_path), "--dry-run"])
    assert "evil\\x1b[31m-" in result.stdout
    result = CliRunner().invoke(cache_command, ["verify", "--cache", str(tmp_path / "no\x1b]0;x\x07")])
    assert result.exit_code == 1
    assert "no\\x1b]0;x\\x07: no such folder" in result.stderr
    assert "\x1b" not in result.output
