"""Starting a command so that it shows a clock, and Ctrl-C or a full disk is one line even before its code runs."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
FIRST_SECONDS, TICK_SECONDS = 0.7, 1.0  # before the clock is drawn, and between two drawings
QUIET: Final = {"-q", "--quiet"}


def start(module: str, arguments: list[str] | None = None) -> None:
    """Imports the module of a command and calls its `main`; Ctrl-C ends it with exit code 130.

    Args:
        module: full name of the module.
        arguments: of the command; None for those of this process.
    """
    # Python looks for garbage once more when it ends, which takes seconds with PyTorch's objects.
    atexit.register(gc.freeze)
    # The caller may have closed streams, as some services do. A file of ours must not get their numbers: libraries
    # write messages to number 2.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors="replace"))  # noqa: SIM115 - never closed
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # so it was set before this module was imported
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with clock(sys.argv if arguments is None else [sys.argv[0], *arguments]):
            importlib.import_module(module).main(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to resume\n")
        sys.stderr.flush()
        # Libraries that were interrupted while being imported may print tracebacks in their exit handlers.
        os._exit(130)
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        sys.stderr.write(f"error: the output cannot be written ({error.strerror}); free disk space\n")
        # What is still buffered cannot be written either: Python would try again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)


@contextlib.contextmanager
def clock(words: list[str]) -> Iterator[None]:
    """Shows on a terminal that a command works and for how long, until anything else is written.

    Args:
        words: of the command line; -q among them hides the clock.
    """
    if not sys.stderr.isatty() or QUIET & set(words):
        yield
        return
    streams, terminal = (sys.stdout, sys.stderr), sys.stderr
    path = Path(words[0])
    program = (path.parent if path.name == "__main__.py" else path).name  # the package after `python -m`
    name = " ".join([program, *(word for word in words[1:2] if word.isalpha())])
    stopped, drawing, begun = threading.Event(), threading.Lock(), time.monotonic()

    def draw() -> None:
        seconds = FIRST_SECONDS
        while not stopped.wait(seconds):
            with drawing:
                if not stopped.is_set():
                    terminal.write(f"\r{name}: {time.monotonic() - begun:.0f} s")
                    terminal.flush()
            seconds = TICK_SECONDS

    def stop() -> None:
        with drawing:
            if not stopped.is_set():
                stopped.set()
                sys.stdout, sys.stderr = streams
                if time.monotonic() - begun > FIRST_SECONDS:
                    terminal.write("\r\x1b[K")
                    terminal.flush()

    sys.stdout, sys.stderr = _Watched(streams[0], stop), _Watched(streams[1], stop)
    threading.Thread(target=draw, daemon=True).start()
    try:
        yield
    finally:
        stop()


class _Watched:
    """A stream that calls a function before anything is written."""

    def __init__(self, stream: Any, before: Callable[[], None]) -> None:
        self._stream, self._before = stream, before

    def write(self, text: str) -> int:
        self._before()
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
