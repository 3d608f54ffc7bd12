"""What a command says besides its results: a little to the terminal, all of it to the log of a run folder.

There is one logger. DEBUG is for the log and for `-v`, INFO and above also for the
terminal; `-q` leaves errors alone. Before a command knows its run folder, what it
says is kept, and written there later. A line of the log is an event; what belongs to
the same event is indented. Nothing here decides a result.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import click

LOG: Final = logging.getLogger("mfhca")
LOG.setLevel(logging.DEBUG)
FILE: Final = "log.txt"
QUIET, USUAL, VERBOSE = logging.ERROR, logging.INFO, logging.DEBUG
KEPT_RECORDS: Final = 10_000  # before there is a file to write them to
Handler = TypeVar("Handler", bound=logging.Handler)


class _Lines(logging.Formatter):
    """`warning: ` and `error: ` before what is one; further lines are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{'error' if record.levelno >= logging.ERROR else 'warning'}: {text}"
        return text


class _StampedLines(_Lines):
    """The same after the local time and its distance from UTC."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(record.created))
        return f"{stamp} {super().format(record)}".replace("\n", "\n    ")


class _Terminal(logging.Handler):
    """Standard error, above a progress bar if there is one; tracebacks only with -v."""

    def emit(self, record: logging.LogRecord) -> None:
        text = _Lines().format(record) if self.level <= VERBOSE else _Lines().formatMessage(record)
        bars = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode(sys.stderr) if bars else contextlib.nullcontext():
            click.echo(text, err=True)


class _File(logging.Handler):
    """Appends each event in one call, so that processes may share the file. A full disk loses it, no more."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.setFormatter(_StampedLines())

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        os.close(self._descriptor)
        super().close()


class _Kept(logging.Handler):
    """Keeps records, ready to be written later or by another process."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.records) < KEPT_RECORDS:
            record.msg, record.args = record.getMessage(), None  # whatever it names may not be sendable
            self.records.append(record)


@contextlib.contextmanager
def command(level: int) -> Iterator[None]:
    """Around a whole command: what is said goes to the terminal from this level on, and is kept for a log."""
    with _handling(_Terminal(level), _Kept()):
        try:
            yield
        finally:
            for handler in _handlers(_File):
                _remove(handler)


@contextlib.contextmanager
def to(path: Path) -> Iterator[None]:
    """What is said from here on is appended to a file, after what was kept for it.

    Within a command it stays so until the command's end. A file that cannot be opened is
    worth a warning, but not the run.
    """
    opened: _File | None = None
    try:
        opened = _File(path)
    except OSError as error:
        LOG.warning("%s: cannot be written (%s); this run goes on without a log", path, error.strerror)
    if opened is None:
        yield
        return
    for other in _handlers(_File):
        _remove(other)
    early = _handlers(_Kept)
    for keeper in early:
        for record in keeper.records:
            opened.handle(record)
        _remove(keeper)
    with _handling(opened, remove=not early):
        yield


@contextlib.contextmanager
def worker(path: Path | None, level: int) -> Iterator[None]:
    """In another process of the same machine: the log and the terminal of the one that sent the work."""
    with _handling(_Terminal(level)), to(path) if path is not None else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def kept() -> Iterator[list[logging.LogRecord]]:
    """In a process of another machine: what is said, to be sent back and handed to `tell`."""
    keeper = _Kept()
    with _handling(keeper):
        yield keeper.records


def tell(records: Iterable[logging.LogRecord]) -> None:
    """Says again what another process has said."""
    for record in records:
        LOG.handle(record)


def path() -> Path | None:
    """The file that is written to now."""
    return next((handler.path for handler in _handlers(_File)), None)


def level() -> int:
    """From which level on the terminal is told."""
    return next((handler.level for handler in _handlers(_Terminal)), USUAL)


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
    """Notes how long something took."""
    start = time.monotonic()
    yield
    LOG.debug("%s: %.2f s", what, time.monotonic() - start)


def bug(error: BaseException, folders: Iterable[Path]) -> None:
    """Writes an unforeseen error's traceback to the log, and says where.

    Args:
        error: what was raised.
        folders: where a log may be begun if there is none; those that do not exist are passed over. The
            system's folder for temporary files is the last resort.
    """
    for folder in folders:
        if path() is None and folder.is_dir() and os.access(folder, os.W_OK):
            with to(folder / FILE):
                pass
    if path() is None:
        descriptor, name = tempfile.mkstemp(".txt", "mfhca-log-")
        os.close(descriptor)
        with to(Path(name)):
            pass
    what = " ".join(f"{type(error).__name__}: {error}".split())
    LOG.error(
        "this was not foreseen (%s); please report it with the traceback, which is in %s",
        what if len(what) < 300 else f"{what[:300]}...",
        path() or "no file, for none could be written; run again with -v",
        exc_info=error,
    )


@contextlib.contextmanager
def _handling(*handlers: logging.Handler, remove: bool = True) -> Iterator[None]:
    """Adds handlers for a while; Python's warnings go the same way."""
    alone, show = LOG.propagate, warnings.showwarning
    for handler in handlers:
        LOG.addHandler(handler)
    LOG.propagate = False
    warnings.showwarning = _warned
    try:
        yield
    finally:
        LOG.propagate, warnings.showwarning = alone, show
        if remove:
            for handler in handlers:
                _remove(handler)


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    LOG.warning("%s (%s, %s:%d)", " ".join(str(message).split()), category.__name__, filename, lineno)


def _handlers(kind: type[Handler]) -> list[Handler]:
    return [handler for handler in LOG.handlers if isinstance(handler, kind)]


def _remove(handler: logging.Handler) -> None:
    if handler in LOG.handlers:
        LOG.removeHandler(handler)
        handler.close()
