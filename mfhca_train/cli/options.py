"""The options that `cv` and `ablate` share. Standard library and click only, so that `--help` is quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mfhca_cache.common.cluster import cluster_options
from mfhca_cache.common.console import copies_option

PROTOCOL_NAMES = ("strict", "session", "group-k", "oracle", "oracle-matched")  # folds.PROTOCOLS; tested
FOLDER = click.Path(path_type=Path)


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the options that change settings; it is called with `settings` and `config_file`."""
    options = (
        click.option(
            "--config",
            "config_file",
            type=FOLDER,
            metavar="FILE.toml",
            help="Settings from a file; see `mfhca-train config --toml`.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A setting, e.g. model.hca=channel or train.lr=1e-4. It wins over --config, that over a "
            "grid's base, that over the corpus card, that over the defaults; `mfhca-train config` shows all.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def run_options(seeds: int, protocol: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Gives a command the options of a run.

    Args:
        seeds: how many by default.
        protocol: the default; None leaves it to the command.
    """
    options = (
        click.option("--cache", required=True, type=FOLDER, help="Folder that mfhca-cache features filled."),
        click.option("--out", required=True, type=FOLDER, help="Run folder; a stopped run goes on there."),
        click.option("--label-set", help="Which labels become which classes; default: the corpus card's."),
        click.option(
            "--protocol",
            type=click.Choice(PROTOCOL_NAMES),
            default=protocol,
            show_default=bool(protocol) or "the grid's, else strict",
            help="Who trains, selects the epoch, is tested.",
        ),
        setting_options,
        click.option(
            "--fold", "folds", multiple=True, metavar="ID", help="Only this fold (repeat for more)."
        ),
        click.option(
            "--seeds",
            type=click.IntRange(1),
            default=seeds,
            show_default=True,
            help="How many seeds: 0, 1, ...",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Threads per fold; changes last digits.",
        ),
        click.option(
            "--jobs", type=click.IntRange(1), help="Folds side by side; default: as many as the cores allow."
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps."),
        click.option(
            "--spec", metavar="NAME", help="Which spectrogram recipe, where the cache holds several."
        ),
        click.option(
            "--ssl", metavar="NAME", help="Which encoder's features, where the cache holds several."
        ),
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
            type=FOLDER,
            help="Folder of the audio: these pictures then show waveforms.  [default: only levels]",
        ),
        copies_option(),
        cluster_options("loky"),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
