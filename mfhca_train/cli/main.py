"""The command `mfhca-train`: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfhca_cache.common.columns import terminal_width
from mfhca_cache.common.console import DIR, FILE, Commands, echo
from mfhca_train.cli.export import export
from mfhca_train.cli.inference import evaluate, predict
from mfhca_train.cli.options import PROTOCOL_NAMES as PROTOCOL_NAMES
from mfhca_train.cli.options import RunCommand, run_options, setting_options
from mfhca_train.cli.reports import compare, report, runs
from mfhca_train.config.defaults import ABLATION_SEEDS, PROTOCOL, SEEDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mfhca_train.config.sources import Resolved
    from mfhca_train.runs.plan import Request

# The keys of rescore.POOLINGS; a test compares them.
POOLING_NAMES = ("mean", "duration", "majority", "maximum")

# A test compares them.
CACHE_COMMANDS = ("doctor", "manifest", "features", "status", "verify", "prune", "import", "export")

DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Show what would be trained and about how long it takes."
)


@click.group(
    cls=Commands,
    other="mfhca-cache",
    elsewhere=CACHE_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mfhca")
def main() -> None:
    """Train and evaluate MFHCA on cached features (see mfhca-cache)."""


@main.command(cls=RunCommand)
@click.argument("manifest", metavar="MANIFEST...", nargs=-1, required=True, type=FILE)
@run_options(seeds=SEEDS, protocol=PROTOCOL)
@DRY_RUN
def cv(dry_run: bool, **options: Any) -> None:
    """Cross-validate over speakers: train, select and test every fold; write results.json and report.html.

    Several manifests are trained on as one corpus; protocol corpus tests each of them once. The log is log.txt in the
    run folder. For example:

    \b
      mfhca-train cv my.csv --cache cache/mine --out runs/mine --seeds 3
    """
    request = _request(options)
    if dry_run:
        from mfhca_train.runs.dry_run import describe

        for line in describe(request):
            echo(line)
        return
    from mfhca_train.runs.crossval import cross_validate

    _show(request.out, cross_validate(request))


@main.command(cls=RunCommand)
@click.argument("grid", type=FILE)
@click.argument("manifest", metavar="MANIFEST...", nargs=-1, required=True, type=FILE)
@run_options(seeds=ABLATION_SEEDS, protocol=None)
@click.option("--row", "rows", multiple=True, metavar="NAME", help="Only this row (repeat for more).")
@click.option("--skip-missing", is_flag=True, help="Skip rows whose features are not in the cache.")
@DRY_RUN
def ablate(grid: Path, rows: tuple[str, ...], skip_missing: bool, dry_run: bool, **options: Any) -> None:
    """Train the rows of a GRID (a file, or a name like table2) and test them against its reference row.

    The settings of a row win over all others. Folds that another run next to OUT has finished with equal settings
    and features are reused. For example:

    \b
      mfhca-train ablate table2 my.csv --cache cache/mine --out runs/mine-table2 --seeds 5
    """
    from mfhca_train.runs.ablation import ablate as run
    from mfhca_train.runs.grid import find_grid, read_grid

    found = read_grid(find_grid(grid))
    options["protocol"] = options["protocol"] or found.base.protocol or PROTOCOL
    request = _request(options, found.base.settings)
    if dry_run:
        from mfhca_train.runs.dry_run import describe_ablation

        for line in describe_ablation(request, found, rows, skip_missing):
            echo(line)
        return
    _show(request.out, run(request, found, rows, skip_missing))


@main.command()
@click.option("--manifest", type=FILE, metavar="MANIFEST", help="Include the settings of this corpus' card.")
@setting_options
@click.option("--toml", is_flag=True, help="Print a file for --config instead of the table.")
def config(
    manifest: Path | None,
    preset: str | None,
    settings: tuple[str, ...],
    config_file: Path | None,
    toml: bool,
) -> None:
    """Show every setting: value, default, source in the paper, what set it, range and meaning."""
    resolved = _resolve((manifest,) if manifest else (), preset, settings, config_file)
    from mfhca_train.config import sources as module

    echo(module.toml(resolved) if toml else "\n".join(module.table(resolved, terminal_width())))


for command in (report, compare, runs):
    main.add_command(command)


@main.command()
@click.argument("run", type=DIR)
@click.option("--pooling", type=click.Choice(POOLING_NAMES), help="Only this pooling.  [default: all]")
def rescore(run: Path, pooling: str | None) -> None:
    """Score a finished run with other ways of pooling its segments; nothing is trained."""
    from mfhca_train.report.terminal import table
    from mfhca_train.results import rescore as module
    from mfhca_train.results.schema import CV_ROW

    found = {name: module.rescore(run, name) for name in ([pooling] if pooling else module.POOLINGS)}
    echo("\n".join(f"{name}: {module.POOLINGS[name]}" for name in found))
    if pooling and set(found[pooling]) == {CV_ROW}:
        echo(table(found[pooling][CV_ROW], terminal_width()))
    else:
        echo("\n".join(module.table(found, terminal_width())))


for command in (predict, export, evaluate):
    main.add_command(command)


def _show(out: Path, results: Mapping[str, Any]) -> None:
    """Prints the headline, the table, where the report is, and what one may do next."""
    from mfhca_cache.common.log import LOG
    from mfhca_train.report.terminal import headline, next_steps, table

    if line := headline(results):
        echo(line, bold=True)
    echo(table(results, terminal_width()))
    echo(f"{out / 'results.json'}\n{out / 'report.html'}")
    LOG.info("%s", next_steps(out))


def _request(options: dict[str, Any], base: Mapping[str, Any] | None = None) -> Request:
    """What `cv` and `ablate` are asked for; the grid of an ablation may have settings for all rows."""
    from mfhca_train.data.class_map import read_class_map
    from mfhca_train.runs.plan import Request, files_of

    if options["cluster"] is not None and options["jobs"] is not None:
        raise click.UsageError("--jobs cannot be used with --backend dask, which runs one fold per worker")
    manifests, caches, roots, class_map = (
        options.pop(name) for name in ("manifest", "cache", "root", "class_map")
    )
    files = files_of(manifests, caches, roots, read_class_map(class_map))
    preset, settings, file = (options.pop(name) for name in ("preset", "settings", "config_file"))
    resolved = _resolve(manifests, preset, settings, file, base)
    options["seeds"] = tuple(range(options["seeds"]))
    return Request(**files, **options, config=resolved.config, default_preset=resolved.default_preset)


def _resolve(
    manifests: tuple[Path, ...],
    preset: str | None,
    settings: tuple[str, ...],
    file: Path | None,
    base: Mapping[str, Any] | None = None,
) -> Resolved:
    """Defaults, then the corpus card's settings, then a preset's, a grid's, a file's, then --set.

    Raises:
        click.UsageError: a --set without "=".
        MfhcaError: an unknown preset or setting, or a value that does not fit.
    """
    from mfhca_train.config.sources import log_settings, resolve

    for text in settings:
        if "=" not in text:
            raise click.UsageError(f"--set {text}: write NAME=VALUE")
    pairs = [(name, value) for name, _, value in (text.partition("=") for text in settings)]
    resolved = resolve(manifests, base, file, pairs, preset)
    log_settings(resolved)
    return resolved
