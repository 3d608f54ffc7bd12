"""Commands: levels of output, exit codes, options."""

from __future__ import annotations

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
