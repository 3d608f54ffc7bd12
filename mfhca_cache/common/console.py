"""Base classes of both commands: error messages, exit codes, -q and -v, common options."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.hardware import DEVICES
from mfhca_cache.common.remedies import completed
from mfhca_cache.common.start import FULL
from mfhca_cache.common.text import printable

Option = Callable[[Callable[..., Any]], Callable[..., Any]]
# Types of paths; whether one exists is checked where it is used. The names stand for a path in the help.
DIR, FILE = click.Path(path_type=Path), click.Path(path_type=Path)
DIR.name, FILE.name = "DIR", "FILE"
# The words of torch, of the loader of libraries and of Python for a system that gives no more memory.
NO_MEMORY: Final = ("allocate memory", "failed to map segment", "can't start new thread", "std::bad_alloc")
TOO_MANY: Final = (errno.EMFILE, errno.ENFILE)  # open files
LEVELS: Final = {"quiet": log.QUIET, "verbose": log.VERBOSE}
FOLDERS: Final = ("out", "run", "cache")  # parameters with a folder for the log

UNGROUPED: Final = 12  # so many options need no groups
GROUPS: Final = {  # names of options by group, in the help
    "Data": ("root", "cache", "out", "backbone", "label_set", "spec", "ssl", "allow_outside", "replace"),
    "Features": (
        "kinds",
        "layer",
        "dtype",
        "compute_dtype",
        "tail",
        "minimum_tail_samples",
        "pre_emphasis",
        "db_reference",
    ),
    "Training and test": (
        "preset",
        "config_file",
        "settings",
        "protocol",
        "folds",
        "seeds",
        "rows",
        "skip_missing",
    ),
    "Machine": ("device", "threads", "jobs", "batch_size", "backend", "scheduler", "worker_timeout"),
}


class Command(click.Command):
    """A command with -q and -v that exits with code 1 on a failure.

    Of an expected failure the message is shown; of any other exception the name of the log
    with the traceback.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params += _verbosity()
        self._arguments: list[str] = []

    def get_short_help_str(self, limit: int = 300) -> str:
        return super().get_short_help_str(max(limit, 300))  # the complete first sentence; the list wraps it

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists many options in groups, the same in both tools."""
        options = [option for option in self.get_params(ctx) if isinstance(option, click.Option)]
        records = {option.name: option.get_help_record(ctx) for option in options}
        rows = {name: record for name, record in records.items() if record is not None}
        groups = GROUPS if len(rows) > UNGROUPED else {}
        for title, names in groups.items():
            if found := [rows.pop(name) for name in names if name in rows]:
                with formatter.section(title):
                    formatter.write_dl(found)
        with formatter.section("Other options" if groups else "Options"):
            formatter.write_dl(list(rows.values()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        self._arguments = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with log.command(ctx.meta.get(__name__, log.USUAL)):
            log.LOG.debug("started: %s", shlex.join([*ctx.command_path.split(), *self._arguments]))
            log.LOG.debug(
                "mfhca %s, Python %s, %s", _version(), platform.python_version(), platform.platform()
            )
            try:
                return super().invoke(ctx)
            except MfhcaError as error:
                # The remedy for a file that cannot be opened is another one if too many others are open.
                few = _lacks_files(_chain(error))
                log.LOG.error("%s", shortage(error) if few else completed(str(error), ctx.params))
                ctx.exit(1)
            except KeyboardInterrupt:
                log.LOG.info("interrupted; run the same command again to resume")
                ctx.exit(130)
            except (click.ClickException, click.Abort, click.exceptions.Exit):
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno == errno.EPIPE:
                    raise  # the reader of a pipe has ended; click exits quietly
                if missing := shortage(error):
                    log.LOG.error("%s", missing)
                    ctx.exit(1)
                if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
                    raise  # standard output is on a full disk: see `start`
                log.bug(error, (value for name in FOLDERS if isinstance(value := ctx.params.get(name), Path)))
                ctx.exit(1)


class Commands(click.Group):
    """A group of such commands; -q and -v are allowed before or after the command's name.

    Args:
        other: the program of the other stage.
        elsewhere: the names of its commands, for the message about a command of the other stage.
    """

    command_class = Command

    def __init__(self, *args: Any, other: str = "", elsewhere: Sequence[str] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.params += _verbosity()
        self.other, self.elsewhere = other, elsewhere

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if name in self.elsewhere:
                ctx.fail(f"{name} is a command of the other stage; write {self.other} {name}")
            ctx.fail(f"there is no command {name!r}; {did_you_mean(name, self.commands)}")
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)  # in the order of use, as they are defined


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it."""
    chain = [error]
    while (previous := chain[-1].__cause__ or chain[-1].__context__) and previous not in chain:
        chain.append(previous)
    return chain


def _lacks_files(errors: Sequence[BaseException]) -> bool:
    return any(isinstance(error, OSError) and error.errno in TOO_MANY for error in errors)


def shortage(error: Exception) -> str | None:
    """What to do if the machine refused memory, threads, open files or a long name; None for any other error.

    >>> shortage(OSError(24, "Too many open files"))
    'too many open files; raise the limit with `ulimit -n 4096`, or use fewer --jobs'
    """
    code = error.errno if isinstance(error, OSError) else None
    chain = _chain(error)
    if _lacks_files(chain):
        return "too many open files; raise the limit with `ulimit -n 4096`, or use fewer --jobs"
    if isinstance(error, OSError) and code == errno.ENAMETOOLONG:
        return f"{error.filename}: the name is too long for this disk; choose a shorter one"
    words = "\n".join(
        map(str, chain)
    )  # a library that cannot be loaded may name the reason only in its cause
    if isinstance(error, MemoryError) or code == errno.ENOMEM or any(text in words for text in NO_MEMORY):
        return "not enough memory; close other programs, use fewer --jobs, or raise `ulimit -v`, then run it again"
    return None


def _verbosity() -> list[click.Option]:
    """New options -q and -v; the level is in the context's `meta`, which a group and its command share."""

    def set_level(ctx: click.Context, option: click.Parameter, given: bool) -> None:
        if given:
            level = LEVELS[str(option.name)]
            if ctx.meta.setdefault(__name__, level) != level:
                raise click.UsageError("-q and -v cannot be used together")

    common: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": set_level}
    return [
        click.Option(
            ["-q", "--quiet"], help="Show only results and errors: no progress, no notes.", **common
        ),
        click.Option(["-v", "--verbose"], help="Show details, as in the log.txt of a run.", **common),
    ]


def _version() -> str:
    try:
        return importlib.metadata.version("mfhca")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def echo(text: object, bold: bool = False, nl: bool = True) -> None:
    """Prints a result, in bold on a terminal if asked for; names in it may have any characters."""
    plain, shown = bool(os.environ.get("NO_COLOR")) or not bold, printable(str(text))
    click.echo(shown if plain else click.style(shown, bold=True), nl=nl)


def with_options(command: Callable[..., Any], options: Sequence[Option]) -> Callable[..., Any]:
    """The command with these options, which --help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def device_option(help_text: str) -> Option:
    """--device, with the same values in every command; `hardware.resolve_device` checks them."""
    metavar = "|".join(DEVICES)
    return click.option("--device", metavar=metavar, default=DEVICES[0], show_default=True, help=help_text)


def jobs_option(help_text: str, default: str) -> Option:
    """--jobs: how many threads or processes work in parallel; None by default."""
    return click.option(
        "--jobs", metavar="N", type=click.IntRange(min=1), help=f"{help_text}.  [default: {default}]"
    )


def copies_option() -> Option:
    """--accept-copies: whether identical recordings may be listed under several speakers."""
    return click.option(
        "--accept-copies",
        is_flag=True,
        help="Accept identical recordings under several speakers, although a test recording is then in training.",
    )


def threads_option(help_text: str, default: int | None = None) -> Option:
    """--threads: torch's processor threads."""
    shown = "torch's default" if default is None else default
    return click.option(
        "--threads",
        metavar="N",
        type=click.IntRange(min=1),
        default=default,
        help=f"{help_text}; the last digits depend on it.  [default: {shown}]",
    )
