"""The options that say which features of which audio are meant; `features`, `status` and `doctor` share them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mfhca_cache.recipe.choices import DEFAULT_KINDS, Settings
from mfhca_cache.recipe.kinds import ALL_LAYERS, CHOICES, DTYPES, KINDS, TAILS

FOLDER = click.Path(path_type=Path)
DEFAULTS = Settings()
# Options that decide the numbers of some kinds alone; given without any of these they would be ignored.
SOME_KINDS = {"db_reference": ("logspec", "logmel"), "compute_dtype": ("ssl",), "layer": ("ssl",)}


def layer(value: int | str) -> int | str:
    """A whole number or `all`, of --layer.

    Raises:
        click.BadParameter: it is neither.
    """
    if value == ALL_LAYERS:
        return ALL_LAYERS
    try:
        return int(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither a whole number nor {ALL_LAYERS}") from error


def chosen_kinds(asked: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds that are meant, in their order.

    Raises:
        click.UsageError: an option was given that has no meaning for any of them.
    """
    kinds = tuple(kind for kind in KINDS if kind in asked) or DEFAULT_KINDS
    context = click.get_current_context()
    for name, meant in SOME_KINDS.items():
        source = context.get_parameter_source(name)
        if not set(meant) & set(kinds) and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--{name.replace('_', '-')} has no meaning without --kind {' or '.join(meant)}"
            )
    return kinds


def recipe_options(command: Callable[..., Any], needed: bool = True) -> Callable[..., Any]:
    """Gives a command the manifest argument and the options that decide what is looked at.

    Args:
        command: the function.
        needed: whether manifest, root and cache have to be given.
    """
    disk = "" if needed else "  [default: the current folder's disk]"
    options = (
        click.argument(
            "manifest_path", metavar="MANIFEST" if needed else "[MANIFEST]", type=FOLDER, required=needed
        ),
        click.option("--root", type=FOLDER, required=needed, help="The corpus folder."),
        click.option("--cache", type=FOLDER, required=needed, help=f"The cache folder.{disk}"),
        click.option(
            "--backbone", help="Encoder: a folder, or a name on the Hugging Face hub; for kind ssl."
        ),
        click.option(
            "--kind",
            "kinds",
            type=click.Choice(KINDS),
            multiple=True,
            help=f"Features to compute; repeat for more.  [default: {', '.join(DEFAULT_KINDS)}]",
        ),
        click.option("--label-set", help="Utterances of this label set of the card.  [default: the card's]"),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default=DEFAULTS.dtype,
            show_default=True,
            help="What features are stored in.",
        ),
        click.option(
            "--compute-dtype",
            type=click.Choice(CHOICES["compute_dtype"]),
            default=DEFAULTS.compute_dtype,
            show_default=True,
            help="What the encoder computes in.",
        ),
        click.option(
            "--layer",
            type=layer,
            metavar=f"N|{ALL_LAYERS}",
            default=DEFAULTS.layer,
            show_default=True,
            help="Encoder layer: 0 enters the first, -1 is the output; all: every one (see `--dry-run`).",
        ),
        click.option(
            "--tail",
            type=click.Choice(TAILS),
            default=DEFAULTS.tail,
            show_default=True,
            help="What becomes of the last, short segment.",
        ),
        click.option(
            "--minimum-tail",
            "minimum_tail_samples",
            metavar="SAMPLES",
            type=click.IntRange(min=0),
            default=DEFAULTS.minimum_tail_samples,
            show_default=True,
            help="Drop a shorter tail (samples at 16 kHz).",
        ),
        click.option(
            "--pre-emphasis",
            type=click.FloatRange(0, 1, max_open=True),
            default=DEFAULTS.pre_emphasis,
            show_default=True,
            help="Coefficient; the released code uses 0.97.",
        ),
        click.option(
            "--db-reference",
            type=click.Choice(CHOICES["db_reference"]),
            default=DEFAULTS.db_reference,
            show_default=True,
            help="What 0 dB is in logspec and logmel.",
        ),
        click.option("--jobs", type=click.IntRange(min=1), help="Decoding threads.  [default: one a core]"),
        click.option("--allow-outside", is_flag=True, help="Follow links that leave the root."),
    )
    for option in reversed(options):
        command = option(command)
    return command
