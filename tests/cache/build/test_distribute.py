"""Tasks of a cluster: one per speaker, with the same digests as in one process."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from audio_factory import SEGMENTS, manifest_of, recorded
from build_factory import build, plan_for

from mfhca_cache.build import distribute
from mfhca_cache.common.cluster import Cluster
from mfhca_cache.manifest.utterance import Utterance


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs tasks one after another in this process, pickled as for a worker; lists their names."""
    called: list[str] = []

    def one_by_one(
        _: Cluster, function: Callable[[Any], Any], items: Sequence[Any], name: Callable[[Any], str]
    ) -> Iterator[tuple[Any, Any]]:
        for item in items:
            called.append(name(item))
            yield item, pickle.loads(pickle.dumps(function))(pickle.loads(pickle.dumps(item)))

    monkeypatch.setattr(distribute, "results", one_by_one)
    return called


def test_every_speaker_is_a_task_and_the_outcomes_add_up(
    rows: list[Utterance], root: Path, tmp_path: Path, names: list[str]
) -> None:
    build(rows, root, tmp_path / "alone")
    manifest = manifest_of(tmp_path / "rows.csv", rows).path
    seen: list[int] = []
    plan = plan_for(rows, root, tmp_path / "cache")
    outcome = distribute.build_cache(plan, None, manifest, Cluster("unused"), advance=seen.append)
    assert names == ["speaker a", "speaker b", "speaker c"]
    assert (outcome.utterances, outcome.segments, outcome.shards) == (7, sum(SEGMENTS.values()), 3)
    assert sum(seen) == outcome.segments
    assert recorded(tmp_path / "cache") == recorded(tmp_path / "alone")


def test_a_moved_utterance_leaves_its_first_shard_on_a_cluster_too(
    rows: list[Utterance], root: Path, tmp_path: Path, names: list[str]
) -> None:
    build(rows, root, tmp_path / "cache")
    moved = [
        Utterance(row.utterance, row.path, "b" if row.utterance == "a1" else row.speaker, row.emotion)
        for row in rows
    ]
    manifest = manifest_of(tmp_path / "moved.csv", moved).path
    plan = plan_for(moved, root, tmp_path / "cache")
    distribute.build_cache(plan, None, manifest, Cluster("unused"))
    assert names == ["speaker a", "speaker b"]
    build(moved, root, tmp_path / "fresh")
    assert recorded(tmp_path / "cache") == recorded(tmp_path / "fresh")


def test_a_bad_file_is_named_and_the_other_tasks_are_done(
    rows: list[Utterance], root: Path, tmp_path: Path, names: list[str]
) -> None:
    build(rows, root, tmp_path / "alone")
    (root / "a/bad.wav").write_text("no audio\n" * 40)
    more = [*rows, Utterance("a0", "a/bad.wav", "a", "joy")]
    plan = plan_for(more, root, tmp_path / "cache")
    outcome = distribute.build_cache(
        plan, None, manifest_of(tmp_path / "rows.csv", more).path, Cluster("unused")
    )
    assert names == ["speaker a", "speaker b", "speaker c"]
    assert list(outcome.failed) == ["a0"]
    assert "bad.wav" in outcome.failed["a0"]
    assert recorded(tmp_path / "cache") == recorded(tmp_path / "alone")
