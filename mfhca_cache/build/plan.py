"""What a cache should hold for a manifest, what it does hold, and why the two differ.

A row of a shard is right if its recipe key and the digest of its utterance's
audio are right; time stamps decide nothing. Nothing here writes: `build` does
the work, `inventory` tells of it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.build.sources import Source, Sources
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.backbone import Backbone, frame_shape
from mfhca_cache.features.backbone import check as check_backbone
from mfhca_cache.recipe.choices import Settings
from mfhca_cache.recipe.folder import folder_for, ssl_name
from mfhca_cache.recipe.kinds import SPECTRAL, Mfcc, Recipe, Ssl
from mfhca_cache.store.schema import DTYPES, shard_name
from mfhca_cache.store.shard import Shard, read_shard


@dataclass(frozen=True)
class Target:
    """One kind of feature to be in the cache: its recipe, its folder, the shape of a segment."""

    recipe: Recipe
    folder: Path
    frame_shape: tuple[int, ...]  # (T, F), or (M, T, F) of all layers

    @property
    def kind(self) -> str:
        """ "logspec", "logmel", "mfcc" or "ssl"."""
        return self.recipe.kind

    def shard(self, speaker: str) -> Path:
        """Where a speaker's shard belongs."""
        return self.folder / shard_name(speaker)

    def bytes_of(self, segments: int) -> int:
        """Bytes that the features of so many segments take."""
        return segments * math.prod(self.frame_shape) * DTYPES[self.recipe.dtype].itemsize


def targets_of(cache: Path, settings: Settings, backbone: Backbone | None) -> tuple[Target, ...]:
    """The recipes that the settings mean, and their folders in a cache (which need not exist).

    Args:
        cache: the cache folder.
        settings: what was chosen.
        backbone: the encoder; needed for "ssl" only.

    Raises:
        MfhcaError: "ssl" without a backbone, or settings that no recipe or not this backbone can fulfil.
    """
    shared: dict[str, Any] = {
        "tail": settings.tail,
        "minimum_tail_samples": settings.minimum_tail_samples,
        "pre_emphasis": settings.pre_emphasis,
        "dtype": settings.dtype,
    }
    targets = []
    for kind in SPECTRAL:
        if kind.kind in settings.kinds:
            scale: dict[str, Any] = {} if kind is Mfcc else {"db_reference": settings.db_reference}
            spec = kind(**shared, **scale)
            targets.append(Target(spec, folder_for(cache, spec), spec.frame_shape))
    if Ssl.kind in settings.kinds:
        if backbone is None:
            raise MfhcaError("features of kind ssl need an encoder; pass --backbone, or --kind logspec alone")
        ssl = Ssl(
            **shared,
            weights_sha256=backbone.weights_sha256,
            config_sha256=backbone.config_sha256,
            normalise=backbone.normalise,
            attention_mask=backbone.attention_mask,
            attention=backbone.attention,
            layer=settings.layer,
            compute_dtype=settings.compute_dtype,
        )
        check_backbone(backbone, ssl)
        folder = folder_for(cache, ssl, ssl_name(backbone.name, ssl.layer))
        targets.append(Target(ssl, folder, frame_shape(backbone, ssl)))
    return tuple(targets)


def as_options(targets: Sequence[Target]) -> str:
    """By what options `mfhca-train cv` takes these recipes; it reads one spectrogram, the first kind of those here."""
    of_kind = {target.kind: target.folder.name for target in targets}
    spec = next((of_kind[kind] for kind in ("logspec", "logmel") if kind in of_kind), None)
    named = {"spec": spec, "ssl": of_kind.get("ssl")}
    return " ".join(f"--{side} {name}" for side, name in named.items() if name)


@dataclass(frozen=True)
class State:
    """A speaker's shard compared with the audio. Every utterance id is in exactly one of the first four."""

    shard: Shard | None  # None where there is none or it cannot be used
    damage: str | None  # why a shard that is there cannot be used
    present: tuple[str, ...]
    stale: tuple[str, ...]  # computed from other audio
    missing: tuple[str, ...]
    unreachable: tuple[str, ...]  # their audio cannot be read; a row they have is kept
    moved: tuple[str, ...]  # rows of utterances that the manifest gives to another speaker

    @property
    def needed(self) -> tuple[str, ...]:
        """Utterances to compute, sorted."""
        return tuple(sorted((*self.stale, *self.missing)))

    @property
    def complete(self) -> bool:
        """Whether the shard can stay as it is."""
        return not self.needed and not self.moved

    def without_shard(self, damage: str) -> State:
        """The state when the shard turns out to be damaged: every utterance that can be read is missing."""
        readable = tuple(sorted((*self.present, *self.stale, *self.missing)))
        return State(None, damage, (), (), readable, self.unreachable, ())

    def kept(self) -> tuple[str, ...]:
        """Ids of the shard's rows that stay, utterances outside the manifest included.

        A row computed from other audio goes even if it cannot be computed anew: it is known to be wrong.
        """
        if self.shard is None:
            return ()
        gone = {*self.stale, *self.moved}
        return tuple(name for name in self.shard.utterance_ids if name not in gone)


def state_of(target: Target, speaker: str, sources: Sources) -> State:
    """Compares a speaker's shard with the audio.

    Args:
        target: the kind of feature.
        speaker: a speaker of the manifest.
        sources: from `read_sources`.
    """
    path = target.shard(speaker)
    shard, damage = None, None
    if path.exists():
        try:
            shard = read_shard(path)
            damage = foreign(shard, target.recipe.key, speaker)
        except MfhcaError as error:
            damage = str(error)
    if damage is not None:
        shard = None
    rows = {} if shard is None else dict(zip(shard.utterance_ids, shard.audio_sha256, strict=True))
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sources.speakers[speaker]:
        if name in sources.failed:
            groups["unreachable"].append(name)
        elif name not in rows:
            groups["missing"].append(name)
        else:
            groups["present" if rows[name] == sources.found[name].digest else "stale"].append(name)
    moved = tuple(name for name in rows if sources.speaker_of.get(name, speaker) != speaker)
    return State(
        shard,
        damage,
        present=tuple(groups["present"]),
        stale=tuple(groups["stale"]),
        missing=tuple(groups["missing"]),
        unreachable=tuple(groups["unreachable"]),
        moved=moved,
    )


def foreign(shard: Shard, key: str, speaker: str) -> str | None:
    """Why a sound shard does not belong where it lies, or None if it does."""
    if shard.key != key:
        return f"{shard.path}: holds recipe {shard.key}, its folder {key}; it was moved here"
    if shard.speaker != speaker:
        return f"{shard.path}: holds speaker {shard.speaker!r}, its name says {speaker!r}; it was renamed"
    return None


@dataclass(frozen=True)
class Plan:
    """What is to be done for a manifest, over all kinds of features."""

    targets: tuple[Target, ...]
    states: dict[tuple[str, str], State]  # by (kind, speaker)
    sources: Sources

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speakers with a shard that is not complete."""
        return tuple(name for name in self.sources.speakers if any(not s.complete for s in self.of(name)))

    @property
    def wanting(self) -> tuple[Target, ...]:
        """Kinds of features with a shard that is not complete."""
        kinds = {kind for (kind, _), state in self.states.items() if not state.complete}
        return tuple(target for target in self.targets if target.kind in kinds)

    def of(self, speaker: str) -> tuple[State, ...]:
        """The states of a speaker's shards."""
        return tuple(self.states[target.kind, speaker] for target in self.targets)

    def needed(self, kind: str | None = None) -> tuple[Source, ...]:
        """The utterances to compute, of one kind or of any; each once."""
        names = {name for (k, _), s in self.states.items() if kind in (None, k) for name in s.needed}
        return tuple(self.sources.found[name] for name in sorted(names))

    def segments(self, kind: str | None = None) -> int:
        """Segments to compute, by the files' headers."""
        return sum(source.segments(self.targets[0].recipe) for source in self.needed(kind))

    @property
    def stored_bytes(self) -> int:
        """Bytes of the features to compute."""
        return sum(target.bytes_of(self.segments(target.kind)) for target in self.targets)

    @property
    def seconds(self) -> float | None:
        """Estimated time, from the slowest rate that an earlier run noted in a shard; None where none did."""
        wanting = {target.kind for target in self.wanting}
        rates = [
            state.shard.provenance.get("segments_per_second")
            for (kind, _), state in self.states.items()
            if kind in wanting and state.shard is not None
        ]
        known = [rate for rate in rates if isinstance(rate, int | float) and rate > 0]
        return self.segments() / min(known) if known else None


def plan(targets: Sequence[Target], sources: Sources) -> Plan:
    """Compares a cache with the audio, for every kind and speaker."""
    states = {
        (target.kind, speaker): state_of(target, speaker, sources)
        for target in targets
        for speaker in sources.speakers
    }
    return Plan(tuple(targets), states, sources)
