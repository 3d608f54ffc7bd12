"""Shards of one recipe that were computed under different conditions are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shard_factory import write

from mfhca_cache.store.conditions import code_digest, mixture


def test_a_mixture_names_what_differs_between_and_inside_shards(tmp_path: Path) -> None:
    shard = write(tmp_path, {"a": 1})  # with one thread
    assert mixture([shard, shard]) == []
    assert mixture([shard, replace(shard, provenance={"threads": 1, "python": "another"})]) == []
    other = replace(shard, provenance={"threads": 2, "mixed_with": ["torch 2.6 and 2.7"]})
    assert mixture([shard, other, other]) == ["torch 2.6 and 2.7", "threads 1 and 2"]


def test_a_code_digest_follows_every_byte_and_name_of_its_sources(tmp_path: Path) -> None:
    def digest(folder: str, **sources: str) -> str:
        for name, text in sources.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text)
        return code_digest(tmp_path / folder, "room/**/*.py", "other/one.py")

    plain = {"room/a.py": "1", "room/deep/b.py": "2", "other/one.py": "3"}
    first = digest("first", **plain)
    assert digest("same", **plain, **{"room/notes.txt": "4", "other/two.py": "5"}) == first
    changed = [digest(f"changed-{k}", **{**plain, name: "9"}) for k, name in enumerate(plain)]
    renamed = digest("renamed", **{name.replace("b.py", "c.py"): text for name, text in plain.items()})
    assert len({first, renamed, *changed}) == 5
