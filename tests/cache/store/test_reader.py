"""Recipes of a cache, and rows of many shards gathered into one array."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layer_factory import FRAMES, LAYERS, WIDTH, write_hidden_states
from shard_factory import FRAME_SHAPE, RECIPE, open_files, recipe_folder, write

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.folder import folder_for, read_recipe, write_recipe
from mfhca_cache.recipe.kinds import LogSpec, Ssl
from mfhca_cache.store import shard as shard_module
from mfhca_cache.store.reader import Features, find_recipe, list_recipes
from mfhca_cache.store.shard import read_shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return recipe_folder(tmp_path)


def ssl(digit: str) -> Ssl:
    return Ssl(digit * 64, digit * 64, normalise=True, attention_mask=False)


def test_rows_are_where_the_file_says(folder: Path) -> None:
    with Features.open(folder, ["08", "03", "08"]) as features:
        assert [shard.speaker for shard in features.shards] == ["08", "03"]
        assert features.frame_shape == FRAME_SHAPE
        assert features.dtype == np.float16
        assert features.rows("03a") == (1, 0, 2)
        assert features.rows("03b") == (1, 2, 0)
        assert features.rows("08c") == (0, 2, 3)
        with pytest.raises(
            MfhcaError, match="no features of utterance 03x; run `mfhca-cache features MANIFEST "
        ):
            features.rows("03x")


def test_an_utterance_is_its_own_rows(folder: Path) -> None:
    with Features.open(folder, ["08", "03"]) as features:
        with h5py.File(folder / "03.h5", "r") as file:
            stored, valid = file["features"][2:5], file["valid_frames"][2:5]
        got, frames = features.utterance("03c")
        np.testing.assert_array_equal(got, stored)
        np.testing.assert_array_equal(frames, valid)
        frames += 1
        np.testing.assert_array_equal(features.utterance("03c")[1], valid)
        empty, none = features.utterance("08b")
        assert (empty.shape, none.shape) == ((0, *FRAME_SHAPE), (0,))
        with pytest.raises(
            MfhcaError, match="no features of utterance 03x; run `mfhca-cache features MANIFEST "
        ):
            features.utterance("03x")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(picks=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), max_size=20), fresh=st.booleans())
def test_gather_is_indexing(folder: Path, picks: list[tuple[int, int]], fresh: bool) -> None:
    with Features.open(folder, ["03", "08"]) as features:
        stored = []
        for shard in features.shards:
            with h5py.File(shard.path, "r") as file:
                stored.append(file["features"][:])
        which, rows = np.array([s for s, _ in picks], np.int64), np.array([r for _, r in picks], np.int64)
        out = None if fresh else np.full((len(picks), *FRAME_SHAPE), np.nan, np.float16)
        got = features.gather(which, rows, out)
        assert fresh or got is out
        assert got.shape == (len(picks), *FRAME_SHAPE)
        for row, (s, r) in zip(got, picks, strict=True):
            np.testing.assert_array_equal(row, stored[s][r])


def test_neighbours_are_read_in_one_call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = os.preadv

    def counted(descriptor: int, buffers: list, offset: int) -> int:
        calls.append(offset)
        return real(descriptor, buffers, offset)

    with Features.open(folder, ["03", "08"]) as features:
        monkeypatch.setattr(shard_module.os, "preadv", counted)
        features.gather(np.array([0, 0, 0, 1, 1, 0]), np.array([1, 2, 3, 4, 0, 1]))
    assert len(calls) == 4


def test_one_layer_of_all_is_read_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = write_hidden_states(tmp_path)
    recipe = read_recipe(folders["all"])
    sizes: list[int] = []
    real = os.preadv

    def counted(descriptor: int, buffers: list, offset: int) -> int:
        sizes.append(sum(map(len, buffers)))
        return real(descriptor, buffers, offset)

    which, rows = np.array([1, 0, 0, 1]), np.array([2, 0, 1, 2])
    with Features.open(recipe, ["s0", "s1"]) as features:
        whole = features.gather(which, rows)
        assert whole.shape == (4, LAYERS, FRAMES, WIDTH)
    for layer in range(LAYERS):
        with Features.open(replace(recipe, layer=layer), ["s0", "s1"]) as features:
            assert features.frame_shape == (FRAMES, WIDTH)
            with monkeypatch.context() as patch:
                patch.setattr(shard_module.os, "preadv", counted)
                np.testing.assert_array_equal(features.gather(which, rows), whole[:, layer])
            assert features.row_bytes == FRAMES * WIDTH * 2
    assert sizes == [FRAMES * WIDTH * 2] * 4 * LAYERS


def test_reads_that_return_less_are_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.preadv

    def stingy(descriptor: int, buffers: list, offset: int) -> int:
        return real(descriptor, [buffers[0][:7]], offset)

    with Features.open(folder, ["03"]) as features:
        whole = features.gather(np.zeros(5, int), np.arange(5))
        monkeypatch.setattr(shard_module.os, "preadv", stingy)
        np.testing.assert_array_equal(features.gather(np.zeros(5, int), np.arange(5)), whole)


@pytest.mark.parametrize(
    ("which", "rows", "match"),
    [
        ([0], [5], "outside its shard"),
        ([0], [-1], "outside its shard"),
        ([2], [0], r"shard_index must be in 0\.\.1"),
        ([-1], [0], r"shard_index must be in 0\.\.1"),
    ],
)
def test_gather_refuses_rows_that_are_not_there(folder: Path, which: list, rows: list, match: str) -> None:
    with Features.open(folder, ["03", "08"]) as features, pytest.raises(IndexError, match=match):
        features.gather(np.array(which), np.array(rows))


def test_gather_refuses_a_wrong_buffer(folder: Path) -> None:
    with Features.open(folder, ["03"]) as features:
        good = np.empty((2, *FRAME_SHAPE), np.float16)
        for out in (good.astype(np.float32), good[:1], np.empty((4, *FRAME_SHAPE), np.float16)[::2]):
            with pytest.raises(ValueError, match="out must be a writeable C-contiguous float16"):
                features.gather(np.zeros(2, int), np.arange(2), out)
        with pytest.raises(ValueError, match="lists of the same length"):
            features.gather(np.zeros(2, int), np.arange(3))


def test_file_cut_short_while_open_is_one_line(folder: Path) -> None:
    with Features.open(folder, ["03"]) as features:
        os.truncate(features.shards[0].path, features.shards[0].offset + 30)
        with pytest.raises(
            MfhcaError, match=r"03\.h5: truncated: ends at byte \d+, \d+ bytes are missing"
        ) as caught:
            features.gather(np.zeros(5, int), np.arange(5))
    assert "\n" not in str(caught.value)


def test_shard_replaced_while_open_still_reads_the_old_rows(folder: Path) -> None:
    with Features.open(folder, ["03"]) as features:
        before = features.gather(np.zeros(5, int), np.arange(5))
        write(folder, {"other": 1}, "03")
        np.testing.assert_array_equal(features.gather(np.zeros(5, int), np.arange(5)), before)


def test_missing_shards_are_named(folder: Path) -> None:
    with pytest.raises(MfhcaError, match=r"no features of speaker 09; run `mfhca-cache features .*`$"):
        Features.open(folder, ["03", "09"])
    with pytest.raises(MfhcaError, match=r"no features of 2 speakers.*\n  09\n  10$"):
        Features.open(folder, ["03", "09", "10"])


def test_shard_in_the_wrong_place_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "03.h5").rename(folder / "09.h5")
    with pytest.raises(MfhcaError, match=r"09\.h5: has .*'03'.*, expected .*'09'"):
        Features.open(folder, ["09"])
    other = folder_for(tmp_path, LogSpec(bins=3))
    write_recipe(other, LogSpec(bins=3), FRAME_SHAPE)
    (folder / "08.h5").rename(other / "08.h5")
    with pytest.raises(MfhcaError, match=f"has .*{RECIPE.key}.*, expected .*{LogSpec(bins=3).key}"):
        Features.open(other, ["08"])


def test_shard_of_another_dtype_is_refused(folder: Path) -> None:
    write(folder, {"x": 1}, "03", dtype="float32")
    with pytest.raises(MfhcaError, match=r"03\.h5: has .*'float32'\), expected .*'float16'\)"):
        Features.open(folder, ["08", "03"])


def test_utterance_of_two_speakers_is_refused(folder: Path) -> None:
    write(folder, {"03a": 1}, "09")
    before = open_files()
    with pytest.raises(MfhcaError, match=r"utterance 03a is in .*03\.h5 and in .*09\.h5"):
        Features.open(folder, ["03", "09"])
    assert open_files() == before


def test_closing_gives_the_descriptors_back(folder: Path) -> None:
    before = open_files()
    features = Features.open(folder, ["03", "08"])
    assert open_files() == before + 2
    features.close()
    features.close()
    assert open_files() == before


def test_list_recipes(tmp_path: Path) -> None:
    assert list_recipes(tmp_path / "none") == []
    for recipe, name in ((RECIPE, "logspec"), (ssl("a"), "ssl-hubert")):
        write_recipe(folder_for(tmp_path, recipe, name), recipe, FRAME_SHAPE)
    (tmp_path / "notes").mkdir()
    (tmp_path / f"ssl-empty-{'0' * 16}").mkdir()
    (tmp_path / "file").touch()
    assert [(recipe.name, recipe.kind) for recipe in list_recipes(tmp_path)] == [
        ("logspec", "logspec"),
        ("ssl-hubert", "ssl"),
    ]
    (tmp_path / f"ssl-empty-{'0' * 16}" / "03.h5").touch()
    with pytest.raises(MfhcaError, match=r"ssl-empty-0+/recipe\.json: cannot be read"):
        list_recipes(tmp_path)
    with pytest.raises(MfhcaError, match="file: cannot be read"):
        list_recipes(tmp_path / "file")


def test_find_recipe(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"no ssl features; run `mfhca-cache features MANIFEST .*` first"):
        find_recipe(tmp_path, "ssl")
    names = {"a": "ssl-hubert", "b": "ssl-hubert-large", "c": "ssl-wavlm"}
    folders = {name: folder_for(tmp_path, ssl(digit), name) for digit, name in names.items()}
    for digit, name in names.items():
        write_recipe(folders[name], ssl(digit), FRAME_SHAPE)
    write_recipe(folder_for(tmp_path, RECIPE), RECIPE, FRAME_SHAPE)
    assert find_recipe(tmp_path, "logspec").kind == "logspec"
    assert find_recipe(tmp_path, "ssl", "w").path == folders["ssl-wavlm"]
    assert find_recipe(tmp_path, "ssl", "ssl-w").path == folders["ssl-wavlm"]
    assert find_recipe(tmp_path, "ssl", "hubert").path == folders["ssl-hubert"]
    assert find_recipe(tmp_path, "ssl", folders["ssl-hubert-large"].name).path == folders["ssl-hubert-large"]
    with pytest.raises(
        MfhcaError,
        match=r"3 recipes of ssl features; choose one with --ssl NAME .*:\n  ssl-hubert-.*\n.*\n.*$",
    ):
        find_recipe(tmp_path, "ssl")
    with pytest.raises(MfhcaError, match=r"2 recipes of ssl features with a name starting with 'hub'"):
        find_recipe(tmp_path, "ssl", "hub")
    with pytest.raises(
        MfhcaError,
        match=r"no ssl features with a name starting with 'bert' "
        r"\(the cache has ssl-hubert-.*, .*\); choose one of these, or run",
    ):
        find_recipe(tmp_path, "ssl", "bert")


def test_recipes_of_one_name_are_told_apart_by_the_fields_that_differ(tmp_path: Path) -> None:
    for recipe in (ssl("a"), replace(ssl("a"), tail="drop", layer=6), replace(ssl("b"), layer="all")):
        shape = (3, *FRAME_SHAPE) if recipe.layer == "all" else FRAME_SHAPE
        write_recipe(folder_for(tmp_path, recipe, "ssl-x"), recipe, shape)
    with pytest.raises(MfhcaError, match="3 recipes of ssl features") as caught:
        find_recipe(tmp_path, "ssl")
    lines = str(caught.value).splitlines()[1:]
    assert sorted(line.split(" (")[1] for line in lines) == [
        "tail drop, layer 6)",
        "tail pad, layer -1)",
        "tail pad, layer all)",
    ]


def test_shard_description_can_be_handed_to_workers(folder: Path) -> None:
    import pickle

    shard = read_shard(folder / "03.h5")
    again = pickle.loads(pickle.dumps(shard))
    assert (again.digest, again.stat, again.path) == (shard.digest, shard.stat, shard.path)
    assert "array" not in repr(shard)


def test_more_shards_than_the_usual_limit_of_open_files() -> None:
    code = (
        "import os, resource; from mfhca_cache.store.reader import allow_open_files\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))\n"
        "allow_open_files(100)\n"
        "held = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
