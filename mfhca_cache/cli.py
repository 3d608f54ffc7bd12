"""The command `mfhca-cache`: parses the options, calls one function, prints the result.

Only click and the standard library are imported here; heavy packages are
imported inside the commands, so that `--help` and usage errors are quick.
"""

from __future__ import annotations

import itertools
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click

from mfhca_cache.common import log
from mfhca_cache.common.cluster import cluster_options
from mfhca_cache.common.console import (
    DIR,
    FILE,
    Commands,
    copies_option,
    device_option,
    echo,
    jobs_option,
    threads_option,
)
from mfhca_cache.common.errors import SHOWN, MfhcaError, listing
from mfhca_cache.common.hardware import cores
from mfhca_cache.common.progress import progress
from mfhca_cache.common.text import plural, size_text
from mfhca_cache.exchange.commands import export_command, import_command
from mfhca_cache.options import (
    ManifestCommand,
    corpus_options,
    make_request,
    recipe_options,
    select_kinds,
)
from mfhca_cache.recipe.choices import BATCH_SIZE, Settings

# A test compares them.
TRAIN_COMMANDS = (
    "cv",
    "ablate",
    "config",
    "report",
    "rescore",
    "predict",
    "export",
    "evaluate",
    "compare",
    "runs",
)


@click.group(
    cls=Commands,
    other="mfhca-train",
    elsewhere=TRAIN_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="mfhca")
def main() -> None:
    """Stage one: manifests of corpora, and features computed once into a cache."""


@main.command()
@partial(recipe_options, required=False)
@copies_option()
@click.pass_context
def doctor(ctx: click.Context, /, manifest_path: Path | None, kinds: tuple[str, ...], **options: Any) -> None:
    """Check whether everything is ready: packages, processor, device, hub, disk; with a MANIFEST also the corpus.

    Each line begins with ok, warn (something will be slow or is not possible) or missing (something is
    required). The exit code is 1 if anything is missing. Takes the options of `features`; no audio is read, so
    --jobs and --allow-outside have no effect. For example:

    \b
      mfhca-cache doctor my.csv --root /data/mine --cache cache/mine --backbone facebook/hubert-base-ls960
    """
    from mfhca_cache.doctor.corpus import Request, check_corpus
    from mfhca_cache.doctor.machine import MISSING, OK, check_machine

    recipe = {field.name: options[field.name] for field in fields(Settings) if field.name in options}
    settings = Settings(kinds=select_kinds(kinds), **recipe)
    root, cache, backbone = options["root"], options["cache"], options["backbone"]
    request = Request(
        manifest_path, root, cache, backbone, settings, options["label_set"], options["accept_copies"]
    )
    quiet, missing = log.level() >= log.QUIET, 0
    for finding in itertools.chain(check_machine(cache or Path(), backbone is None), check_corpus(request)):
        missing += finding.state == MISSING
        if not (quiet and finding.state == OK):
            echo(str(finding))
    if missing:
        echo(f"{missing} missing; follow the instructions above, then run doctor again")
        ctx.exit(1)
    echo("everything required is available")


@main.command(cls=ManifestCommand)
@corpus_options
def manifest(out: Path | None, **options: Any) -> None:
    """Scan a corpus folder and write its manifest, a CSV file with one row per utterance.

    CORPUS is one of the names below. The files are compared with the corpus card: different counts and unusable
    audio files are listed, and no manifest is written. The output says how many files were used and how many were
    ignored, and why. `demo` synthesises its audio and its encoder first; `folders` takes any corpus with one folder
    per class; `table`, `audformat`, `lhotse` and `hf` read the FILE of another tool.
    """
    from mfhca_cache.corpora import scan

    echo(str(scan.build(out=out, **options)))


@main.command()
@recipe_options
@device_option("Device of the encoder.")
@threads_option("Processor threads of the encoder")
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(min=1),
    default=BATCH_SIZE,
    show_default=True,
    help="Segments per forward pass, rounded up to a multiple of 8; does not change any value.",
)
@copies_option()
@click.option("--replace", is_flag=True, help="Replace features that a manifest uses with another --root.")
@click.option("--dry-run", is_flag=True, help="Show what would be computed, and compute nothing.")
@cluster_options()
def features(**options: Any) -> None:
    """Compute the features of a manifest's utterances that the cache does not have yet.

    After an interruption, run the same command again: it resumes. For example:

    \b
      mfhca-cache features my.csv --root /data/mine --cache cache/mine \\
          --backbone facebook/hubert-base-ls960
    """
    names = ("device", "threads", "batch_size", "replace", "accept_copies", "cluster", "dry_run")
    how = {name: options.pop(name) for name in names}
    request = make_request(**options)
    from mfhca_cache.build.compute import compute

    compute(request, echo, **how)


@main.command()
@recipe_options
@click.option(
    "--names",
    is_flag=True,
    help="Only print the recipes for these options, as options of `mfhca-train cv`; reads no audio.",
)
def status(names: bool, **options: Any) -> None:
    """Show what is present, missing or stale, and which field or file differs.

    Takes the options of `features`; computes nothing. For example:

    \b
      mfhca-cache status my.csv --root /data/mine --cache cache/mine \\
          --backbone facebook/hubert-base-ls960
    """
    request = make_request(**options)
    from mfhca_cache.build.compute import find_targets, find_work

    if names:
        from mfhca_cache.build.plan import cv_options

        echo(cv_options(find_targets(request)[1]))
        return
    from mfhca_cache.build.status import describe

    plan = find_work(request, status=True).plan
    for line in describe(request.cache, plan, None if log.level() <= log.VERBOSE else SHOWN):
        echo(line)


@main.command()
@click.option("--cache", type=DIR, required=True, help="The cache folder.")
@jobs_option("Threads for reading", "one per core")
def verify(cache: Path, jobs: int | None) -> None:
    """Read every shard completely and recompute its digest."""
    from mfhca_cache.build.verify import verify as verify_cache

    with progress(None, " shards", "verifying") as bar:
        valid, errors = verify_cache(cache, jobs or cores(), bar.update, bar.expect)
    echo(f"{plural(valid, 'shard')} {'is' if valid == 1 else 'are'} valid")
    if errors:
        raise MfhcaError(f"{cache}: {plural(len(errors), 'error')}:\n{listing(errors, len(errors))}")


@main.command()
@click.option("--cache", type=DIR, required=True, help="The cache folder.")
@click.option(
    "--manifest",
    "manifests",
    metavar="MANIFEST",
    type=FILE,
    multiple=True,
    help="Also keep what this manifest uses (repeat for more).",
)
@click.option(
    "--forget",
    "forgotten",
    metavar="MANIFEST",
    type=FILE,
    multiple=True,
    help="Do not keep what this recorded manifest uses (repeat for more).",
)
@click.option("--unrecorded", is_flag=True, help="Also remove recipes that have no recorded manifest.")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="Only list.")
def prune(
    cache: Path,
    manifests: tuple[Path, ...],
    forgotten: tuple[Path, ...],
    unrecorded: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """List what no manifest uses and what interrupted runs left, and remove it after confirmation.

    `features` records the manifests that use a cache. A recorded manifest that cannot be found may be on another
    disk, so its features are kept unless --forget names it.
    """
    from mfhca_cache.build.prune import find_leftovers, remove

    leftovers, kept = find_leftovers(cache, manifests, forgotten, unrecorded)
    for reason in kept:
        echo(f"kept: {reason}")
    if not leftovers:
        echo("nothing to remove")
        return
    for leftover in leftovers:
        echo(f"{leftover.path} ({size_text(leftover.size)}): {leftover.reason}")
    total = size_text(sum(leftover.size for leftover in leftovers))
    if dry_run:
        echo(f"would remove {len(leftovers)} ({total})")
        return
    if not yes and not click.confirm(f"remove {len(leftovers)} ({total})?"):
        echo("nothing removed")
        return
    for leftover in leftovers:
        remove(leftover)
    echo(f"removed {len(leftovers)} ({total})")


main.add_command(import_command)
main.add_command(export_command)
