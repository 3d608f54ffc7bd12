"""Brings a cache up to date: computes what the plan finds wanting, and writes it, speaker by speaker.

A speaker's shards are locked when its first utterance is asked for and
published when its last one is done. What cannot be computed is noted and left
out; the rest is finished.
"""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mfhca_cache.build.plan import State, Target, state_of
from mfhca_cache.build.sources import Source, Sources
from mfhca_cache.build.status import record_manifest
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.hardware import processor
from mfhca_cache.features.backbone import Backbone
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.extract import Extracted, Extractor
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.folder import write_recipe
from mfhca_cache.recipe.kinds import LogMel, Mfcc, Ssl
from mfhca_cache.store.shard import verify_shard
from mfhca_cache.store.writer import ShardWriter

UNWRITTEN = 32  # utterances computed and not yet written, at most
PACKAGES = ("numpy", "scipy", "soundfile", "soxr")
MEL_PACKAGES = ("librosa",)
ENCODER_PACKAGES = ("torch", "transformers")


@dataclass
class Outcome:
    """What a run did."""

    utterances: int = 0  # computed
    segments: int = 0  # of those utterances
    stored_bytes: int = 0  # of features computed
    continued: int = 0  # rows found finished in the part files of an interrupted run, kinds counted apart
    shards: int = 0  # written
    seconds: float = 0.0  # spent computing, without loading the encoder
    failed: dict[str, str] = field(default_factory=dict)  # utterance or speaker -> why
    busy: set[str] = field(default_factory=set)  # those speakers whose shard another process holds
    notes: list[str] = field(default_factory=list)  # what was repaired on the way

    def add(self, other: Outcome) -> None:
        """Takes in what another run did to other speakers; the time is left as it is."""
        for name in ("utterances", "segments", "stored_bytes", "continued", "shards"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failed |= other.failed
        self.busy |= other.busy
        self.notes += other.notes


@dataclass(eq=False)
class _Work:
    """A speaker's open writers, and how many utterances are still to come."""

    writers: dict[str, ShardWriter] = field(default_factory=dict)  # by kind
    states: dict[str, State] = field(default_factory=dict)
    pending: dict[str, frozenset[str]] = field(default_factory=dict)  # ids to compute
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    left: int = 0


class Builder:
    """One run over a cache.

    Args:
        targets: the kinds of features that want something, whose segments are cut alike.
        sources: the audio.
        backbone: needed where "ssl" is among the targets.
        device: "auto", "cpu", "cuda" or "mps".
        jobs: decoding threads.
        threads: torch's threads; None leaves torch's own choice.
        batch_size: segments per forward pass, rounded up to a multiple of 8 (see `Encoder.forward`).
        advance: called with a number of segments each time so many are done.
        load: makes the encoder, of the arguments of `Encoder`; to keep one between runs.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        sources: Sources,
        backbone: Backbone | None = None,
        *,
        device: str = "auto",
        jobs: int = 1,
        threads: int | None = None,
        batch_size: int = BATCH_SIZE,
        advance: Callable[[int], Any] = lambda _: None,
        load: Callable[[Backbone, Ssl, str, int], Encoder] | None = None,
    ) -> None:
        self._targets = {target.kind: target for target in targets}
        self._sources = sources
        self._backbone, self._device, self._threads = backbone, device, threads
        self._jobs, self._advance, self._load = jobs, advance, load
        self._batch_size = -(-batch_size // BATCH_SIZE) * BATCH_SIZE
        self._encoder: Encoder | None = None
        self._started = 0.0
        self._outcome = Outcome()

    def run(self, speakers: Sequence[str], manifest: Path) -> Outcome:
        """Brings the shards of the speakers up to date.

        Args:
            speakers: those whose state is not complete for some target.
            manifest: where the utterances come from; noted in the cache.

        Returns:
            What was done; `failed` is not empty if anything was not.

        Raises:
            MfhcaError: the encoder cannot be loaded, or the cache cannot be written. What is finished stays,
                and so does what is safe in part files.
        """
        self._encoder = self._load_encoder()
        for target in self._targets.values():
            write_recipe(target.folder, target.recipe, target.frame_shape)
        record_manifest(self._targets.values(), manifest)
        recipes = {kind: target.recipe for kind, target in self._targets.items()}
        extractor: Extractor[tuple[_Work, Source]] = Extractor(recipes, self._encoder, self._jobs)
        self._started = time.monotonic()
        with (
            contextlib.ExitStack() as open_writers,
            contextlib.closing(extractor.run(self._requests(speakers, open_writers))) as results,
        ):
            self._write_behind(results)
        self._outcome.seconds = time.monotonic() - self._started
        return self._outcome

    def _write_behind(self, results: Iterator[tuple[tuple[_Work, Source], Extracted | MfhcaError]]) -> None:
        """Stores results in a thread of its own, in order, while the next ones are computed."""

        def keep(work: _Work, source: Source, result: Extracted | MfhcaError) -> int:
            if failed.is_set():
                return 0
            try:
                segments = self._store(work, source, result)
                work.left -= 1
                if work.left == 0:
                    self._finish(work)
            except BaseException:
                failed.set()  # a full disk: nothing after it is written either
                raise
            return segments

        failed = threading.Event()
        pending: deque[Future[int]] = deque()
        with ThreadPoolExecutor(1, "write") as pool:
            try:
                for (work, source), result in results:
                    pending.append(pool.submit(keep, work, source, result))
                    while len(pending) > UNWRITTEN or (pending and pending[0].done()):
                        self._advance(pending.popleft().result())
                while pending:
                    self._advance(pending.popleft().result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _load_encoder(self) -> Encoder | None:
        target = self._targets.get(Ssl.kind)
        if target is None or not isinstance(target.recipe, Ssl):
            return None
        if self._backbone is None:
            raise MfhcaError("features of kind ssl need an encoder; pass --backbone")
        import torch

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        load = self._load or Encoder
        return load(self._backbone, target.recipe, self._device, self._batch_size)

    def _requests(
        self, speakers: Sequence[str], open_writers: contextlib.ExitStack
    ) -> Iterator[tuple[tuple[_Work, Source], Source, list[str]]]:
        """The utterances to compute, in order; a speaker whose shard is in use comes once more at the end."""
        waiting = [(speaker, False) for speaker in speakers]
        for speaker, again in waiting:
            try:
                work = self._open(speaker, open_writers)
            except MfhcaError as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                if again:
                    self._outcome.failed[speaker] = str(error)
                    self._outcome.busy.add(speaker)
                else:
                    waiting.append((speaker, True))
                continue
            names = sorted(frozenset().union(*work.pending.values()))
            work.left = len(names)
            if not names:
                self._finish(work)
            for name in names:
                source = self._sources.found[name]
                yield (work, source), source, [kind for kind, ids in work.pending.items() if name in ids]

    def _open(self, speaker: str, open_writers: contextlib.ExitStack) -> _Work:
        """Takes the locks and only then looks what is to be done: another process may have done it."""
        work = _Work()
        with contextlib.ExitStack() as opening:
            for kind, target in self._targets.items():
                if state_of(target, speaker, self._sources).complete:
                    continue
                recipe = target.recipe
                writer = opening.enter_context(
                    ShardWriter(target.folder, recipe.key, kind, speaker, target.frame_shape, recipe.dtype)
                )
                state = self._usable(state_of(target, speaker, self._sources))
                if state.complete:
                    continue
                digests = {name: self._sources.found[name].digest for name in state.needed}
                done = {name for name, digest in digests.items() if writer.done.get(name) == digest}
                work.writers[kind], work.states[kind] = writer, state
                work.pending[kind] = frozenset(state.needed) - done
                self._outcome.continued += len(done)
            work.closing = opening.pop_all()
        open_writers.callback(work.closing.close)
        return work

    def _usable(self, state: State) -> State:
        """Drops a shard whose rows are not what its digest says: none may be copied into a new one."""
        if state.shard is not None and state.kept():
            try:
                verify_shard(state.shard)
            except MfhcaError as error:
                state = state.without_shard(str(error))
        if state.damage is not None:
            self._outcome.notes.append(f"made again: {state.damage}")
        return state

    def _store(self, work: _Work, source: Source, result: Extracted | MfhcaError) -> int:
        """Writes an utterance's features, or notes why there are none; how many segments were written."""
        name = source.utterance.utterance
        if isinstance(result, MfhcaError):
            self._outcome.failed[name] = str(result)
            return 0
        try:
            for kind, (features, valid) in result.features.items():
                work.writers[kind].append(name, result.digest, features, valid)
                self._outcome.stored_bytes += self._targets[kind].bytes_of(len(features))
        except MfhcaError as error:
            if isinstance(error.__cause__, OSError):  # the disk's fault, not the utterance's
                raise
            self._outcome.failed[name] = str(error)
            return 0
        self._outcome.utterances += 1
        self._outcome.segments += result.segments
        return result.segments

    def _finish(self, work: _Work) -> None:
        """Publishes a speaker's shards and lets their locks go."""
        for kind, writer in work.writers.items():
            state = work.states[kind]
            if writer.finish(state.shard, state.kept(), self._provenance(kind)) is not None:
                self._outcome.shards += 1
            elif state.shard is not None:
                # Every row is known to be of other audio, and nothing could be computed in its place.
                state.shard.path.unlink(missing_ok=True)
        work.closing.close()

    def _provenance(self, kind: str) -> dict[str, Any]:
        """What may move last bits, and how fast it went; recorded in the shard, part of no key or digest."""
        seconds = time.monotonic() - self._started
        value: dict[str, Any] = {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "packages": {name: version(name) for name in PACKAGES},
        }
        if self._outcome.segments:
            value["segments_per_second"] = round(self._outcome.segments / seconds, 3)
        if kind in (LogMel.kind, Mfcc.kind):
            value["packages"] |= {name: version(name) for name in MEL_PACKAGES}
        if kind == Ssl.kind and self._encoder is not None:
            import torch

            value["packages"] |= {name: version(name) for name in ENCODER_PACKAGES}
            value |= {
                "device": self._encoder.device,
                "threads": torch.get_num_threads(),
                "batch_size": self._batch_size,
            }
        return value
