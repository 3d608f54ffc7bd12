"""Which class is which."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.inference.class_map import class_map, read_map

OURS = ("ang", "hap", "neutral")


def test_equal_names_are_the_same_class_unless_said_otherwise() -> None:
    found = class_map(("neutral", "fear", "anger"), OURS, {"anger": "ang"})
    assert found.mapping == {"neutral": "neutral", "anger": "ang"}
    assert found.excluded == ("fear",)
    assert found.absent == ("hap",)
    assert class_map(("neutral", "anger"), OURS, {"neutral": "", "anger": "ang"}).excluded == ("neutral",)
    assert class_map(("a", "b"), OURS, {"a": "ang", "b": "ang"}).mapping == {"a": "ang", "b": "ang"}


def test_names_of_neither_side_are_refused() -> None:
    with pytest.raises(MfhcaError, match="--map x=ang: the corpus has no class 'x'; there are: anger"):
        class_map(("anger",), OURS, {"x": "ang"})
    with pytest.raises(
        MfhcaError, match="--map anger=x: the networks have no class 'x'; there are: ang, hap, neutral"
    ):
        class_map(("anger",), OURS, {"anger": "x"})
    with pytest.raises(MfhcaError, match=r"no class of the corpus .anger. is one of the networks'"):
        class_map(("anger",), OURS, {})


def test_pairs_and_files_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "map.toml"
    file.write_text('anger = "ang"\n"very happy" = "hap"\nfear = ""\n')
    pairs = {"anger": "ang", "very happy": "hap", "fear": ""}
    assert read_map([str(file)]) == read_map(["anger=ang", "very happy = hap", "fear="]) == pairs
    assert read_map([str(file), "anger=ang", "b=c"]) == {**pairs, "b": "c"}
    assert read_map([]) == {}


def test_what_is_no_map_is_named(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match="class 'a' is mapped to 'b' and 'c'; keep one"):
        read_map(["a=b", "a=c"])
    with pytest.raises(MfhcaError, match="gone: neither THEIRS=OURS nor a readable file"):
        read_map([str(tmp_path / "gone")])
    file = tmp_path / "map.toml"
    file.write_text("[classes]\na = 'b'\n")
    with pytest.raises(MfhcaError, match="classes is a table, expected a text; write lines like"):
        read_map([str(file)])
    file.write_text("a = \n")
    with pytest.raises(MfhcaError, match=r"not valid TOML .*correct this class map"):
        read_map([str(file)])
