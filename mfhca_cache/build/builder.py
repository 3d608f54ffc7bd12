"""Computing the missing features of a cache and writing them, speaker by speaker.

A speaker's shards are locked when its first utterance is requested and published after its last one is written. An
utterance that cannot be computed is recorded as a failure and left out; the others are finished.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mfhca_cache.build.plan import State, Target, compare_shard
from mfhca_cache.build.provenance import provenance
from mfhca_cache.build.sources import Source, Sources
from mfhca_cache.build.summary import Outcome
from mfhca_cache.build.users import record_manifest
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.backbone import Backbone
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.extract import Extractor, Piece
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.folder import write_recipe
from mfhca_cache.recipe.kinds import Ssl
from mfhca_cache.store.conditions import conditions, differences
from mfhca_cache.store.shard import verify_shard
from mfhca_cache.store.writer import ShardWriter

MAX_UNWRITTEN = 1 << 28  # bytes of features that are computed but not yet written


@dataclass(eq=False)
class _Work:
    """A speaker's open writers, and the number of utterances still to be written."""

    writers: dict[str, ShardWriter] = field(default_factory=dict)  # by kind
    states: dict[str, State] = field(default_factory=dict)
    pending: dict[str, frozenset[str]] = field(default_factory=dict)  # ids to compute
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    remaining: int = 0
    rejected: str = ""  # the last utterance with a piece that could not be stored


class Builder:
    """One run over a cache.

    Args:
        targets: the incomplete kinds of features; their recipes cut segments in the same way.
        sources: the audio.
        backbone: the encoder; needed for "ssl" only.
        device: "auto", "cpu", "cuda" or "mps".
        jobs: decoding threads.
        threads: torch's threads; None for torch's default.
        batch_size: segments per forward pass, rounded up to a multiple of 8 (see `Encoder.forward`).
        advance: called with the number of segments after each piece of an utterance.
        load: makes the encoder from the arguments of `Encoder`; for reusing one between runs.
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
        """Computes and writes the missing features of some speakers.

        Args:
            speakers: speakers whose state is incomplete for some target.
            manifest: the manifest with the utterances; recorded in the cache.

        Returns:
            The outcome; `failed` lists what could not be computed.

        Raises:
            MfhcaError: the encoder cannot be loaded, or the cache cannot be written. Finished shards and
                flushed part files stay.
        """
        self._encoder = self._load_encoder()
        for target in self._targets.values():
            write_recipe(target.folder, target.recipe, target.frame_shape)
        record_manifest([target.folder for target in self._targets.values()], manifest, self._sources.root)
        recipes = {kind: target.recipe for kind, target in self._targets.items()}
        extractor: Extractor[tuple[_Work, Source]] = Extractor(recipes, self._encoder, self._jobs)
        self._started = time.monotonic()
        with (
            contextlib.ExitStack() as open_writers,
            contextlib.closing(extractor.run(self._requests(speakers, open_writers))) as results,
        ):
            self._write_results(results)
        self._outcome.seconds = time.monotonic() - self._started
        return self._outcome

    def _write_results(self, results: Iterator[tuple[tuple[_Work, Source], Piece | MfhcaError]]) -> None:
        """Writes results in order in a separate thread while the next ones are computed."""
        failed = threading.Event()
        pending: deque[tuple[Future[int], int]] = deque()  # with the size of the features, bytes

        def write(work: _Work, source: Source, result: Piece | MfhcaError) -> int:
            if failed.is_set():
                return 0
            try:
                segments = self._store(work, source, result)
                if isinstance(result, MfhcaError) or result.audio is not None:
                    work.remaining -= 1
                    if work.remaining == 0:
                        self._finish(work)
            except BaseException:
                failed.set()  # e.g. a full disk: the results that follow are not written either
                raise
            return segments

        with ThreadPoolExecutor(1, "write") as pool:
            try:
                for (work, source), result in results:
                    size = 0 if isinstance(result, MfhcaError) else result.nbytes
                    pending.append((pool.submit(write, work, source, result), size))
                    while pending and (
                        pending[0][0].done() or sum(size for _, size in pending) > MAX_UNWRITTEN
                    ):
                        self._advance(pending.popleft()[0].result())
                    del result  # it would be kept while the next one is computed
                while pending:
                    self._advance(pending.popleft()[0].result())
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
        return (self._load or Encoder)(self._backbone, target.recipe, self._device, self._batch_size)

    def _requests(
        self, speakers: Sequence[str], open_writers: contextlib.ExitStack
    ) -> Iterator[tuple[tuple[_Work, Source], Source, list[str]]]:
        """The utterances to compute, in order. A speaker whose shard is locked is tried again at the end."""
        queue = [(speaker, False) for speaker in speakers]
        for speaker, second_try in queue:
            try:
                work = self._open(speaker, open_writers)
            except MfhcaError as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                if second_try:
                    self._outcome.failed[speaker] = str(error)
                    self._outcome.locked.add(speaker)
                else:
                    queue.append((speaker, True))
                continue
            names = sorted(frozenset().union(*work.pending.values()))
            work.remaining = len(names)
            if not names:
                self._finish(work)
            for name in names:
                source = self._sources.available[name]
                yield (work, source), source, [kind for kind, ids in work.pending.items() if name in ids]

    def _open(self, speaker: str, open_writers: contextlib.ExitStack) -> _Work:
        """Opens the writers of a speaker's incomplete shards."""
        work = _Work()
        with contextlib.ExitStack() as opening:
            for kind, target in self._targets.items():
                if compare_shard(target, speaker, self._sources).complete:
                    continue
                recipe, shape = target.recipe, target.frame_shape
                own = conditions(provenance(kind, self._encoder, self._batch_size, None))
                writer = ShardWriter(target.folder, recipe.key, kind, speaker, shape, recipe.dtype, own)
                opening.enter_context(writer)
                if writer.discarded:
                    self._outcome.notes.append(
                        f"{writer.path}: the features of an interrupted run were computed with other versions, "
                        "variables, threads or another processor or device; they are computed again"
                    )
                # The shard is compared again now that it is locked: another process may have finished it meanwhile.
                state = self._check_shard(compare_shard(target, speaker, self._sources))
                if state.complete:
                    continue
                origins = {name: self._sources.available[name].origin for name in state.needed}
                done = {name for name, origin in origins.items() if writer.done.get(name) == origin}
                work.writers[kind], work.states[kind] = writer, state
                work.pending[kind] = frozenset(state.needed) - done
                self._outcome.resumed += len(done)
            work.closing = opening.pop_all()
        open_writers.callback(work.closing.close)
        return work

    def _check_shard(self, state: State) -> State:
        """Discards a shard whose digest does not match its rows: none of them may be copied into a new shard."""
        if state.shard is not None and state.kept():
            try:
                verify_shard(state.shard)
            except MfhcaError as error:
                state = state.without_shard(str(error))
        if state.damage is not None:
            self._outcome.notes.append(f"recomputed: {state.damage}")
        return state

    def _store(self, work: _Work, source: Source, result: Piece | MfhcaError) -> int:
        """Writes a piece of an utterance's features or records its failure; returns the number of segments written."""
        name = source.utterance.utterance
        if isinstance(result, MfhcaError):
            self._outcome.failed[name] = str(result)
            return 0
        if work.rejected == name:
            return 0
        audio, origin = result.audio, None
        if audio is not None:
            # The digest of the bytes that were decoded: the file may have changed since it was hashed.
            origin = replace(source.origin, audio_sha256=audio.digest, samples_sha256=audio.samples_digest)
        try:
            for kind, (features, valid) in result.features.items():
                work.writers[kind].append(name, origin, features, valid, result.first)
        except MfhcaError as error:
            if isinstance(error.__cause__, OSError):  # an error of the disk, not of the utterance
                raise
            self._outcome.failed[name], work.rejected = str(error), name
            return 0
        if audio is not None:
            segments = result.first + result.segments
            sizes = (self._targets[kind].bytes_of(segments) for kind in result.features)
            self._outcome.stored_bytes += sum(sizes)
            self._outcome.segments += segments
            self._outcome.utterances += 1
            self._outcome.warnings += [(warning, name) for warning in audio.warnings]
        return result.segments

    def _finish(self, work: _Work) -> None:
        """Publishes a speaker's shards and releases their locks."""
        for kind, writer in work.writers.items():
            state = work.states[kind]
            paths = {name: self._sources.available[name].utterance.path for name in state.renamed}
            segments, seconds = self._outcome.segments, time.monotonic() - self._started
            rate = segments / seconds if segments else None
            value = self._mixed(state, provenance(kind, self._encoder, self._batch_size, rate))
            if writer.finish(state.shard, state.kept(), value, paths) is not None:
                self._outcome.shards += 1
            elif state.shard is not None:
                # Every row is stale, and none could be computed again.
                state.shard.path.unlink(missing_ok=True)
        work.closing.close()

    def _mixed(self, state: State, new: dict[str, Any]) -> dict[str, Any]:
        """The provenance of a shard that keeps rows: theirs if nothing is computed, else with how the two differ."""
        if state.shard is None or not state.kept():
            return new
        old = state.shard.provenance
        if not state.needed:  # rows are only renamed or removed
            return old
        different = differences(old, new)
        if different:
            self._outcome.notes.append(
                f"{state.shard.path}: its features were computed under different conditions ({', '.join(different)}); "
                "the last digits may differ from those of one run"
            )
        mixed = list(dict.fromkeys([*old.get("mixed_with", []), *different]))
        return new | ({"mixed_with": mixed} if mixed else {})
