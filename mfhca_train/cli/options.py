"""Shared options of `cv` and `ablate`. Only click and the standard library are imported, so that `--help` is fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from mfhca_cache.common.cluster import cluster_options
from mfhca_cache.common.console import (
    DIR,
    FILE,
    Command,
    copies_option,
    device_option,
    jobs_option,
    threads_option,
    with_options,
)
from mfhca_train.config.defaults import PROTOCOL, THREADS

# The keys of data.folds.PROTOCOLS; a test compares them.
PROTOCOL_NAMES = ("strict", "session", "group-k", "oracle", "oracle-matched", "corpus", "column")
TRACKERS = ("tensorboard", "mlflow")  # those of tracking.tracker; a test compares them


class RunCommand(Command):
    """A command with --set; the message about an option that does not exist names the setting that is meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from mfhca_train.config.parse import FIELDS

            end = "." + error.option_name.lstrip("-").replace("-", "_")
            if names := [name for name in FIELDS if name.endswith(end)]:
                message = f"there is no option {error.option_name}; write --set {names[0]}=VALUE"
                raise click.NoSuchOption(error.option_name, message, ctx=ctx) from None
            raise


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options for settings; the command gets `preset`, `settings` and `config_file`."""
    options = (
        click.option(
            "--preset",
            metavar="NAME",
            help="A complete set of settings instead of the corpus card's: paper, released or small.  [default: the "
            "card's; without a card, small below 2,000 utterances]",
        ),
        click.option(
            "--config",
            "config_file",
            type=FILE,
            metavar="FILE.toml",
            help="Settings from a file; see `mfhca-train config --toml`.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A setting, e.g. model.hca=channel or train.lr=1e-4. Precedence: --set, --config, a grid's base, "
            "--preset, the corpus card, the defaults. `mfhca-train config` lists all settings.",
        ),
    )
    return with_options(command, options)


def run_options(seeds: int, protocol: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options of a run.

    Args:
        seeds: default number of seeds.
        protocol: the default; None leaves it to the command.
    """
    options = (
        click.option(
            "--cache",
            required=True,
            multiple=True,
            type=DIR,
            help="The cache folder of mfhca-cache features: one for all manifests, or one for each, in their order.",
        ),
        click.option(
            "--out", required=True, type=DIR, help="The run folder; an interrupted run resumes there."
        ),
        click.option(
            "--label-set",
            metavar="NAME",
            help="The label set: the class of each label; of several corpora CORPUS=NAME,CORPUS=NAME, or one name for "
            "all.  [default: the corpus card's]",
        ),
        click.option(
            "--map",
            "class_map",
            multiple=True,
            metavar="CORPUS/THEIRS=OURS",
            help="Of several corpora: what class a class of one becomes; nothing after the = leaves it out. Or a TOML "
            "file with a table [CORPUS] of such lines (repeat for more).",
        ),
        click.option(
            "--protocol",
            type=click.Choice(PROTOCOL_NAMES),
            default=protocol,
            show_default=bool(protocol) or f"the grid's, else {PROTOCOL}",
            help="How speakers are divided into training, validation and test.",
        ),
        setting_options,
        click.option(
            "--fold", "folds", multiple=True, metavar="ID", help="Only this fold (repeat for more)."
        ),
        click.option(
            "--seeds",
            metavar="N",
            type=click.IntRange(1),
            default=seeds,
            show_default=True,
            help="Number of seeds: 0, 1, ...",
        ),
        threads_option("Threads per fold", THREADS),
        jobs_option("Folds trained in parallel", "by cores and memory"),
        device_option("Where to train."),
        click.option("--spec", metavar="NAME", help="The spectrogram recipe, if the cache has several."),
        click.option("--ssl", metavar="NAME", help="The speech encoder, if the cache has several."),
        click.option(
            "--no-analysis",
            "analysis",
            flag_value=False,
            type=bool,
            default=True,
            help="Skip the analysis of features and attention of the trained networks.",
        ),
        click.option(
            "--root",
            multiple=True,
            type=DIR,
            help="The folder of the audio, one for each manifest: refuses features of other audio, and shows waveforms "
            "in the analysis.  [default: levels only]",
        ),
        click.option(
            "--track",
            multiple=True,
            type=click.Choice(TRACKERS),
            help="Also send every epoch to this tracker: event files in OUT/tensorboard, or MLflow (repeat for both).",
        ),
        copies_option(),
        click.option(
            "--accept-untrained",
            is_flag=True,
            help="Accept folds whose test speakers have a class that no training speaker has; it counts as errors.",
        ),
        cluster_options(),
    )
    return lambda command: with_options(command, options)
