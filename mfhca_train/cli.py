"""The command `mfhca-train`: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path

import click

from mfhca_cache.cluster import Cluster, cluster_options
from mfhca_cache.console import Commands

PROTOCOL_NAMES = ("strict", "session", "group-k", "oracle", "oracle-matched")  # folds.PROTOCOLS; tested


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mfhca")
def main() -> None:
    """Train and judge MFHCA from a cache of features (made by mfhca-cache)."""


@main.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option(
    "--cache", required=True, type=click.Path(path_type=Path), help="Folder that mfhca-cache features filled."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder; a stopped run goes on there."
)
@click.option("--label-set", help="Which labels become which classes; default: the corpus card's.")
@click.option("--protocol", type=click.Choice(PROTOCOL_NAMES), default="strict", show_default=True)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting, e.g. model.hca=channel or train.lr=1e-4.",
)
@click.option("--fold", "folds", multiple=True, metavar="ID", help="Only this fold (repeat for more).")
@click.option(
    "--seeds", type=click.IntRange(1), default=1, show_default=True, help="How many seeds: 0, 1, ..."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads per fold; changes last digits.",
)
@click.option(
    "--jobs", type=click.IntRange(1), help="Folds side by side; default: as many as the cores allow."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
@click.option("--spec", metavar="NAME", help="Which spectrogram recipe, where the cache holds several.")
@click.option("--ssl", metavar="NAME", help="Which encoder's features, where the cache holds several.")
@cluster_options("loky")
def cv(
    manifest: Path,
    cache: Path,
    out: Path,
    label_set: str | None,
    protocol: str,
    settings: tuple[str, ...],
    folds: tuple[str, ...],
    seeds: int,
    threads: int,
    jobs: int | None,
    device: str,
    spec: str | None,
    ssl: str | None,
    cluster: Cluster | None,
) -> None:
    """Cross-validate over speakers: train, select and test every fold; write results.json and report.html."""
    if cluster is not None and jobs is not None:
        raise click.UsageError("--jobs has no meaning with --backend dask; there are as many as workers")
    from mfhca_train.crossval import Request, cross_validate
    from mfhca_train.results import table

    config = resolve_config(manifest, settings)
    request = Request(
        manifest,
        cache,
        out,
        config,
        protocol,
        label_set,
        spec,
        ssl,
        folds,
        tuple(range(seeds)),
        threads,
        jobs,
        device,
        cluster,
    )
    results = cross_validate(request)
    click.echo(table(results))
    click.echo(f"{out / 'results.json'}\n{out / 'report.html'}")


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
def report(runs: tuple[Path, ...]) -> None:
    """Write report.html of finished runs anew."""
    from mfhca_train.report import write_report

    for run in runs:
        click.echo(write_report(run))


def resolve_config(manifest: Path, settings: tuple[str, ...]):  # type: ignore[no-untyped-def]
    """Defaults, then the corpus card's settings, then --set.

    Raises:
        click.UsageError: a --set without "=".
        MfhcaError: an unknown setting or a value that does not fit.
    """
    from mfhca_cache.manifest import read_manifest
    from mfhca_train.config import Config, with_settings

    for text in settings:
        if "=" not in text:
            raise click.UsageError(f"--set {text}: write NAME=VALUE")
    card = read_manifest(manifest).card
    config = with_settings(Config(), card.settings if card else {})
    return with_settings(
        config, [(name, value) for name, _, value in (text.partition("=") for text in settings)]
    )
