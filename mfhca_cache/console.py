"""How the two commands speak: foreseen failures in plain words, progress only to a terminal."""

from __future__ import annotations

import math
import sys
from typing import Any

import click

from mfhca_cache.errors import MfhcaError


class Commands(click.Group):
    """A click group whose commands end with exit code 1 and plain words on a foreseen failure."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MfhcaError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted; run the same command again to go on", err=True)
            ctx.exit(130)


def byte_count(count: float) -> str:
    """Bytes for people.

    >>> byte_count(999), byte_count(1_530_000)
    ('999 B', '1.5 MB')
    """
    if count < 1000:
        return f"{count:.0f} B"
    power = min(4, int(math.log10(count)) // 3)
    return f"{count / 1000**power:.1f} {' kMGT'[power]}B"


def progress(total: int | None, unit: str, description: str, initial: int = 0) -> Any:
    """A tqdm bar with rate and remaining time on standard error; silent when that is not a terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=initial,
        unit=unit,
        desc=description,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
        smoothing=0.1,
    )
