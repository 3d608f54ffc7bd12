"""Progress of long work, on standard error.

On a terminal a bar that changes every second; without one (a log file, a batch job) a line every half minute; in
a notebook its own bar; with -q nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import click

from mfhca_cache.common import log

BAR_SECONDS, LINE_SECONDS = 1.0, 30.0
STATUS_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt}{unit} [{elapsed}<{left}{status}]"  # with a `status`
Item = TypeVar("Item")
Status = Callable[[], tuple[float | None, str]]  # seconds left, and further text


def is_shown() -> bool:
    """Whether a bar is shown; if not, finished work is logged line by line."""
    return log.level() < log.QUIET and (_in_notebook() or sys.stderr.isatty())


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Logs how long a phase takes, and shows on a terminal that it is under way; it has no bar of its own."""
    with log.phase(name), progress(None, "", name, bar_format="{desc} [{elapsed}]", leave=False, delay=0.3):
        yield


@contextlib.contextmanager
def progress(
    total: int | None,
    unit: str,
    description: str,
    initial: int = 0,
    status: Status | None = None,
    **options: Any,
) -> Iterator[Any]:
    """A tqdm bar with rate and remaining time, or lines in its place.

    Args:
        total: steps; None if it is not known.
        unit: name of a step, after a space.
        description: what is done.
        initial: steps that are done already.
        status: gives the remaining time and the text after it whenever the bar is drawn, instead of tqdm's estimate
            and rate.
        options: of tqdm's bar on a terminal.

    Yields:
        The bar; `update(n)` counts steps, `expect(n)` sets their total.
    """
    quiet, shown = log.level() >= log.QUIET, is_shown()
    bar = _class(shown, status)(
        total=total,
        initial=initial,
        unit=unit,
        desc=description,
        disable=quiet,
        smoothing=0.1,
        **({"bar_format": STATUS_FORMAT} if status else {}),
        **({**_size(), **options} if shown else {"file": io.StringIO(), "delay": float("inf")}),
    )
    stop = threading.Event()

    def draw() -> None:
        while not stop.wait(BAR_SECONDS if shown else LINE_SECONDS):
            bar.refresh()

    drawing = threading.Thread(target=draw, daemon=True)
    if not quiet:
        drawing.start()
    try:
        with bar:
            yield bar
    finally:
        stop.set()
        if not quiet:
            drawing.join()


def each(items: Collection[Item], unit: str, description: str) -> Iterator[Item]:
    """Iterates over items with a bar."""
    with progress(len(items), unit, description) as bar:
        for item in items:
            yield item
            bar.update()


def _class(shown: bool, status: Status | None) -> Any:
    """tqdm's class, with a status in its text; without a terminal it writes lines."""
    if _in_notebook():
        from tqdm.auto import tqdm
    else:
        from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        @property
        def format_dict(self) -> dict[str, Any]:
            values: dict[str, Any] = super().format_dict
            if status:
                seconds, text = status()
                left = "?" if seconds is None else self.format_interval(seconds)
                values |= {"left": left, "status": text}
            return values

        def expect(self, total: int) -> None:
            self.total = total

    class Lines(Bar):
        """Is drawn by `refresh` alone; its own file and its infinite delay keep tqdm from drawing it."""

        def display(self, *_: object, **__: object) -> bool:
            counts = "" if not self.unit else " {n_fmt}" if self.total is None else " {n_fmt}/{total_fmt}"
            left = ", {left} left{status}" if status else "" if self.total is None else ", {remaining} left"
            form = f"{{desc}}:{counts}{{unit}} in {{elapsed}}{left}"
            text = self.format_meter(**{**self.format_dict, "ncols": None, "bar_format": form})
            click.echo(text, err=True)
            return True

    return Bar if shown else Lines


def _size() -> dict[str, Any]:
    """Options for the size of tqdm's bar: some terminals, as of containers, say 0, and tqdm would draw nothing."""
    with contextlib.suppress(OSError):
        if not _in_notebook() and os.get_terminal_size(sys.stderr.fileno()).columns == 0:
            return {"ncols": 80, "nrows": 24}
    return {"dynamic_ncols": True}


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules
