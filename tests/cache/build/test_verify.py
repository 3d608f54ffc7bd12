"""`mfhca-cache verify`: every damaged or misplaced shard is reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_factory import call, command, done, failed


def test_verify_names_every_bad_shard_and_ends_with_1(own: Path) -> None:
    from mfhca_cache.store.shard import read_shard

    done(*command(own, own / "cache"))
    assert done("verify", "--cache", str(own / "cache")) == "3 shards are valid\n"
    a, b = (next((own / "cache").glob(f"*/{name}.h5")) for name in "ab")
    data = bytearray(a.read_bytes())
    data[read_shard(a).offset] ^= 1
    a.write_bytes(data)
    b.write_bytes(b.read_bytes()[:-1])
    result = call("verify", "--cache", str(own / "cache"))
    assert (result.exit_code, result.stdout) == (1, "1 shard is valid\n")
    assert "2 errors:" in result.stderr
    assert f"{a}: damaged" in result.stderr
    assert str(b) in result.stderr
    assert done(*command(own, own / "cache")).count("recomputed: ") == 1  # a's digest is seen by verify alone
    a.unlink()
    done(*command(own, own / "cache"))
    assert done("verify", "--cache", str(own / "cache")) == "3 shards are valid\n"


def test_verify_finds_a_shard_in_the_wrong_place_and_an_edited_recipe(own: Path) -> None:
    done(*command(own, own / "cache"))
    path = next((own / "cache").glob("*/a.h5"))
    (path.with_name("z.h5")).write_bytes(path.read_bytes())
    recipe = path.with_name("recipe.json")
    value = json.loads(recipe.read_text())
    value["recipe"]["hop_samples"] = 80
    recipe.write_text(json.dumps(value))
    printed = failed("verify", "--cache", str(own / "cache"))
    assert "has features of speaker 'a'; it was renamed" in printed
    assert "recipe.json: the recipe has key" in printed


def test_verify_finds_a_recipe_with_another_shape_than_its_shards(own: Path) -> None:
    """The shape is not part of the key."""
    done(*command(own, own / "cache"))
    (recipe,) = (own / "cache").glob("*/recipe.json")
    value = json.loads(recipe.read_text())
    recipe.write_text(json.dumps(value | {"frame_shape": value["frame_shape"][::-1]}))
    printed = failed("verify", "--cache", str(own / "cache"))
    assert "3 errors:" in printed
    assert "a.h5: has segments of shape (300, 200), recipe.json says (200, 300); delete" in printed


@pytest.mark.parametrize("name", ["verify", "prune"])
def test_cache_that_is_not_there_is_one_line(tmp_path: Path, name: str) -> None:
    printed = failed(name, "--cache", str(tmp_path / "gone"))
    assert printed.endswith("gone: no such folder; pass the cache folder as --cache\n")
