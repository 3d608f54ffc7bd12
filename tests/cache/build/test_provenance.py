"""Features computed under different conditions in one shard are reported, in the output and in the shard."""

from __future__ import annotations

from pathlib import Path

import pytest
from audio_factory import write_audio
from build_factory import build

from mfhca_cache.build import provenance as module
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.shard import read_shard


def test_another_processor_in_one_shard_is_reported(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(module, "processor", lambda: "first")
    build(rows, root, cache)
    write_audio(root / "a/a1.wav", "other", 1.0)
    monkeypatch.setattr(module, "processor", lambda: "second")
    outcome = build(rows, root, cache)
    path = next(cache.glob("*/a.h5"))
    assert outcome.notes == [
        f"{path}: its features were computed under different conditions (processor first and second); "
        "the last digits may differ from those of one run"
    ]
    assert read_shard(path).provenance["mixed_with"] == ["processor first and second"]


def test_equal_conditions_are_not_worth_a_note(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    build(rows, root, tmp_path / "cache")
    write_audio(root / "a/a1.wav", "other", 1.0)
    assert build(rows, root, tmp_path / "cache").notes == []
    shard = read_shard(next((tmp_path / "cache").glob("*/a.h5")))
    assert "mixed_with" not in shard.provenance
