"""Commands: levels of output, exit codes, options."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from places import REPOSITORY

from mfhca_cache.cli import main as cache_command
from mfhca_cache.common.console import Command
from mfhca_train.cli.main import main as train_command


def test_every_command_of_both_stages_speaks_like_this() -> None:
    for main in (cache_command, train_command):
        for command in main.commands.values():
            assert isinstance(command, Command), command.name


def test_standard_output_on_a_full_disk_is_one_line() -> None:
    for arguments in (["prune", "--cache", "tests"], ["--help"]):
        command = [sys.executable, "-m", "mfhca_cache", *arguments]
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY
            )
        assert done.returncode == 1
        assert (
            done.stderr == "error: the output cannot be written (No space left on device); free disk space\n"
        )


class LibraryMissingError(OSError):
    """As llvmlite raises, without the loader's reason in its own words."""


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (MemoryError(), "not enough memory; close other programs, use fewer --jobs"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
            "not enough",
        ),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory"),
        (LibraryMissingError("could not find libllvmlite.so"), "not enough memory"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "too many open files; raise the limit with `ulimit -n 4096`",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "runs/x"),
            "runs/x: the name is too long for this disk",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_machine_that_gives_no_more_is_one_line(error: Exception, start: str) -> None:
    @click.command(cls=Command)
    def hungry() -> None:
        if isinstance(error, LibraryMissingError):
            raise error from OSError("libllvmlite.so: failed to map segment from shared object")
        raise error

    result = CliRunner().invoke(hungry)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {start}")
    assert result.stderr.count("\n") == 1


def test_names_with_terminal_escapes_are_shown_as_text(tmp_path: Path) -> None:
    folder = tmp_path / f"evil\x1b[31m-{'0' * 16}"
    folder.mkdir()
    result = CliRunner().invoke(cache_command, ["prune", "--cache", str(tmp_path), "--dry-run"])
    assert "evil\\x1b[31m-" in result.stdout
    result = CliRunner().invoke(cache_command, ["verify", "--cache", str(tmp_path / "no\x1b]0;x\x07")])
    assert result.exit_code == 1
    assert "no\\x1b]0;x\\x07: no such folder" in result.stderr
    assert "\x1b" not in result.output


def test_a_command_of_the_other_stage_is_pointed_to() -> None:
    for here, there, program in (
        (train_command, cache_command, "mfhca-cache"),
        (cache_command, train_command, "mfhca-train"),
    ):
        assert here.other == program  # type: ignore[attr-defined]
        assert set(there.commands) <= set(here.elsewhere)  # type: ignore[attr-defined]
        for name in set(there.commands) - set(here.commands):
            result = CliRunner().invoke(here, [name, "x", "--root", "y"])
            assert result.exit_code == 2
            assert result.stderr.endswith(
                f"Error: {name} is a command of the other stage; write {program} {name}\n"
            )
    assert (
        "did you mean features? There are: doctor, " in CliRunner().invoke(cache_command, ["feature"]).stderr
    )


def test_an_option_that_is_a_setting_is_written_as_one() -> None:
    for option, setting in (
        ("--lr=1e-4", "train.lr"),
        ("--batch-size", "train.batch_size"),
        ("--hca", "model.hca"),
    ):
        result = CliRunner().invoke(train_command, ["cv", "x.csv", option, "8"])
        assert result.exit_code == 2
        assert result.stderr.endswith(
            f"Error: there is no option {option.partition('=')[0]}; write --set {setting}=VALUE\n"
        )
    unknown = CliRunner().invoke(train_command, ["cv", "x.csv", "--nonsense"])
    assert "No such option" in unknown.stderr


def test_errors_are_red_on_a_terminal_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed() -> str:
        return CliRunner().invoke(cache_command, ["verify", "--cache", "nowhere"], color=True).stderr

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert printed().startswith("\x1b[31m\x1b[1merror:\x1b[0m nowhere: ")
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed().startswith("error: nowhere: ")


def test_help_has_every_option_once_in_its_group() -> None:
    for main, name in ((train_command, "cv"), (train_command, "ablate"), (cache_command, "features")):
        text = CliRunner().invoke(main, [name, "--help"]).stdout
        titles = re.findall(r"^(\w[\w ]*):$", text, re.M)
        assert titles[0] == "Data"
        assert titles[-2:] == ["Machine", "Other options"]
        for option in main.commands[name].params:
            if isinstance(option, click.Option):
                assert len(re.findall(rf"^  (?:-\w, )?{option.opts[-1]}\b(?!-)", text, re.M)) == 1, (
                    option.name
                )
    assert "Options:" in CliRunner().invoke(cache_command, ["verify", "--help"]).stdout
