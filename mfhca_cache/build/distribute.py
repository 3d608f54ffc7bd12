"""Who brings a cache up to date: this process, or the workers of a cluster, a speaker each.

A speaker's shards are written by one process alone, under their lock, so both
ways give the same digests. The audio was hashed before; workers get the digests.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mfhca_cache.build.builder import Builder, Outcome
from mfhca_cache.build.plan import Plan, Target
from mfhca_cache.build.sources import Sources
from mfhca_cache.common.cluster import Cluster, await_file, results, stop_if_unwanted
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.hardware import cores
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.kinds import Ssl

BUSY_SECONDS = 120.0  # a worker lets go of a shard that nobody wants after its current utterance


@dataclass(frozen=True)
class _Task:
    """A speaker, and all that a worker needs to compute its features; paths are absolute."""

    speaker: str
    targets: tuple[Target, ...]
    sources: Sources
    backbone: Backbone | None
    manifest: Path
    options: dict[str, Any]  # of Builder


def bring_up(
    todo: Plan,
    backbone: Backbone | None,
    manifest: Path,
    cluster: Cluster | None = None,
    *,
    advance: Callable[[int], Any] = lambda _: None,
    jobs: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> Outcome:
    """Computes what a plan finds wanting.

    Args:
        todo: the plan; not complete.
        backbone, manifest: see `Builder`.
        cluster: where; None for this process.
        advance, device, threads, batch_size: see `Builder`.
        jobs: decoding threads of each process; None for one a core, or one in a worker of a cluster, which
            does not know how many share its cores.

    Raises:
        MfhcaError: see `Builder.run` and `cluster.results`.
    """
    options: dict[str, Any] = {"device": device, "threads": threads, "batch_size": batch_size}
    if cluster is None:
        builder = Builder(
            todo.wanting, todo.sources, backbone, jobs=jobs or cores(), advance=advance, **options
        )
        return builder.run(todo.speakers, manifest)
    targets = tuple(replace(target, folder=target.folder.absolute()) for target in todo.wanting)
    if backbone is not None:
        backbone = replace(backbone, folder=backbone.folder.absolute())
    options["jobs"] = jobs or 1
    tasks = [
        _Task(speaker, targets, _part_of(todo, speaker), backbone, manifest.absolute(), options)
        for speaker in todo.speakers
    ]
    outcome, started = Outcome(), time.monotonic()
    done = results(cluster, _build, tasks, lambda task: f"speaker {task.speaker}")
    with contextlib.closing(done):  # at once, so that nothing is computed on after an error here
        for _, (found, shards) in done:
            for shard in shards:
                await_file(shard)
            outcome.add(found)
            advance(found.segments)
    outcome.seconds = time.monotonic() - started
    return outcome


def _part_of(todo: Plan, speaker: str) -> Sources:
    """The audio of one speaker, and whose the rows are that its shards hold of other speakers."""
    whole = todo.sources
    names = whole.speakers[speaker]
    others = {name for state in todo.of(speaker) for name in state.moved}
    return Sources(
        {name: replace(s, path=s.path.absolute()) for name in names if (s := whole.found.get(name))},
        {name: whole.failed[name] for name in names if name in whole.failed},
        {speaker: names},
        {name: whole.speaker_of[name] for name in (*names, *others)},
    )


def _build(task: _Task) -> tuple[Outcome, list[Path]]:
    """Runs in a worker; what was done, and the shards that are there now."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        builder = Builder(
            task.targets,
            task.sources,
            task.backbone,
            advance=stop_if_unwanted,
            load=_kept_encoder,
            **task.options,
        )
        outcome = builder.run([task.speaker], task.manifest)
        if not outcome.busy or time.monotonic() > deadline:
            shards = [target.shard(task.speaker) for target in task.targets]
            return outcome, [shard for shard in shards if shard.exists()]
        stop_if_unwanted()
        time.sleep(0.5)


@functools.lru_cache(maxsize=1)
def _kept_encoder(backbone: Backbone, recipe: Ssl, device: str, batch_size: int) -> Encoder:
    """The encoder, loaded once a process.

    Raises:
        MfhcaError: the files at that path are not those that the recipe names.
    """
    found = resolve(str(backbone.folder))
    if (found.weights_sha256, found.config_sha256) != (backbone.weights_sha256, backbone.config_sha256):
        raise MfhcaError(
            f"backbone {backbone.folder}: other files than those the command was given; "
            "choose a folder that all machines share"
        )
    return Encoder(backbone, recipe, device, batch_size)
