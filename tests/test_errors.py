"""Every command that is given something broken says what is wrong once, and exits with 1 or 2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pages import COMMANDS

# Commands that accept anything: `config` needs no input, and `doctor` lists what is wrong.
WITHOUT_ERRORS = {"config", "doctor"}
NAMES = [(program, name) for program, group in COMMANDS.items() for name in group.commands]


def arguments(command: click.Command, value: str) -> list[str]:
    """This value for everything that a command needs."""
    given = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            given.append(value)
        elif parameter.required:
            given += [parameter.opts[0], value]
    return given


def broken(command: click.Command, own: bool) -> Iterator[list[str]]:
    yield ["--nonsense"]
    if own:
        yield from (arguments(command, value) for value in ("nowhere", "garbage", "empty.csv"))
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_flag:
            yield [*arguments(command, "nowhere"), parameter.opts[0], "wrong?"]


@pytest.mark.parametrize(("program", "name"), NAMES)
def test_errors_are_said_once(
    program: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("garbage").write_bytes(bytes(range(256)))
    Path("empty.csv").touch()
    command = COMMANDS[program].commands[name]
    for given in broken(command, name not in WITHOUT_ERRORS):
        if name == "doctor" and given != ["--nonsense"]:
            continue
        result = CliRunner().invoke(COMMANDS[program], [name, *given])
        said = re.findall(r"\berror:", result.output, re.IGNORECASE)
        assert (len(said), result.exit_code in (1, 2)) == (1, True), f"{given}\n{result.output}"
        assert "unexpected" not in result.output
