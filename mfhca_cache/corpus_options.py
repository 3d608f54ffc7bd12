"""What the command `manifest` takes, and its help, which lists the corpora as their cards describe them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from mfhca_cache.common.console import Command
from mfhca_cache.corpora.scan import FOLDERS, NAMES
from mfhca_cache.options import FOLDER


class ManifestCommand(Command):
    """Says below its options how each corpus is to be laid out."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from mfhca_cache.manifest.card import find_card, read_card

        super().format_epilog(ctx, formatter)
        cards = [read_card(path) for path in map(find_card, NAMES) if path is not None]
        rows = [(card.name, f"{card.title}. {card.layout}") for card in cards]
        with formatter.section("Corpora"):
            formatter.write_dl(
                [*rows, (FOLDERS, "Any other with a folder for each class: happy/anna_01.wav")]
            )


def corpus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the corpus argument and the options that say where it lies and how it is read."""
    options = (
        click.argument("corpus", metavar="CORPUS", type=click.Choice((*NAMES, FOLDERS)), is_eager=True),
        click.option(
            "--root", type=FOLDER, required=True, help="The corpus folder (the demo is made there)."
        ),
        click.option("--out", type=FOLDER, help="The CSV to write.  [default: manifests/CORPUS.csv]"),
        click.option("--allow-partial", is_flag=True, help="Go on though the corpus is not complete."),
        click.option(
            "--speaker-regex",
            "speaker",
            metavar="REGEX",
            callback=_expression,
            help="For `folders`: searched for in each path below the root; its group `speaker`, else its first, "
            r"is the speaker. Example: '/(?P<speaker>[a-z]+)_\d+'",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _expression(ctx: click.Context, _: click.Parameter, text: str | None) -> re.Pattern[str] | None:
    """The --speaker-regex, which goes with `folders` and with nothing else."""
    if (text is not None) != (ctx.params.get("corpus") == FOLDERS):
        raise click.UsageError(f"--speaker-regex is for the corpus {FOLDERS!r}, which needs it")
    if text is None:
        return None
    try:
        expression = re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is not a regular expression ({error})") from error
    if not expression.groups:
        raise click.BadParameter(f"{text!r} has no group; put the part that is the speaker in brackets")
    return expression
