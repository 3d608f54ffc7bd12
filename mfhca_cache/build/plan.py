"""Comparing a cache with a manifest's audio: which features are present, stale or missing.

A row of a shard is valid if its recipe key and the digest of its utterance's
audio match; time stamps are never used. Nothing here writes: `builder`
computes what is missing, `status` reports it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mfhca_cache.build.sources import Source, Sources
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.log import LOG
from mfhca_cache.features.backbone import Backbone, frame_shape
from mfhca_cache.features.backbone import check as check_backbone
from mfhca_cache.manifest.card import card_path, read_card
from mfhca_cache.recipe.choices import Settings
from mfhca_cache.recipe.folder import folder_for, ssl_name
from mfhca_cache.recipe.kinds import SPECTRAL, Mfcc, Recipe, Ssl
from mfhca_cache.store.schema import DTYPES, shard_name
from mfhca_cache.store.shard import Shard, read_shard


@dataclass(frozen=True)
class Target:
    """One kind of features to compute: its recipe, its folder and the shape of a segment."""

    recipe: Recipe
    folder: Path
    frame_shape: tuple[int, ...]  # (T, F), or (M, T, F) with all layers

    @property
    def kind(self) -> str:
        """The kind of the recipe: "logspec", "logmel", "mfcc" or "ssl"."""
        return self.recipe.kind

    def shard(self, speaker: str) -> Path:
        """Path of a speaker's shard."""
        return self.folder / shard_name(speaker)

    def bytes_of(self, segments: int) -> int:
        """Size in bytes of the features of so many segments."""
        return segments * math.prod(self.frame_shape) * DTYPES[self.recipe.dtype].itemsize


def with_card(settings: Settings, manifest: Path) -> Settings:
    """The settings with what the card of a manifest says about options that were not given.

    Raises:
        MfhcaError: the card is damaged.
    """
    path = card_path(manifest) if settings.minimum_tail_samples is None else None
    shortest = None if path is None else read_card(path).features.minimum_tail_samples
    if shortest is None:
        return settings
    LOG.info("corpus card %s: --minimum-tail %d", manifest.stem, shortest)
    return replace(settings, minimum_tail_samples=shortest)


def make_targets(cache: Path, settings: Settings, backbone: Backbone | None) -> tuple[Target, ...]:
    """The recipes for the given settings, and their folders in a cache (which need not exist).

    Args:
        cache: the cache folder.
        settings: the kinds of features and their options.
        backbone: the encoder; needed for "ssl" only.

    Raises:
        MfhcaError: "ssl" without a backbone, or settings that are invalid for a recipe or this backbone.
    """
    shared: dict[str, Any] = {
        "tail": settings.tail,
        "minimum_tail_samples": settings.minimum_tail_samples or 0,
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


def cv_options(targets: Sequence[Target]) -> str:
    """The options --spec and --ssl that make `mfhca-train cv` read these recipes (one spectrogram: the first)."""
    names = {target.kind: target.folder.name for target in targets}
    spec = next((names[kind] for kind in ("logspec", "logmel") if kind in names), None)
    options = {"spec": spec, "ssl": names.get("ssl")}
    return " ".join(f"--{option} {name}" for option, name in options.items() if name)


GROUPS = ("present", "renamed", "stale", "missing", "unreadable")  # of utterances


@dataclass(frozen=True)
class State:
    """A speaker's shard compared with the audio. Each utterance id is in exactly one of the first five groups."""

    shard: Shard | None  # None if it does not exist or cannot be used
    damage: str | None  # why an existing shard cannot be used
    present: tuple[str, ...]
    renamed: tuple[str, ...]  # the same audio, but its file has another path now; the rows are kept
    stale: tuple[str, ...]  # computed from other audio
    missing: tuple[str, ...]
    unreadable: tuple[str, ...]  # their audio cannot be read; existing rows are kept
    moved: tuple[str, ...]  # rows of utterances that belong to another speaker in the manifest

    @property
    def needed(self) -> tuple[str, ...]:
        """Ids of the utterances to compute, sorted."""
        return tuple(sorted((*self.stale, *self.missing)))

    @property
    def complete(self) -> bool:
        """Whether the shard needs no change."""
        return not (self.needed or self.renamed or self.moved)

    def without_shard(self, damage: str) -> State:
        """The state after the shard proved to be damaged: every readable utterance is missing."""
        readable = tuple(sorted((*self.present, *self.renamed, *self.stale, *self.missing)))
        return State(None, damage, (), (), (), readable, self.unreadable, ())

    def kept(self) -> tuple[str, ...]:
        """Ids of the rows to keep, including utterances outside the manifest.

        A stale row is dropped even if it cannot be computed again: it is known to be wrong.
        """
        if self.shard is None:
            return ()
        dropped = {*self.stale, *self.moved}
        return tuple(name for name in self.shard.utterance_ids if name not in dropped)


def compare_shard(target: Target, speaker: str, sources: Sources) -> State:
    """Compares a speaker's shard with the audio.

    Args:
        target: the kind of features.
        speaker: a speaker of the manifest.
        sources: from `read_sources`.
    """
    path = target.shard(speaker)
    shard, damage = None, None
    if path.exists():
        try:
            shard = read_shard(path)
            damage = misplacement(shard, target.recipe.key)
        except MfhcaError as error:
            damage = str(error)
    if damage is not None:
        shard = None
    rows = {} if shard is None else shard.origins()
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sources.speakers[speaker]:
        if name in sources.unreadable:
            groups["unreadable"].append(name)
        elif name not in rows:
            groups["missing"].append(name)
        else:
            origin = sources.available[name].origin
            same_audio = rows[name].audio_sha256 == origin.audio_sha256
            groups["present" if rows[name] == origin else "renamed" if same_audio else "stale"].append(name)
    moved = tuple(name for name in rows if sources.speaker_of.get(name, speaker) != speaker)
    return State(shard, damage, moved=moved, **{group: tuple(groups[group]) for group in GROUPS})


def misplacement(shard: Shard, key: str) -> str | None:
    """The error for a valid shard in the folder of another recipe or under another speaker's name, or None."""
    if shard.key != key:
        return f"{shard.path}: has features of recipe {shard.key}, but its folder is for {key}; it was moved here"
    if shard.path.name != shard_name(shard.speaker):
        return f"{shard.path}: has features of speaker {shard.speaker!r}; it was renamed"
    return None


@dataclass(frozen=True)
class Plan:
    """The work to do for a manifest, over all kinds of features."""

    targets: tuple[Target, ...]
    states: dict[tuple[str, str], State]  # by (kind, speaker)
    sources: Sources

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speakers with an incomplete shard."""
        return tuple(
            name for name in self.sources.speakers if any(not s.complete for s in self.states_of(name))
        )

    @property
    def incomplete(self) -> tuple[Target, ...]:
        """Kinds of features with an incomplete shard."""
        kinds = {kind for (kind, _), state in self.states.items() if not state.complete}
        return tuple(target for target in self.targets if target.kind in kinds)

    def states_of(self, speaker: str) -> tuple[State, ...]:
        """The states of a speaker's shards."""
        return tuple(self.states[target.kind, speaker] for target in self.targets)

    def needed(self, kind: str | None = None) -> tuple[Source, ...]:
        """The utterances to compute, of one kind or of any; each once."""
        names = {name for (k, _), s in self.states.items() if kind in (None, k) for name in s.needed}
        return tuple(self.sources.available[name] for name in sorted(names))

    def segments(self, kind: str | None = None) -> int:
        """Number of segments to compute, according to the files' headers."""
        return sum(source.segments(self.targets[0].recipe) for source in self.needed(kind))

    @property
    def stored_bytes(self) -> int:
        """Size in bytes of the features to compute."""
        return sum(target.bytes_of(self.segments(target.kind)) for target in self.targets)

    @property
    def seconds(self) -> float | None:
        """Estimated time, from the slowest rate an earlier run recorded in a shard; None without one."""
        kinds = {target.kind for target in self.incomplete}
        rates = [
            state.shard.provenance.get("segments_per_second")
            for (kind, _), state in self.states.items()
            if kind in kinds and state.shard is not None
        ]
        known = [rate for rate in rates if isinstance(rate, int | float) and rate > 0]
        return self.segments() / min(known) if known else None


def make_plan(targets: Sequence[Target], sources: Sources) -> Plan:
    """Compares a cache with the audio, for every kind and speaker."""
    states = {
        (target.kind, speaker): compare_shard(target, speaker, sources)
        for target in targets
        for speaker in sources.speakers
    }
    return Plan(tuple(targets), states, sources)
