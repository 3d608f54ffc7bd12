"""`mfhca-cache status`: which features a cache has for a manifest, which not, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.build.plan import GROUPS, Plan, State, Target
from mfhca_cache.common.errors import SHOWN
from mfhca_cache.common.files import size_of
from mfhca_cache.common.text import first_names, plural, size_text
from mfhca_cache.recipe.folder import explain, recipe_folders
from mfhca_cache.store.reader import list_recipes

NAMES_SHOWN = 8


@dataclass(frozen=True)
class KindStatus:
    """One kind of features in a cache, compared with a manifest's audio. Each utterance is in one group, sorted.

    Attributes:
        folder: the recipe's folder, which may not exist yet.
        present: computed from the audio as it is.
        renamed: computed from the same audio under another path; `compute_features` only corrects the path.
        stale: computed from other audio.
        missing: not computed.
        unreadable: their audio cannot be read.
    """

    folder: Path
    present: tuple[str, ...]
    renamed: tuple[str, ...]
    stale: tuple[str, ...]
    missing: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class CacheStatus:
    """A cache compared with a manifest's audio. `print` shows what `mfhca-cache status` shows.

    Attributes:
        kinds: by kind of features, e.g. "logspec" and "ssl".
        complete: whether all features of all utterances are present.
    """

    kinds: Mapping[str, KindStatus]
    complete: bool
    text: str

    def __str__(self) -> str:
        return self.text


def status_of(cache: Path, plan: Plan) -> CacheStatus:
    """What a cache has for a manifest.

    Args:
        cache: the cache folder.
        plan: the cache compared with a manifest's audio.

    Raises:
        MfhcaError: the cache cannot be read.
    """
    speakers = list(plan.sources.speakers)
    kinds = {
        target.kind: KindStatus(
            target.folder,
            **{
                group: tuple(
                    sorted(n for name in speakers for n in getattr(plan.states[target.kind, name], group))
                )
                for group in GROUPS
            },
        )
        for target in plan.targets
    }
    complete = not plan.speakers and not plan.sources.unreadable
    return CacheStatus(kinds, complete, "\n".join(describe(cache, plan, None)))


def describe(cache: Path, plan: Plan, limit: int | None = SHOWN) -> Iterator[str]:
    """Lists what is present, missing or stale, and which field or file differs.

    Args:
        cache: the cache folder.
        plan: the cache compared with a manifest's audio.
        limit: the most reasons per kind; None for all.

    Yields:
        Lines for the terminal.

    Raises:
        MfhcaError: the cache cannot be read.
    """
    for target in plan.targets:
        states = {name: plan.states[target.kind, name] for name in plan.sources.speakers}
        counts = {group: sum(len(getattr(s, group)) for s in states.values()) for group in GROUPS}
        listed = ", ".join(
            f"{count:,} {group}" for group, count in counts.items() if count or group == "present"
        )
        yield f"{target.folder.name}: {listed} of {plural(plan.sources.count, 'utterance')}"
        yield from other_recipes(cache, target)
        if target.folder.exists():
            reasons = [line for speaker, state in states.items() for line in _reasons(plan, speaker, state)]
            yield from _first(reasons, limit)
    yield from _first([f"unreadable: {reason}" for reason in plan.sources.unreadable.values()], limit)
    if plan.speakers:
        yield "`mfhca-cache features` with the same options computes what is missing or stale"
    yield from _disk_use(recipe_folders(cache) if cache.exists() else [])


def other_recipes(cache: Path, target: Target) -> Iterator[str]:
    """If a cache lacks a recipe: how the recipes of the same kind that it has differ from it.

    Raises:
        MfhcaError: the cache cannot be read.
    """
    if target.folder.exists():
        return
    for other in list_recipes(cache):
        if other.kind == target.kind:
            differences = explain(target.recipe.to_dict(), other.recipe, ("wanted", "in the cache"))
            yield f"  the cache has another recipe, {other.path.name}: {'; '.join(differences)}"


def _first(lines: Sequence[str], limit: int | None) -> Iterator[str]:
    yield from lines[:limit]
    if limit is not None and len(lines) > limit:
        yield f"  ... and {len(lines) - limit} more; -v shows all"


def _reasons(plan: Plan, speaker: str, state: State) -> Iterator[str]:
    """Why a speaker's shard is not complete."""
    if state.damage is not None:
        yield f"  speaker {speaker}: damaged: {state.damage}"
    elif state.shard is None and state.missing:
        yield f"  speaker {speaker}: missing: no shard"
    elif state.missing:
        yield f"  speaker {speaker}: missing: {first_names(state.missing, NAMES_SHOWN)}"
    for name in state.stale:
        source, shard = plan.sources.available[name], state.shard
        cached = shard.audio_sha256[shard.utterance_ids.index(name)] if shard is not None else ""
        yield (
            f"  speaker {speaker}: stale: {name}: the audio of {source.utterance.path} changed "
            f"(SHA-256 {cached[:12]} in the cache, {source.digest[:12]} now)"
        )
    for name in state.renamed:
        path = plan.sources.available[name].utterance.path
        cached = state.shard.origins()[name].path if state.shard is not None else ""
        yield f"  speaker {speaker}: renamed: {name}: {cached} in the cache, {path} in the manifest"
    if state.moved:
        yield f"  speaker {speaker}: belong to other speakers in the manifest: {first_names(state.moved, NAMES_SHOWN)}"


def _disk_use(folders: Sequence[Path]) -> Iterator[str]:
    """The size of all folders together, and of each."""
    sizes = {path.name: size_of(path) for path in folders}
    yield f"on disk: {size_text(sum(sizes.values()))}"
    for name, size in sizes.items():
        yield f"{size_text(size):>10}  {name}"
