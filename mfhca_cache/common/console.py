"""How the two commands speak: foreseen failures in plain words, bugs with a log, progress only to a terminal."""

from __future__ import annotations

import errno
import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path
from typing import Any, Final

import click

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError

LEVELS: Final = {"quiet": log.QUIET, "verbose": log.VERBOSE}
FOLDERS: Final = ("out", "run", "cache")  # parameters that may name a folder to leave a log in


class Command(click.Command):
    """A command with -q and -v, which ends with exit code 1 and plain words on a failure.

    A foreseen one is told as it is. The traceback of any other goes to a log, and the
    terminal is told where that is.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params += _talk()
        self._arguments: list[str] = []

    def get_short_help_str(self, limit: int = 300) -> str:
        return super().get_short_help_str(max(limit, 300))  # the whole first sentence; the list wraps it

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
                log.LOG.error("%s", error)
                ctx.exit(1)
            except KeyboardInterrupt:
                log.LOG.info("interrupted; run the same command again to go on")
                ctx.exit(130)
            except (click.ClickException, click.Abort, click.exceptions.Exit):
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno == errno.EPIPE:
                    raise  # the reader of a pipe went away; click ends quietly
                log.bug(error, (value for name in FOLDERS if isinstance(value := ctx.params.get(name), Path)))
                ctx.exit(1)


class Commands(click.Group):
    """A group of such commands; -q and -v may stand before or after a command's name."""

    command_class = Command

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params += _talk()

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)  # in the order of use, as they are defined


def _talk() -> list[click.Option]:
    """Fresh -q and -v; what they say is in the context's `meta`, which a group and its command share."""

    def note(ctx: click.Context, option: click.Parameter, given: bool) -> None:
        if given:
            level = LEVELS[str(option.name)]
            if ctx.meta.setdefault(__name__, level) != level:
                raise click.UsageError("-q and -v exclude each other")

    common: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": note}
    return [
        click.Option(["-q", "--quiet"], help="Only results and errors: no progress, no notes.", **common),
        click.Option(["-v", "--verbose"], help="Say more: what a run writes to its log.txt.", **common),
    ]


def _version() -> str:
    try:
        return importlib.metadata.version("mfhca")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def progress(total: int | None, unit: str, description: str, initial: int = 0) -> Any:
    """A tqdm bar with rate and remaining time on standard error; silent with -q or when that is not a terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        desc=description,
        disable=not sys.stderr.isatty() or log.level() >= log.QUIET,
        dynamic_ncols=True,
        smoothing=0.1,
    )
