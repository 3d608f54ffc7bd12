"""Commands: levels of output, exit codes, options."""

from __future__ import annotations

import subprocess
import sys

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
