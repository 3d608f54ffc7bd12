"""Recipes: the key depends on every setting that determines the values, and on nothing else."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.folder import (
    explain,
    from_dict,
)
from mfhca_cache.recipe.kinds import CHOICES, KINDS, LogMel, LogSpec, Mfcc, Recipe, Ssl, key_of

NAMES = ("wanted", "cached")
SSL = Ssl(weights_sha256="a" * 64, config_sha256="b" * 64, normalise=True, attention_mask=False)


def test_keys_of_the_defaults_stay_as_they_are() -> None:
    # A changed key makes every cache in the world stale: raise `version` on purpose, never by accident.
    assert LogSpec().key == "d8df7b2649005f00"
    assert LogMel().key == "05ff65b25ca5d5a0"
    assert Mfcc().key == "2a2ed6d40ade579e"
    assert SSL.key == "a7c7c4bdf2e6f51e"
    assert dataclasses.replace(SSL, layer=6).key == "1b4a5cdd821b8d00"
    assert dataclasses.replace(SSL, layer="all").key == "863d359f0ebb6d9d"


@pytest.mark.parametrize("recipe", [LogSpec(), LogMel(), Mfcc(), SSL], ids=lambda recipe: recipe.kind)
def test_every_field_changes_the_key(recipe: Recipe) -> None:
    other = {
        "tail": "drop",
        "window": None,
        "mel_scale": None,
        "db_reference": "utterance",
        "dtype": "float32",
        "compute_dtype": "bfloat16",
        "attention": "eager",
        "weights_sha256": "c" * 64,
        "config_sha256": "c" * 64,
    }
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        new = other.get(field.name, (not value) if isinstance(value, bool) else None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            new = value - 1 if field.name in ("window_samples", "bins", "high_hz") else value + 1
        if new is not None:
            changed = dataclasses.replace(recipe, **{field.name: new})
            assert changed.key != recipe.key, field.name
            short = [f"{v[:16]}..." if field.name.endswith("sha256") else v for v in (value, new)]
            assert explain(recipe, changed, NAMES) == [f"{field.name}: {short[0]} wanted, {short[1]} cached"]


def test_equal_numbers_make_equal_keys() -> None:
    assert LogSpec(floor_db=-100, pre_emphasis=0, sample_rate=16000.0).key == LogSpec(pre_emphasis=-0.0).key


@given(st.sampled_from(["pad", "overlap", "drop"]), st.integers(0, 48000), st.floats(-300, 0))
def test_dictionary_and_json_round_trip(tail: str, minimum: int, floor: float) -> None:
    recipe = LogSpec(tail=tail, minimum_tail_samples=minimum, floor_db=floor)
    again = from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.key == recipe.key == key_of(recipe.to_dict())


plain = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(-1e9, 1e9), st.text('abé"\\\n', max_size=4)
)


@given(st.dictionaries(st.text("abcé_", min_size=1, max_size=5), plain, min_size=1, max_size=8), st.data())
def test_a_key_knows_every_field_and_not_their_order(fields: dict, data: st.DataObject) -> None:
    key = key_of(fields)
    assert key_of(dict(data.draw(st.permutations(list(fields.items()))))) == key
    name = data.draw(st.sampled_from(sorted(fields)))
    other = data.draw(plain.filter(lambda value: repr(value) != repr(fields[name])))
    assert key_of({**fields, name: other}) != key
    assert key_of({n: value for n, value in fields.items() if n != name}) != key
    assert key_of({**fields, f"{name}x{len(fields)}": other}) != key


KIND_FIELDS = [(kind, field.name) for kind in KINDS.values() for field in dataclasses.fields(kind)]


@given(st.sampled_from(KIND_FIELDS), st.data())
def test_recipes_are_equal_where_their_keys_are(place: tuple[type, str], data: st.DataObject) -> None:
    kind, name = place
    digests = {f.name: "0" * 64 for f in dataclasses.fields(kind) if f.name.endswith("_sha256")}
    needed = {"normalise": True, "attention_mask": False} if kind is Ssl else {}
    base = kind(**digests, **needed)
    value = getattr(base, name)
    options = {
        bool: st.booleans(),
        int: st.integers(1, 200),
        float: st.floats(-200, 200),
        str: st.text("01", max_size=3),
    }
    given_ = data.draw(st.sampled_from(CHOICES[name]) if name in CHOICES else options[type(value)])
    try:
        other = dataclasses.replace(base, **{name: given_})
    except MfhcaError:
        return
    assert (other.key == base.key) == (other == base)
    assert (other == base) == (getattr(other, name) == value)


def test_kinds_do_not_share_keys() -> None:
    assert {kind: cls.kind for kind, cls in KINDS.items()} == {
        kind: kind for kind in ("logspec", "logmel", "mfcc", "ssl")
    }
    assert LogSpec().to_dict()["kind"] == "logspec"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"tail": "cut"}, "logspec.tail is 'cut', expected one of pad, overlap, drop"),
        ({"dtype": "float64"}, "expected one of float16, float32"),
        ({"sample_rate": 0}, "sample_rate is 0, expected 1 or more"),
        ({"sample_rate": 0.5}, "sample_rate is 0.5, expected int"),
        ({"sample_rate": True}, "sample_rate is True, expected int"),
        ({"floor_db": float("nan")}, "floor_db is nan, expected float"),
        ({"hop_samples": float("inf")}, "hop_samples is inf, expected int"),
        ({"window": 7}, "window is 7, expected str"),
        ({"window_samples": 801}, "expected at most dft = 800"),
        ({"bins": 402}, "a DFT of 800 has 401"),
    ],
)
def test_recipe_refuses_what_cannot_be(change: dict, match: str) -> None:
    with pytest.raises(MfhcaError, match=match):
        LogSpec(**change)


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        (LogMel, {"mel_scale": "slaney"}, "logmel.mel_scale is 'slaney', expected one of htk"),
        (LogMel, {"bands": 0}, "bands is 0, expected 1 or more"),
        (LogMel, {"high_hz": 9000}, "cover 0 to 9000 Hz, expected a range within 0 to 8000 Hz"),
        (Mfcc, {"window_samples": 801}, "mfcc.window_samples is 801, expected at most dft = 800"),
        (Mfcc, {"coefficients": 81}, "mfcc.coefficients is 81, expected at most the number of bands, 80"),
    ],
)
def test_mel_recipes_refuse_what_cannot_be(kind: type[Recipe], change: dict, match: str) -> None:
    with pytest.raises(MfhcaError, match=match):
        kind(**change)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ("6", "ssl.layer is '6', expected a whole number or all"),
        (True, r"ssl.layer is True, expected int \| str"),
        (1.5, r"ssl.layer is 1.5, expected int \| str"),
    ],
)
def test_layer_is_a_number_or_all(layer: object, match: str) -> None:
    with pytest.raises(MfhcaError, match=match):
        dataclasses.replace(SSL, layer=layer)
    every = dataclasses.replace(SSL, layer="all")
    assert from_dict(json.loads(json.dumps(every.to_dict()))) == every
    assert explain(SSL, every, NAMES) == ["layer: -1 wanted, all cached"]
