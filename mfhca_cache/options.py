"""Shared options of the commands: the corpus of `manifest`, and the features of `features`, `status` and `doctor`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfhca_cache.common.console import DIR, FILE, Command, jobs_option, with_options
from mfhca_cache.common.errors import did_you_mean
from mfhca_cache.corpora.scan import FOLDERS, FORMATS, NAMES
from mfhca_cache.recipe.choices import DEFAULT_KINDS, KINDS_OF_OPTION, Settings
from mfhca_cache.recipe.kinds import ALL_LAYERS, CHOICES, DTYPES, KINDS, TAILS

if TYPE_CHECKING:
    from mfhca_cache.build.compute import Request

DEFAULTS = Settings()


class CorpusName(click.Choice):  # type: ignore[type-arg]  # click 8.1 has no type argument
    """One of the corpora; the message about another name has the nearest one."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            self.fail(f"there is no corpus {value!r}; {did_you_mean(value, self.choices)}", param, ctx)
        return value


class ManifestCommand(Command):
    """Lists below the options how the folder of each corpus must be organised."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from mfhca_cache.manifest.card import find_card, read_card

        super().format_epilog(ctx, formatter)
        cards = [read_card(path) for path in map(find_card, NAMES) if path is not None]
        rows = [(card.name, f"{card.title}. {card.layout}") for card in cards]
        with formatter.section("Corpora"):
            formatter.write_dl(
                [*rows, (FOLDERS, "Any other, one folder per class: happy/anna_01.wav"), *FORMATS.items()]
            )


def corpus_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the corpus argument and the options for its folder and its manifest."""
    options = (
        click.argument(
            "corpus", metavar="CORPUS", type=CorpusName((*NAMES, FOLDERS, *FORMATS)), is_eager=True
        ),
        click.argument("source", metavar="[FILE]", type=FILE, required=False),
        click.option(
            "--root", type=DIR, required=True, help="The corpus folder (the demo is created in it)."
        ),
        click.option(
            "--out",
            type=FILE,
            help="The CSV to write.  [default: manifests/CORPUS.csv, or the name of FILE]",
        ),
        click.option("--allow-partial", is_flag=True, help="Accept an incomplete corpus."),
        click.option(
            "--speaker-regex",
            "speaker",
            metavar="REGEX",
            callback=_regex,
            help="For `folders`: searched in each path below the root; its group `speaker`, or else its first group, "
            r"is the speaker. Example: '/(?P<speaker>[a-z]+)_\d+'",
        ),
        click.option(
            "--emotion-regex",
            "emotion",
            metavar="REGEX",
            callback=_regex,
            help="For `folders`: finds the class in each path.  [default: the folder of the file]",
        ),
        click.option(
            "--gender-regex",
            "gender",
            metavar="REGEX",
            callback=_regex,
            help="For `folders`: finds the gender in each path.",
        ),
        click.option(
            "--column",
            "columns",
            metavar="NAME=COLUMN",
            multiple=True,
            callback=_columns,
            help="For a FILE: the column to take for utterance, path, speaker, emotion, session, gender, fold, start_s "
            "or end_s; repeat for more. The others are guessed from common names.",
        ),
    )
    return with_options(command, options)


def _regex(ctx: click.Context, option: click.Parameter, text: str | None) -> re.Pattern[str] | None:
    """Compiles an expression for `folders`, which requires that of the speaker; the other corpora have none."""
    folders = ctx.params.get("corpus") == FOLDERS
    if option.name == "speaker" and (text is not None) != folders:
        raise click.UsageError(f"--speaker-regex is for the corpus {FOLDERS!r}, which needs it")
    if text is None:
        return None
    if not folders:
        raise click.UsageError(f"--{option.name}-regex is for the corpus {FOLDERS!r}")
    try:
        expression = re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r} is not a regular expression ({error})") from error
    if not expression.groups:
        raise click.BadParameter(
            f"{text!r} has no group; put the part that is the {option.name} in parentheses"
        )
    return expression


def _columns(ctx: click.Context, _: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Parses --column, and refuses it and FILE for corpora that are read from their folder."""
    corpus = ctx.params.get("corpus")
    if corpus not in FORMATS and (given or ctx.params.get("source")):
        raise click.UsageError(
            f"FILE and --column are for {', '.join(FORMATS)}; {corpus} is read from --root"
        )
    pairs = [text.partition("=") for text in given]
    for name, equals, column in pairs:
        if not (name and equals and column):
            raise click.BadParameter(f"{name + equals + column!r}: write NAME=COLUMN, such as speaker=spk")
    columns = {name: column for name, _, column in pairs}
    if len(columns) < len(pairs):
        raise click.BadParameter("gives one column twice")
    return columns


def parse_layer(value: int | str) -> int | str:
    """Parses --layer: an integer or `all`.

    Raises:
        click.BadParameter: it is neither.
    """
    if value == ALL_LAYERS:
        return ALL_LAYERS
    try:
        return int(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither an integer nor {ALL_LAYERS}") from error


def select_kinds(requested: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of features to compute, in their fixed order.

    Raises:
        click.UsageError: an option was given that affects none of them.
    """
    kinds = tuple(kind for kind in KINDS if kind in requested) or DEFAULT_KINDS
    context = click.get_current_context()
    for option, affected in KINDS_OF_OPTION.items():
        given = context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE
        if given and not set(affected) & set(kinds):
            raise click.UsageError(
                f"--{option.replace('_', '-')} has no effect without --kind {' or '.join(affected)}"
            )
    return kinds


def recipe_options(command: Callable[..., Any], required: bool = True) -> Callable[..., Any]:
    """Adds the manifest argument and the options that determine the features.

    Args:
        command: the function.
        required: whether manifest, root and cache must be given.
    """
    disk = "" if required else "  [default: the current folder's disk]"
    options = (
        click.argument(
            "manifest_path",
            metavar="MANIFEST" if required else "[MANIFEST]",
            type=FILE,
            required=required,
        ),
        click.option("--root", type=DIR, required=required, help="The corpus folder."),
        click.option("--cache", type=DIR, required=required, help=f"The cache folder.{disk}"),
        click.option(
            "--backbone",
            metavar="ENCODER",
            help="Encoder for kind ssl: a folder, or a name on the Hugging Face hub.",
        ),
        click.option(
            "--kind",
            "kinds",
            type=click.Choice(tuple(KINDS)),
            multiple=True,
            help=f"Features to compute (repeat for more).  [default: {', '.join(DEFAULT_KINDS)}]",
        ),
        click.option(
            "--label-set",
            metavar="NAME",
            help="Use the utterances of this label set.  [default: the corpus card's]",
        ),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default=DEFAULTS.dtype,
            show_default=True,
            help="Data type of stored features.",
        ),
        click.option(
            "--compute-dtype",
            type=click.Choice(CHOICES["compute_dtype"]),
            default=DEFAULTS.compute_dtype,
            show_default=True,
            help="Data type of the encoder's arithmetic.",
        ),
        click.option(
            "--layer",
            type=parse_layer,
            metavar=f"N|{ALL_LAYERS}",
            default=DEFAULTS.layer,
            show_default=True,
            help="Encoder layer: 0 is the input of the first, -1 the final output; all: every layer.",
        ),
        click.option(
            "--tail",
            type=click.Choice(TAILS),
            default=DEFAULTS.tail,
            show_default=True,
            help="How to handle a short final segment.",
        ),
        click.option(
            "--minimum-tail",
            "minimum_tail_samples",
            metavar="SAMPLES",
            type=click.IntRange(min=0),
            default=DEFAULTS.minimum_tail_samples,
            help="Drop a shorter final segment (samples at 16 kHz).  [default: the corpus card's, else 0]",
        ),
        click.option(
            "--pre-emphasis",
            metavar="NUMBER",
            type=click.FloatRange(0, 1, max_open=True),
            default=DEFAULTS.pre_emphasis,
            show_default=True,
            help="Pre-emphasis coefficient; the released code uses 0.97.",
        ),
        click.option(
            "--db-reference",
            type=click.Choice(CHOICES["db_reference"]),
            default=DEFAULTS.db_reference,
            show_default=True,
            help="The level of 0 dB in logspec and logmel.",
        ),
        jobs_option("Threads for decoding audio", "one per core"),
        click.option("--allow-outside", is_flag=True, help="Follow links that lead out of the root."),
    )
    return with_options(command, options)


def make_request(
    manifest_path: Path,
    root: Path,
    cache: Path,
    backbone: str | None,
    kinds: tuple[str, ...],
    label_set: str | None,
    jobs: int | None,
    allow_outside: bool,
    **recipe: Any,
) -> Request:
    """The options that `features` and `status` share.

    Raises:
        click.UsageError: options that do not fit together.
    """
    kinds = select_kinds(kinds)
    if "ssl" in kinds and backbone is None:
        raise click.UsageError("kind ssl needs --backbone (or choose --kind logspec only)")
    from mfhca_cache.build.compute import Request

    settings = Settings(kinds=kinds, **recipe)
    return Request(manifest_path, root, cache, settings, backbone, label_set, jobs, allow_outside)
