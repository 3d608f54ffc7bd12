"""Logging of the commands: to the terminal, and to log.txt in a run folder.

There is one logger. DEBUG messages go to log.txt, and to the terminal with `-v`; INFO
and above go to both; `-q` shows errors only. Messages logged before the run folder is
known are buffered and written to log.txt later. Each line of log.txt is one event;
further lines of the same event are indented.
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

from mfhca_cache.common.files import NEW_FILE_MODE
from mfhca_cache.common.text import printable

LOG: Final = logging.getLogger("mfhca")
LOG.setLevel(logging.DEBUG)
FILE: Final = "log.txt"
QUIET, USUAL, VERBOSE = logging.ERROR, logging.INFO, logging.DEBUG
COLOURS: Final = {logging.ERROR: "red", logging.WARNING: "yellow"}
BUFFERED_RECORDS: Final = 10_000  # until log.txt is opened
Handler = TypeVar("Handler", bound=logging.Handler)


class _Lines(logging.Formatter):
    """Puts `warning: ` or `error: ` before messages of these levels."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = printable(record.getMessage())
        if record.levelno >= logging.WARNING:
            text = f"{'error' if record.levelno >= logging.ERROR else 'warning'}: {text}"
        return text


class _StampedLines(_Lines):
    """The same after a time stamp (local time and UTC offset); further lines are indented."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(record.created))
        return f"{stamp} {super().format(record)}".replace("\n", "\n    ")


class _Terminal(logging.Handler):
    """Writes to standard error, above a progress bar if there is one; tracebacks only with -v."""

    def emit(self, record: logging.LogRecord) -> None:
        text = _Lines().format(record) if self.level <= VERBOSE else _Lines().formatMessage(record)
        bars = sys.modules.get("tqdm")
        for level, colour in COLOURS.items():
            if record.levelno == level:
                word, colon, rest = text.partition(":")
                text = click.style(word + colon, fg=colour, bold=True) + rest
        with bars.tqdm.external_write_mode(sys.stderr) if bars else contextlib.nullcontext():
            # Without a terminal click removes the colours itself.
            click.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)


class _File(logging.Handler):
    """Appends each event with one write, so that processes can share the file. On a full disk the event is lost."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, NEW_FILE_MODE)
        self.setFormatter(_StampedLines())

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            os.write(self._descriptor, f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        os.close(self._descriptor)
        super().close()


class _Buffer(logging.Handler):
    """Stores records, to be logged later or by another process."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.records) < BUFFERED_RECORDS:
            record.msg, record.args = record.getMessage(), None  # the arguments may not be picklable
            self.records.append(record)


@contextlib.contextmanager
def command(level: int) -> Iterator[None]:
    """Context of a whole command: logs to the terminal from this level on, and buffers for log.txt."""
    with _handling(_Terminal(level), _Buffer()):
        try:
            yield
        finally:
            for handler in _handlers(_File):
                _remove(handler)


@contextlib.contextmanager
def to(path: Path) -> Iterator[None]:
    """Appends the buffered and all further messages to a file.

    Inside a command this lasts until the command ends. A file that cannot be opened gives a
    warning and does not end the run.
    """
    opened: _File | None = None
    try:
        opened = _File(path)
    except OSError as error:
        LOG.warning("%s: cannot be written (%s); this run continues without a log", path, error.strerror)
    if opened is None:
        yield
        return
    for other in _handlers(_File):
        _remove(other)
    buffers = _handlers(_Buffer)
    for buffer in buffers:
        for record in buffer.records:
            opened.handle(record)
        _remove(buffer)
    with _handling(opened, remove=not buffers):
        yield


@contextlib.contextmanager
def worker(path: Path | None, level: int) -> Iterator[None]:
    """Context of a worker process on the same machine: logs to the log file and terminal of its parent."""
    with _handling(_Terminal(level)), to(path) if path is not None else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def collect() -> Iterator[list[logging.LogRecord]]:
    """Context of a worker on another machine: collects its records, to be sent back to `replay`."""
    buffer = _Buffer()
    with _handling(buffer):
        yield buffer.records


def replay(records: Iterable[logging.LogRecord]) -> None:
    """Logs the records that another process collected."""
    for record in records:
        LOG.handle(record)


def path() -> Path | None:
    """The current log file, or None."""
    return next((handler.path for handler in _handlers(_File)), None)


def level() -> int:
    """The lowest level shown on the terminal."""
    return next((handler.level for handler in _handlers(_Terminal)), USUAL)


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Logs how long a phase of a command takes."""
    start = time.monotonic()
    yield
    LOG.debug("%s: %.2f s", name, time.monotonic() - start)


def bug(error: BaseException, folders: Iterable[Path]) -> None:
    """Writes the traceback of an unexpected error to the log, and logs where it is.

    Args:
        error: the exception.
        folders: candidates for a new log if there is none; missing ones are skipped. The last resort is the
            system's folder for temporary files.
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
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    LOG.error(
        "unexpected error (%s); please report it with the traceback, which is in %s",
        summary if len(summary) < 300 else f"{summary[:300]}...",
        path() or "no file, as none could be written; run again with -v",
        exc_info=error,
    )


@contextlib.contextmanager
def _handling(*handlers: logging.Handler, remove: bool = True) -> Iterator[None]:
    """Adds handlers temporarily; Python's warnings are logged as well."""
    propagate, show = LOG.propagate, warnings.showwarning
    for handler in handlers:
        LOG.addHandler(handler)
    LOG.propagate = False
    warnings.showwarning = _log_warning
    try:
        yield
    finally:
        LOG.propagate, warnings.showwarning = propagate, show
        if remove:
            for handler in handlers:
                _remove(handler)


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    LOG.warning("%s (%s, %s:%d)", " ".join(str(message).split()), category.__name__, filename, lineno)


def _handlers(kind: type[Handler]) -> list[Handler]:
    return [handler for handler in LOG.handlers if isinstance(handler, kind)]


def _remove(handler: logging.Handler) -> None:
    if handler in LOG.handlers:
        LOG.removeHandler(handler)
        handler.close()
