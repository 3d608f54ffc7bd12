"""Shards of one recipe that were computed under different conditions are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shard_factory import write

from mfhca_cache.store.conditions import mixture


def test_a_mixture_names_what_differs_between_and_inside_shards(tmp_path: Path) -> None:
    shard = write(tmp_path, {"a": 1})  # with one thread
    assert mixture([shard, shard]) == []
    assert mixture([shard, replace(shard, provenance={"threads": 1, "python": "another"})]) == []
    other = replace(shard, provenance={"threads": 2, "mixed_with": ["torch 2.6 and 2.7"]})
    assert mixture([shard, other, other]) == ["torch 2.6 and 2.7", "threads 1 and 2"]
