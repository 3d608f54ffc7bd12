"""Comparing a cache with the audio: what is present, stale or missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from audio_factory import SEGMENTS, recorded, write_audio
from build_factory import build, plan_for

from mfhca_cache.build.plan import make_targets
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.backbone import Backbone
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.choices import Settings
from mfhca_cache.store.shard import read_shard


def test_complete_cache_wants_nothing(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    build(rows, root, tmp_path / "cache")
    todo = plan_for(rows, root, tmp_path / "cache")
    assert todo.speakers == todo.incomplete == todo.needed() == ()
    assert (todo.segments(), todo.stored_bytes) == (0, 0)
    assert [len(todo.states["logspec", s].present) for s in "abc"] == [4, 2, 1]


def test_plan_knows_segments_and_bytes_before_anything_is_computed(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone
) -> None:
    todo = plan_for(rows, root, tmp_path / "cache", Settings(), backbone)
    total = sum(SEGMENTS.values())
    assert todo.segments() == total
    assert todo.stored_bytes == total * (300 * 200 + 149 * 64) * 2
    assert todo.seconds is None
    assert not (tmp_path / "cache").exists()


def test_plan_estimates_time_from_the_rate_in_the_shards(
    rows: list[Utterance], root: Path, tmp_path: Path
) -> None:
    build(rows[:4], root, tmp_path / "cache")
    write_audio(root / "a/a1.wav", "another", 1.2)
    todo = plan_for(rows, root, tmp_path / "cache")
    assert todo.seconds is not None
    rate = read_shard(todo.targets[0].shard("a")).provenance["segments_per_second"]
    assert todo.seconds == pytest.approx(todo.segments() / rate)
    assert todo.segments() == 1 + 12 + 1 + 2


def test_ssl_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match="features of kind ssl need an encoder; pass --backbone"):
        make_targets(tmp_path, Settings(), None)


def test_utterance_that_moved_to_another_speaker_leaves_the_first_shard(
    rows: list[Utterance], root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache)
    moved = [replace(row, speaker="b") if row.utterance == "a1" else row for row in rows]
    state = plan_for(moved, root, cache).states["logspec", "a"]
    assert (state.moved, state.complete) == (("a1",), False)
    build(moved, root, cache)
    build(moved, root, tmp_path / "fresh")
    assert recorded(cache) == recorded(tmp_path / "fresh")


def test_spans_of_one_recording_are_utterances_of_their_own(root: Path, tmp_path: Path) -> None:
    write_audio(root / "long.wav", "long", 5.0)
    rows = [Utterance(f"u{i}", "long.wav", "s", "joy", start_s=i * 1.0, end_s=i + 1.5) for i in range(3)]
    build(rows, root, tmp_path / "cache")
    shard = read_shard(next((tmp_path / "cache").glob("*/s.h5")))
    assert shard.utterance_ids == ("u0", "u1", "u2")
    assert len(set(shard.audio_sha256)) == 3
    assert shard.valid_frames.tolist() == [150] * 3
    corrected = [replace(row, end_s=1.0) if row.utterance == "u0" else row for row in rows]
    assert plan_for(corrected, root, tmp_path / "cache").states["logspec", "s"].stale == ("u0",)


def test_a_renamed_file_keeps_its_features_and_gets_its_new_path(
    rows: list[Utterance], root: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache)
    decoded.clear()
    (root / "a/a1.wav").rename(root / "a/renamed.wav")
    renamed = [replace(row, path="a/renamed.wav") if row.utterance == "a1" else row for row in rows]
    state = plan_for(renamed, root, cache).states["logspec", "a"]
    assert (state.renamed, state.needed, state.complete) == (("a1",), (), False)
    build(renamed, root, cache)
    assert decoded == []
    assert plan_for(renamed, root, cache).speakers == ()
    build(renamed, root, tmp_path / "fresh")
    assert recorded(cache) == recorded(tmp_path / "fresh")


def test_swapped_paths_are_computed_again(
    rows: list[Utterance], root: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache)
    decoded.clear()
    paths = {row.utterance: row.path for row in rows}
    other = {"a1": "a2", "a2": "a1"}
    swapped = [replace(row, path=paths[other.get(row.utterance, row.utterance)]) for row in rows]
    assert plan_for(swapped, root, cache).states["logspec", "a"].stale == ("a1", "a2")
    build(swapped, root, cache)
    assert sorted(decoded) == ["a1", "a2"]
    build(swapped, root, tmp_path / "fresh")
    assert recorded(cache) == recorded(tmp_path / "fresh")


def test_a_shard_of_an_older_format_is_recognised_and_computed_again(
    rows: list[Utterance], root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache)
    before = recorded(cache)
    path = next(cache.glob("*/a.h5"))
    path.write_bytes(path.read_bytes().replace(b"mfhca-shard 3", b"mfhca-shard 2", 1))
    state = plan_for(rows, root, cache).states["logspec", "a"]
    assert (
        "has shard format version 2, this program reads version 3; `mfhca-cache features` computes it again"
        in str(state.damage)
    )
    outcome = build(rows, root, cache)
    assert (outcome.utterances, len(outcome.notes)) == (4, 1)
    assert recorded(cache) == before
