"""Computing the features of a manifest, from reading the manifest to the recorded cache.

The commands `features` and `status` and the Python functions of `interface` begin here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.build.copies import check_features, check_files
from mfhca_cache.build.plan import Plan, Target, make_plan, make_targets, with_card
from mfhca_cache.build.prune import remove_finished_parts
from mfhca_cache.build.shard_names import check_shard_names
from mfhca_cache.build.sources import read_sources
from mfhca_cache.build.status import other_recipes
from mfhca_cache.build.summary import describe_work, summarise
from mfhca_cache.build.users import check_meanwhile, check_replaced_rows, record_manifest
from mfhca_cache.common import log
from mfhca_cache.common.cluster import Cluster
from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.hardware import cores
from mfhca_cache.common.progress import progress
from mfhca_cache.common.text import plural
from mfhca_cache.corpora.scan_record import report_new_recordings
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.manifest.manifest import Manifest, read_manifest
from mfhca_cache.recipe.choices import BATCH_SIZE, Settings
from mfhca_cache.store.users import recorded_users


@dataclass(frozen=True)
class Request:
    """The features that a manifest's utterances should have.

    Attributes:
        manifest, root, cache: paths of the manifest, the corpus folder and the cache folder.
        settings: kinds of features and their options.
        backbone: the encoder of kind ssl: a folder, or a name on the Hugging Face hub.
        label_set: None for the card's default.
        jobs: threads for decoding audio; None for one per core.
        allow_outside: whether links may lead out of the root.
    """

    manifest: Path
    root: Path
    cache: Path
    settings: Settings
    backbone: str | None = None
    label_set: str | None = None
    jobs: int | None = None
    allow_outside: bool = False


@dataclass(frozen=True)
class Work:
    """A manifest, the encoder if one is needed, and the cache compared with the audio."""

    manifest: Manifest
    backbone: Backbone | None
    plan: Plan


def find_targets(request: Request) -> tuple[Backbone | None, tuple[Target, ...]]:
    """The encoder and the recipes that a request asks for.

    Raises:
        MfhcaError: the encoder is missing, cannot be read, or does not fit the settings.
    """
    wanted = request.backbone if "ssl" in request.settings.kinds else None
    with log.phase("reading the encoder's files"):
        encoder = None if wanted is None else resolve(wanted)
    return encoder, make_targets(request.cache, with_card(request.settings, request.manifest), encoder)


def find_work(request: Request, status: bool = False) -> Work:
    """Reads the manifest and the audio, and compares the cache with them.

    Args:
        request: the features wanted.
        status: also note recordings that a manifest does not list which was not made by a scan.

    Raises:
        MfhcaError: manifest, encoder, audio or cache cannot be read.
    """
    path, root = request.manifest, request.root
    with ThreadPoolExecutor(1, "manifest") as pool:  # hashing the encoder leaves the interpreter free
        reading = pool.submit(read_manifest, path)
        encoder, targets = find_targets(request)
    with log.phase(f"reading {path}"):
        table = reading.result()
        label_set = table.label_set(request.label_set)
        table.warn(label_set)
        utterances = table.select(label_set)
    if not utterances:
        raise MfhcaError(f"{path}: no utterance of label set {label_set.name}")
    report_new_recordings(table, root, status)
    with log.phase("reading the audio"), progress(len(utterances), " files", "reading audio") as bar:
        jobs = request.jobs or cores()
        sources = read_sources(utterances, root, jobs, request.allow_outside, bar.update)
    if not sources.available:
        first = next(iter(sources.unreadable.values()))
        raise MfhcaError(
            f"{root}: has no readable audio file of any of the {plural(len(utterances), 'utterance')}; --root must be "
            f"the folder to which the paths in {path} are relative. The first error: {first}"
        )
    with log.phase("comparing the cache with the audio"):
        return Work(table, encoder, make_plan(targets, sources))


def compute(
    request: Request,
    say: Callable[[str], Any],
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
    replace: bool = False,
    accept_copies: bool = False,
    cluster: Cluster | None = None,
    dry_run: bool = False,
) -> Plan:
    """Computes the features that the cache lacks. After an interruption, a second call resumes.

    Args:
        request: the features wanted.
        say: called with each line about the work.
        device, threads, batch_size: see `Builder`.
        replace: replace features that a manifest uses with another root.
        accept_copies: accept identical recordings under several speakers.
        cluster: the Dask cluster; None for this machine.
        dry_run: say what would be computed, and compute nothing.

    Returns:
        The plan as it was before anything was computed.

    Raises:
        MfhcaError: something cannot be read or written, or utterances failed; the others are computed.
    """
    work = find_work(request)
    manifest, plan = work.manifest.path, work.plan
    check_shard_names(plan.sources.speakers, request.cache)
    if not replace:
        check_replaced_rows(plan, manifest, plan.sources.root)
    check_files(plan, manifest, accept_copies)
    for target in plan.targets:
        states = [plan.states[target.kind, speaker] for speaker in plan.sources.speakers]
        present = sum(len(state.present) for state in states)
        say(
            f"{target.folder}: {plural(present, 'utterance')} present, {len(plan.needed(target.kind))} to compute"
        )
        for line in other_recipes(request.cache, target):
            say(line)
    failed = dict(plan.sources.unreadable)
    if dry_run:
        seconds = plan.seconds
        if seconds is None and plan.speakers:
            from mfhca_cache.build.trial import estimate_seconds  # imports the encoder

            jobs = request.jobs or cores()
            seconds = estimate_seconds(plan, work.backbone, device, threads, batch_size, jobs)
        say(describe_work(plan, seconds))
        _report_failures(failed, plan.sources.count)
        return plan
    if plan.speakers:
        from mfhca_cache.build.distribute import build_cache  # imports the encoder

        users = {target.folder: recorded_users(target.folder) for target in plan.targets}
        with progress(plan.segments(), " segments", "features") as bar:
            outcome = build_cache(
                plan,
                work.backbone,
                manifest,
                cluster,
                advance=bar.update,
                loaded=bar.unpause,  # the remaining time is estimated from the first utterance on
                device=device,
                jobs=request.jobs,
                threads=threads,
                batch_size=batch_size,
            )
        for line in summarise(outcome):
            say(line)
        failed |= outcome.failed
        check_meanwhile(plan, users, plan.sources.root)
    else:
        say("nothing to compute")
    remove_finished_parts(plan)
    try:
        existing = [target.folder for target in plan.targets if target.folder.exists()]
        record_manifest(existing, manifest, plan.sources.root)
    except MfhcaError as error:  # a finished cache may be read-only
        say(f"note: `prune` will not know that this manifest uses the cache: {error}")
    _report_failures(failed, plan.sources.count)
    check_features(plan, manifest, accept_copies)
    return plan


def _report_failures(failed: dict[str, str], total: int) -> None:
    """Raises an error with a list of the failures, if there are any."""
    if failed:
        reasons = [
            reason if name in reason else f"{name}: {reason}" for name, reason in sorted(failed.items())
        ]
        raise MfhcaError(
            f"{len(failed):,} of {plural(total, 'utterance')} failed; fix the causes and run the same command again:\n"
            + listing(reasons)
        )
