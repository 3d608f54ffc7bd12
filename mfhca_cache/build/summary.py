"""The work and the result of a run of `features`, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mfhca_cache.build.plan import Plan
from mfhca_cache.common import log
from mfhca_cache.common.text import duration_text, first_names, plural, size_text


@dataclass
class Outcome:
    """The result of a run."""

    utterances: int = 0  # computed
    segments: int = 0  # of those utterances
    stored_bytes: int = 0  # of features computed
    resumed: int = 0  # utterances already finished in part files of an interrupted run, counted per kind
    shards: int = 0  # written
    seconds: float = 0.0  # computing time, without loading the encoder
    failed: dict[str, str] = field(default_factory=dict)  # utterance or speaker -> error
    locked: set[str] = field(default_factory=set)  # speakers whose shard another process is writing
    notes: list[str] = field(default_factory=list)  # repairs that were made
    warnings: list[tuple[str, str]] = field(default_factory=list)  # what is unusual, and the utterance

    def add(self, other: Outcome) -> None:
        """Adds the result of a run over other speakers, except its time."""
        for name in ("utterances", "segments", "stored_bytes", "resumed", "shards"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failed |= other.failed
        self.locked |= other.locked
        self.notes += other.notes
        self.warnings += other.warnings


def describe_work(plan: Plan, seconds: float | None) -> str:
    """What a run would compute, and how long it would take; None if that is not known."""
    time = "unknown" if seconds is None else f"about {duration_text(seconds)}"
    return f"to compute: {plural(plan.segments(), 'segment')}, {size_text(plan.stored_bytes)}, time {time}"


def summarise(outcome: Outcome) -> Iterator[str]:
    """Lines for the terminal; unusual audio becomes warnings, with counts."""
    yield from outcome.notes
    for warning in sorted({warning for warning, _ in outcome.warnings}):
        names = [name for kind, name in outcome.warnings if kind == warning]
        log.LOG.warning("%s %s: %s", plural(len(names), "utterance"), warning, first_names(names))
    if outcome.resumed:
        yield f"resumed: {plural(outcome.resumed, 'utterance')} already finished by an interrupted run"
    rate = outcome.segments / outcome.seconds if outcome.seconds else 0.0
    yield (
        f"computed {plural(outcome.utterances, 'utterance')}, {plural(outcome.segments, 'segment')}, "
        f"{size_text(outcome.stored_bytes)} in {duration_text(outcome.seconds)} "
        f"({rate:.1f} segments/s); {plural(outcome.shards, 'shard')} written"
    )
