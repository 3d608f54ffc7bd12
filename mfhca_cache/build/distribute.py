"""Where a cache is built: in this process, or on the workers of a Dask cluster, one speaker per task.

A speaker's shards are written by one process only, which holds their locks, so
both ways give the same digests. The audio was hashed before; workers receive
the digests.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mfhca_cache.build.builder import Builder
from mfhca_cache.build.plan import Plan, Target
from mfhca_cache.build.sources import Sources
from mfhca_cache.build.summary import Outcome
from mfhca_cache.common.cluster import Cluster, await_file, results, stop_if_cancelled
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.hardware import cores
from mfhca_cache.features.backbone import Backbone
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.kinds import Ssl

LOCKED_SECONDS = 120.0  # a worker whose task was cancelled releases its locks after the current utterance


@dataclass(frozen=True)
class _Task:
    """One speaker, and all that a worker needs to compute its features; paths are absolute."""

    speaker: str
    targets: tuple[Target, ...]
    sources: Sources
    backbone: Backbone | None
    manifest: Path
    options: dict[str, Any]  # of Builder


def build_cache(
    plan: Plan,
    backbone: Backbone | None,
    manifest: Path,
    cluster: Cluster | None = None,
    *,
    advance: Callable[[int], Any] = lambda _: None,
    loaded: Callable[[], Any] = lambda: None,
    jobs: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> Outcome:
    """Computes the features that a plan lists as missing or stale.

    Args:
        plan: the plan; at least one shard is incomplete.
        backbone, manifest: see `Builder`.
        cluster: the Dask cluster; None for this process.
        advance, device, threads, batch_size: see `Builder`.
        loaded: called when the encoder is loaded and the first utterance begins; not on a cluster.
        jobs: decoding threads of each process. By default one per core here, and one in a worker of a cluster,
            which does not know how many workers share its cores.

    Raises:
        MfhcaError: see `Builder.run` and `cluster.results`.
    """
    options: dict[str, Any] = {"device": device, "threads": threads, "batch_size": batch_size}
    if cluster is None:

        def load(*arguments: Any) -> Encoder:
            encoder = Encoder(*arguments)
            loaded()
            return encoder

        options |= {"jobs": jobs or cores(), "advance": advance, "load": load}
        return Builder(plan.incomplete, plan.sources, backbone, **options).run(plan.speakers, manifest)
    targets = tuple(replace(target, folder=target.folder.absolute()) for target in plan.incomplete)
    if backbone is not None:
        backbone = replace(backbone, folder=backbone.folder.absolute())
    options["jobs"] = jobs or 1
    tasks = [
        _Task(speaker, targets, _sources_of(plan, speaker), backbone, manifest.absolute(), options)
        for speaker in plan.speakers
    ]
    total, started = Outcome(), time.monotonic()
    finished = results(cluster, _build, tasks, lambda task: f"speaker {task.speaker}")
    with contextlib.closing(finished):  # cancels the other tasks at once if an error occurs here
        for _, (outcome, shards) in finished:
            for shard in shards:
                await_file(shard)
            total.add(outcome)
            advance(outcome.segments)
    total.seconds = time.monotonic() - started
    return total


def _sources_of(plan: Plan, speaker: str) -> Sources:
    """The audio of one speaker, and the speakers of the utterances that moved from its shards to others."""
    whole = plan.sources
    names = whole.speakers[speaker]
    moved = {name for state in plan.states_of(speaker) for name in state.moved}
    return Sources(
        whole.root.absolute(),
        {name: replace(s, path=s.path.absolute()) for name in names if (s := whole.available.get(name))},
        {name: whole.unreadable[name] for name in names if name in whole.unreadable},
        {speaker: names},
        {name: whole.speaker_of[name] for name in (*names, *moved)},
    )


def _build(task: _Task) -> tuple[Outcome, list[Path]]:
    """Runs in a worker; returns the outcome, and the shards that now exist."""
    deadline = time.monotonic() + LOCKED_SECONDS
    while True:
        builder = Builder(
            task.targets,
            task.sources,
            task.backbone,
            advance=stop_if_cancelled,
            load=_cached_encoder,
            **task.options,
        )
        outcome = builder.run([task.speaker], task.manifest)
        if not outcome.locked or time.monotonic() > deadline:
            shards = [target.shard(task.speaker) for target in task.targets]
            return outcome, [shard for shard in shards if shard.exists()]
        stop_if_cancelled()
        time.sleep(0.5)


@functools.lru_cache(maxsize=1)
def _cached_encoder(backbone: Backbone, recipe: Ssl, device: str, batch_size: int) -> Encoder:
    """The encoder, loaded once per process; `Encoder` compares its files with those of the recipe.

    Raises:
        MfhcaError: the files in that folder are not those of the recipe, or there is no such folder.
    """
    if not backbone.folder.is_dir():
        raise MfhcaError(
            f"backbone {backbone.folder}: no such folder on this machine; choose one that all machines share"
        )
    return Encoder(backbone, recipe, device, batch_size)
