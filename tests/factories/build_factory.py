"""Planning and building a cache in tests, without the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_factory import manifest_of

from mfhca_cache.build.builder import Builder
from mfhca_cache.build.plan import Plan, make_plan, make_targets
from mfhca_cache.build.sources import read_sources
from mfhca_cache.build.summary import Outcome
from mfhca_cache.features.backbone import Backbone
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.choices import Settings

SPEC = Settings(kinds=("logspec",))


def plan_for(
    rows: Sequence[Utterance],
    root: Path,
    cache: Path,
    settings: Settings = SPEC,
    backbone: Backbone | None = None,
) -> Plan:
    """The plan for a manifest's rows."""
    return make_plan(make_targets(cache, settings, backbone), read_sources(rows, root))


def build(
    rows: Sequence[Utterance],
    root: Path,
    cache: Path,
    settings: Settings = SPEC,
    backbone: Backbone | None = None,
    **options: Any,
) -> Outcome:
    """Computes what is missing, as the command `features` does."""
    todo = plan_for(rows, root, cache, settings, backbone)
    path = root.parent / "rows.csv"
    manifest_of(path, list(rows))
    if not todo.speakers:
        return Outcome(failed=dict(todo.sources.unreadable))
    outcome = Builder(todo.incomplete, todo.sources, backbone, **options).run(todo.speakers, path)
    outcome.failed |= todo.sources.unreadable
    return outcome
