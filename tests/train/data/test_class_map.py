from __future__ import annotations

from pathlib import Path

import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.data.class_map import apply_map, read_class_map

OURS = {"a": ["anger", "joy"], "b": ["anger", "happy"], "c": ["joy", "anger", "bored"]}


def test_every_class_becomes_one_of_the_run_or_nothing() -> None:
    found = apply_map(OURS, {"b": {"happy": "joy"}, "c": {"bored": ""}})
    assert found == {
        "a": {"anger": "anger", "joy": "joy"},
        "b": {"anger": "anger", "happy": "joy"},
        "c": {"joy": "joy", "anger": "anger", "bored": ""},
    }


def test_a_class_of_some_corpora_is_kept_only_if_the_map_says_so() -> None:
    given = {"b": {"happy": "joy"}}
    with pytest.raises(MfhcaError, match=r"1 class is not in every corpus.*\n  c/bored: not in a, b"):
        apply_map(OURS, given)
    assert apply_map(OURS, given | {"c": {"bored": "bored"}})["c"]["bored"] == "bored"


def test_the_nearest_class_is_proposed() -> None:
    with pytest.raises(MfhcaError, match=r"b/happy: not in a; did you mean --map b/happy=happiness\?"):
        apply_map({"a": ["happiness"], "b": ["happy"]}, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"A": {}}, "no corpus of this run is called 'A'; did you mean a"),
        ({"a": {"angry": "anger"}}, "corpus a has no class 'angry'; did you mean anger"),
    ],
)
def test_what_does_not_exist_is_named_with_the_nearest(
    given: dict[str, dict[str, str]], message: str
) -> None:
    with pytest.raises(MfhcaError, match=message):
        apply_map(OURS, given)


def test_a_file_and_pairs_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('[b]\nhappy = "joy"\n[c]\nbored = ""\n')
    expected = {"b": {"happy": "joy"}, "c": {"bored": ""}}
    assert read_class_map([str(path)]) == read_class_map(["b/happy=joy", "c/bored="]) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["b/happy"], "neither CORPUS/THEIRS=OURS nor a readable file"),
        (["happy=joy"], "neither CORPUS/THEIRS=OURS nor a readable file"),
        (["b/happy=joy", "b/happy=anger"], "b/happy is mapped to 'joy' and 'anger'; keep one"),
    ],
)
def test_bad_maps_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        read_class_map(texts)


def test_a_file_without_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    path.write_text('happy = "joy"\n')
    with pytest.raises(
        MfhcaError, match=r"map\.toml: happy is 'joy', expected a table; write a table \[CORPUS\]"
    ):
        read_class_map([str(path)])
