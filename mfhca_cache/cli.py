"""The command `mfhca-cache`: parses, calls one function, prints.

Only click and the standard library are imported here; what is heavy is imported
inside the commands, so that `--help` and wrong usage answer at once.
"""

from __future__ import annotations

import itertools
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfhca_cache.common import log
from mfhca_cache.common.cluster import Cluster, cluster_options
from mfhca_cache.common.console import Commands, progress
from mfhca_cache.common.errors import SHOWN, MfhcaError, listing
from mfhca_cache.common.hardware import DEVICES, cores
from mfhca_cache.common.text import duration_text, size_text
from mfhca_cache.corpus_options import ManifestCommand, corpus_options
from mfhca_cache.options import FOLDER, chosen_kinds, recipe_options
from mfhca_cache.recipe.choices import BATCH_SIZE, Settings

if TYPE_CHECKING:
    from mfhca_cache.build.plan import Plan, Target
    from mfhca_cache.features.backbone import Backbone
    from mfhca_cache.manifest.manifest import Manifest

# What decides which recipes are meant.
RECIPE = ("cache", "backbone", "kinds", *(field.name for field in fields(Settings)))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="mfhca")
def main() -> None:
    """Stage one: manifests of corpora, and features computed once into a cache."""


@main.command()
@partial(recipe_options, needed=False)
@click.pass_context
def doctor(ctx: click.Context, /, manifest_path: Path | None, kinds: tuple[str, ...], **told: Any) -> None:
    """Say whether all is ready: packages, processor, device, hub, disk; with a MANIFEST also the corpus.

    Each line begins with ok, warn (something will be slow, or is not possible here) or missing (something is
    needed). Exit code 1 if anything is missing. Takes the options of `features` (no audio is read, so --jobs and
    --allow-outside change nothing). For example:

    \b
      mfhca-cache doctor my.csv --root /data/mine --cache cache/mine --backbone facebook/hubert-base-ls960
    """
    from mfhca_cache.doctor.corpus import Corpus, corpus
    from mfhca_cache.doctor.machine import MISSING, OK, machine

    recipe = {field.name: told[field.name] for field in fields(Settings) if field.name in told}
    settings = Settings(kinds=chosen_kinds(kinds), **recipe)
    quiet, missing = log.level() >= log.QUIET, 0
    asked = Corpus(manifest_path, told["root"], told["cache"], told["backbone"], settings, told["label_set"])
    for finding in itertools.chain(machine(asked.cache or Path(), asked.backbone is None), corpus(asked)):
        missing += finding.state == MISSING
        if not (quiet and finding.state == OK):
            click.echo(str(finding))
    if missing:
        click.echo(
            f"{missing} missing; mend {'it' if missing == 1 else 'them'} as the lines say, then ask again"
        )
        ctx.exit(1)
    click.echo("all that is needed is there")


@main.command(cls=ManifestCommand)
@corpus_options
def manifest(out: Path | None, **options: Any) -> None:
    """Scan a corpus folder and write its manifest, a CSV file with one row for each utterance.

    CORPUS is one of the names below. What is found is compared with the corpus' card: counts that differ, and audio
    that cannot be used, are listed and end the command. It says how many files were taken and how many ignored, and
    why. `demo` synthesises its audio and its encoder first; `folders` takes any corpus with one folder for each
    class.
    """
    from mfhca_cache.corpora import scan

    out = out or Path("manifests") / f"{options['corpus']}.csv"
    click.echo(str(scan.build(out=out, **options)))


def _targets(
    cache: Path, backbone: str | None, kinds: tuple[str, ...], **recipe: Any
) -> tuple[Backbone | None, tuple[Target, ...]]:
    """The encoder, and the recipes that the options mean."""
    kinds = chosen_kinds(kinds)
    if "ssl" in kinds and backbone is None:
        raise click.UsageError("kind ssl needs --backbone (or choose --kind logspec alone)")
    from mfhca_cache.build.plan import targets_of
    from mfhca_cache.features.backbone import resolve

    with log.phase("looking at the encoder"):
        found = resolve(backbone) if backbone is not None and "ssl" in kinds else None
    return found, targets_of(cache, Settings(kinds=kinds, **recipe), found)


def _plan(
    manifest_path: Path,
    root: Path,
    cache: Path,
    backbone: str | None,
    kinds: tuple[str, ...],
    label_set: str | None,
    jobs: int | None,
    allow_outside: bool,
    **recipe: Any,
) -> tuple[Manifest, Backbone | None, Plan]:
    """What both commands begin with: the manifest, the recipes, the audio, and how the cache compares."""
    found, targets = _targets(cache, backbone, kinds, **recipe)
    from mfhca_cache.build.plan import plan
    from mfhca_cache.build.sources import read_sources
    from mfhca_cache.manifest.manifest import read_manifest

    with log.phase(f"reading {manifest_path}"):
        table = read_manifest(manifest_path)
        chosen = table.select(label_set)
    if not chosen:
        raise MfhcaError(f"{manifest_path}: no utterance of label set {table.label_set(label_set).name}")
    with log.phase("reading the audio"), progress(len(chosen), " files", "reading audio") as bar:
        sources = read_sources(chosen, root, jobs or cores(), allow_outside, bar.update)
    if not sources.found:
        first = next(iter(sources.failed.values()))
        raise MfhcaError(
            f"{root}: none of the {len(chosen)} utterances has audio here that can be read; --root must be the "
            f"folder that the paths of {manifest_path} begin in. The first: {first}"
        )
    with log.phase("comparing the cache with it"):
        return table, found, plan(targets, sources)


@main.command()
@recipe_options
@click.option(
    "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where the encoder runs."
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="The encoder's threads.  [default: torch's own choice]"
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=BATCH_SIZE,
    show_default=True,
    help="Segments a forward pass, rounded up to a multiple of 8; changes no value.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and compute nothing.")
@cluster_options("local")
def features(
    device: str,
    threads: int | None,
    batch_size: int,
    dry_run: bool,
    cluster: Cluster | None,
    **options: Any,
) -> None:
    """Compute the features of a manifest's utterances that the cache does not have yet.

    Run it again after an interruption: it goes on where it was. For example:

    \b
      mfhca-cache features my.csv --root /data/mine --cache cache/mine \\
          --backbone facebook/hubert-base-ls960
    """
    from mfhca_cache.build.debris import tidy
    from mfhca_cache.build.status import other_recipes, record_manifest

    table, backbone, todo = _plan(**options)
    for target in todo.targets:
        states = [todo.states[target.kind, speaker] for speaker in todo.sources.speakers]
        present = sum(len(state.present) for state in states)
        needed = len(todo.needed(target.kind))
        click.echo(f"{target.folder}: {present} utterances present, {needed} to compute")
        for line in other_recipes(options["cache"], target):
            click.echo(line)
    if dry_run:
        left = (
            "unknown: no rate on record" if todo.seconds is None else f"about {duration_text(todo.seconds)}"
        )
        click.echo(f"to compute: {todo.segments()} segments, {size_text(todo.stored_bytes)}, time {left}")
        _fail(dict(todo.sources.failed), len(todo.sources.speaker_of))
        return
    failed = dict(todo.sources.failed)
    if todo.speakers:
        from mfhca_cache.build.distribute import bring_up

        with progress(todo.segments(), " segments", "features") as bar:
            outcome = bring_up(
                todo,
                backbone,
                table.path,
                cluster,
                advance=bar.update,
                device=device,
                jobs=options["jobs"],
                threads=threads,
                batch_size=batch_size,
            )
        for note in outcome.notes:
            click.echo(note)
        if outcome.continued:
            click.echo(f"continued: {outcome.continued} finished rows of an interrupted run")
        rate = outcome.segments / outcome.seconds if outcome.seconds else 0.0
        click.echo(
            f"computed {outcome.utterances} utterances, {outcome.segments} segments, "
            f"{size_text(outcome.stored_bytes)} in {duration_text(outcome.seconds)} "
            f"({rate:.1f} segments/s); {outcome.shards} shards written"
        )
        failed |= outcome.failed
    else:
        click.echo("nothing to compute")
    tidy(todo)
    try:
        record_manifest([target for target in todo.targets if target.folder.exists()], table.path)
    except MfhcaError as error:  # a finished cache may well be read-only
        click.echo(f"note: `prune` will not know of this manifest: {error}")
    _fail(failed, len(todo.sources.speaker_of))


def _fail(failed: dict[str, str], total: int) -> None:
    """Ends the command with the list of what failed, if anything did."""
    if failed:
        reasons = [
            reason if name in reason else f"{name}: {reason}" for name, reason in sorted(failed.items())
        ]
        raise MfhcaError(
            f"{len(failed)} failures among {total} utterances; mend these and run again:\n" + listing(reasons)
        )


@main.command()
@recipe_options
@click.option(
    "--names",
    is_flag=True,
    help="Only the recipes that are meant, as options of `mfhca-train cv`; no audio is read.",
)
def status(names: bool, **options: Any) -> None:
    """Say what is present, missing or stale, and which field or file differs.

    Takes the options of `features`; nothing is computed. For example:

    \b
      mfhca-cache status my.csv --root /data/mine --cache cache/mine \\
          --backbone facebook/hubert-base-ls960
    """
    if names:
        from mfhca_cache.build.plan import as_options

        _, targets = _targets(**{name: options[name] for name in RECIPE if name in options})
        click.echo(as_options(targets))
        return
    from mfhca_cache.build import status

    _, _, plan = _plan(**options)
    for line in status.status(options["cache"], plan, None if log.level() <= log.VERBOSE else SHOWN):
        click.echo(line)


@main.command()
@click.option("--cache", type=FOLDER, required=True, help="The cache folder.")
@click.option("--jobs", type=click.IntRange(min=1), help="Threads.  [default: one a core]")
def verify(cache: Path, jobs: int | None) -> None:
    """Read every shard whole and recompute its digest."""
    from mfhca_cache.build import status

    with progress(None, " shards", "verifying") as bar:
        sound, problems = status.verify(cache, jobs or cores(), bar.update)
    click.echo(f"{sound} shards are sound")
    if problems:
        raise MfhcaError(f"{cache}: {len(problems)} bad:\n{listing(problems, len(problems))}")


@main.command()
@click.option("--cache", type=FOLDER, required=True, help="The cache folder.")
@click.option(
    "--manifest", "manifests", type=FOLDER, multiple=True, help="Spare what this manifest names as well."
)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="Only list.")
def prune(cache: Path, manifests: tuple[Path, ...], yes: bool, dry_run: bool) -> None:
    """List what no manifest refers to and what interrupted runs left, and remove it if you agree."""
    from mfhca_cache.build import status

    found = status.leftovers(cache, manifests)
    if not found:
        click.echo("nothing to remove")
        return
    for leftover in found:
        click.echo(f"{leftover.path} ({size_text(leftover.size)}): {leftover.reason}")
    total = size_text(sum(leftover.size for leftover in found))
    if dry_run:
        click.echo(f"would remove {len(found)} ({total})")
        return
    if not yes and not click.confirm(f"remove {len(found)} ({total})?"):
        click.echo("nothing removed")
        return
    for leftover in found:
        status.remove(leftover)
    click.echo(f"removed {len(found)} ({total})")


if __name__ == "__main__":
    main()
