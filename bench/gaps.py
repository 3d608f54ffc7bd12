"""Runs a command on a pseudo-terminal and lists the times in which nothing changed on the screen.

    python -m bench.gaps make cv

The screen must change at least every two seconds while a command works, so that nobody takes it for dead.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

LONGEST = 2.0  # seconds without a change
SIZE = (24, 100)  # lines, columns
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Gap(NamedTuple):
    """A time without a change: seconds since the start, its length in seconds, and the line last written before."""

    start: float
    seconds: float
    line: str


def record(command: Sequence[str]) -> Iterator[tuple[float, str]]:
    """Runs a command on a terminal of its own.

    Yields:
        What it wrote, with the seconds since its start; at its end an empty text.
    """
    start = time.monotonic()
    process, terminal = pty.fork()
    if process == 0:
        os.execvp(command[0], list(command))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
    while True:
        try:
            written = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed
            written = b""
        yield time.monotonic() - start, written.decode("utf-8", "replace")
        if not written:
            break
    os.waitpid(process, 0)


def gaps(session: Iterable[tuple[float, str]], longest: float = LONGEST) -> Iterator[Gap]:
    """The times in which the last line stayed the same; drawing it again is no change.

    >>> list(gaps([(0, "a\\r\\n"), (1, "b 1"), (2, "\\rb 1"), (4, "\\rb 2"), (5, "")]))
    [Gap(start=1, seconds=3, line='b 1')]
    """
    changed, line = 0.0, ""
    for moment, text in session:
        lines = [part.strip() for part in re.split(r"[\r\n]+", CONTROL.sub("", text)) if part.strip()]
        if text and (not lines or lines == [line]):
            continue
        if moment - changed > longest:
            yield Gap(changed, moment - changed, line)
        changed, line = moment, lines[-1] if lines else line


def main() -> None:
    """Runs the command of the arguments, and fails if there were gaps."""
    session = []
    for moment, text in record(sys.argv[1:]):
        session.append((moment, text))
        os.write(1, text.encode())
    found = list(gaps(session))
    for gap in found:
        print(f"{gap.seconds:5.1f} s without a change after {gap.start:.1f} s: {gap.line[:80]}")
    print(
        f"{len(found)} times longer than {LONGEST:g} s; load {os.getloadavg()[0]:.1f}; {session[-1][0]:.0f} s in all"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
