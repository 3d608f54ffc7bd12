"""How the two commands speak: foreseen failures in plain words, progress only to a terminal."""

from __future__ import annotations

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
