"""Values that fit a class are read and written back unchanged; each field that does not fit is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.typed import (
    Count,
    Fraction,
    Number,
    Positive,
    Text,
    decode,
    decode_all,
    describe,
    plain,
    problem,
    problems,
)


class Part(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    name: Text
    share: Fraction = 0.5

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("bad is not a name")


class Whole(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, rename={"kind": "type"}):
    kind: Literal["a", "b"]
    sizes: tuple[Positive, ...] = ()
    counts: dict[str, Count] = {}
    part: Part | None = None
    parts: tuple[Part, ...] = ()
    pair: tuple[Number, Number] | None = None


FITTING = {
    "type": "a",
    "sizes": [1, 2],
    "counts": {"x": 3},
    "part": {"name": "p", "share": 0.1},
    "parts": [{"name": "q"}],
    "pair": [1.5, -2.25],
}


def test_what_fits_is_read_and_written_back_in_order() -> None:
    whole = decode(Path("x"), FITTING, Whole, "correct it")
    assert whole.part is not None
    assert (whole.kind, whole.part.share) == ("a", 0.1)
    assert plain(whole) == FITTING
    assert list(plain(whole)) == list(FITTING)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e299, max_value=1e299))
def test_every_float_survives(value: float) -> None:
    whole = decode(Path("x"), {"type": "a", "pair": [value, 0.0]}, Whole, "")
    assert plain(whole)["pair"] == [value, 0.0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"type": "c"}, "type is 'c', expected one of a, b"),
        ({"sizes": [1, 0]}, "sizes[1] is 0, expected a whole number of at least 1"),
        ({"sizes": [1.5]}, "sizes[0] is 1.5, expected a whole number of at least 1"),
        ({"sizes": [True]}, "sizes[0] is True, expected a whole number of at least 1"),
        ({"sizes": 3}, "sizes is 3, expected a list"),
        ({"counts": {"x": -1}}, "counts.x is -1, expected a whole number of at least 0"),
        ({"counts": []}, "counts is a list, expected a table"),
        ({"part": {"name": " "}}, "part.name is ' ', expected a text"),
        ({"part": {}}, "part.name is missing"),
        ({"part": {"name": "p", "share": 1.5}}, "part.share is 1.5, expected a number from 0 to 1"),
        ({"part": {"name": "p", "shar": 1}}, "part.shar is not a known field; did you mean share?"),
        ({"parts": [{"name": "q", "share": "x"}]}, "parts 'q'.share is 'x', expected a number from 0 to 1"),
        ({"parts": [{"name": "bad"}]}, "parts 'bad': bad is not a name"),
        ({"pair": [1.0]}, "pair is a list, expected a list of 2"),
        ({"pair": [10**400, 0]}, "pair[0] is 10000"),
        ({"pair": [1e301, 0]}, "pair[0] is 1e+301, expected a finite number"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change: dict, sentence: str) -> None:
    (found,) = problems(FITTING | change, Whole)
    assert found.startswith(sentence)
    with pytest.raises(MfhcaError, match=r"^x: .*; correct it$"):
        decode(Path("x"), FITTING | change, Whole, "correct it")


def test_a_missing_field_and_a_value_that_is_no_table() -> None:
    assert problems({}, Whole) == ["type is missing"]
    assert problem([], Whole) == "the file is a list, expected a table"
    assert problem(FITTING, Whole) is None


def test_all_problems_are_listed() -> None:
    with pytest.raises(
        MfhcaError, match=r"(?s)^x: correct these:\n  colour is.*\n  type is 'c'.*\n  sizes\[0\] is 0"
    ):
        decode_all(Path("x"), {"type": "c", "sizes": [0]} | {"colour": 1}, Whole, "correct these")


def test_ranges_are_described() -> None:
    assert describe(Annotated[int, Meta(gt=0, le=9)]) == "a whole number above 0 of at most 9"
    assert describe(Annotated[float, Meta(ge=0, lt=1)]) == "a number from 0 to below 1"
    assert describe(Text | None) == "a text, or nothing"
