"""Recipes: keys that depend on what decides the numbers and on nothing else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.folder import (
    explain,
    folder_for,
    from_dict,
    read_recipe,
    ssl_name,
    write_recipe,
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


def test_recipe_of_all_layers_says_how_many(tmp_path: Path) -> None:
    every = dataclasses.replace(SSL, layer="all")
    folder = folder_for(tmp_path, every, ssl_name("x", every.layer))
    write_recipe(folder, every, (13, 149, 768))
    found = read_recipe(folder)
    assert (found.name, found.frame_shape, found.layers) == ("ssl-x-all", (13, 149, 768), 13)
    one = dataclasses.replace(found, layer=6)
    assert (one.layers, from_dict(one.read_as)) == (0, dataclasses.replace(SSL, layer=6))
    other = folder_for(tmp_path, SSL)
    write_recipe(other, SSL, (149, 768))
    assert read_recipe(other).layers == 0
    text = (folder / "recipe.json").read_text()
    (folder / "recipe.json").write_text(text.replace("  13,\n", ""))
    with pytest.raises(MfhcaError, match=r"frame_shape is \[149, 768\], expected 3 integers above 0"):
        read_recipe(folder)


def test_from_dict_refuses_other_kinds_and_versions() -> None:
    with pytest.raises(MfhcaError, match="recipe kind 'mel' is unknown"):
        from_dict({"kind": "mel"})
    values = LogSpec().to_dict() | {"colour": 1}
    del values["bins"]
    with pytest.raises(MfhcaError, match="its fields differ in bins, colour"):
        from_dict(values)


def test_explain_names_missing_fields() -> None:
    assert explain({"a": 1}, {"b": None}, NAMES) == [
        "a: 1 wanted, nothing cached",
        "b: nothing wanted, None cached",
    ]
    assert explain(LogSpec(), LogSpec().to_dict(), NAMES) == []


def test_folder_is_found_by_key_whatever_its_name(tmp_path: Path) -> None:
    new = folder_for(tmp_path, SSL, "ssl-hubert")
    assert new == tmp_path / f"ssl-hubert-{SSL.key}"
    assert folder_for(tmp_path, LogSpec()).name == f"logspec-{LogSpec().key}"
    write_recipe(new, SSL, (149, 768))
    assert folder_for(tmp_path, SSL, "ssl-renamed") == new
    other = new.rename(tmp_path / f"ssl-moved-{SSL.key}")
    assert folder_for(tmp_path, SSL, "ssl-hubert") == other
    assert read_recipe(other).name == "ssl-moved"
    new.mkdir()
    with pytest.raises(MfhcaError, match=r"ssl-hubert-.* and ssl-moved-.* have the same recipe"):
        folder_for(tmp_path, SSL, "ssl-hubert")


def test_recipe_file_round_trip_and_repetition(tmp_path: Path) -> None:
    folder = folder_for(tmp_path, SSL, "ssl-x")
    write_recipe(folder, SSL, (149, 768))
    found = read_recipe(folder)
    assert (found.key, found.kind, found.frame_shape, found.name) == (SSL.key, "ssl", (149, 768), "ssl-x")
    assert from_dict(found.recipe) == SSL
    before = (folder / "recipe.json").stat().st_mtime_ns
    write_recipe(folder, SSL, (149, 768))
    assert (folder / "recipe.json").stat().st_mtime_ns == before
    with pytest.raises(
        MfhcaError, match=r"has frames of shape \(149, 768\), the recipe now gives \(149, 64\)"
    ):
        write_recipe(folder, SSL, (149, 64))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot be read"),
        ("{", "not valid JSON"),
        ("[]", "not a recipe of this program"),
        ('{"format":"mfhca-recipe"}', "has no recipe"),
        ('{"format":"mfhca-recipe","recipe":{"kind":"ssl"},"frame_shape":[149,0]}', "frame_shape is"),
        ('{"format":"mfhca-recipe","recipe":{"kind":"ssl"},"frame_shape":[149,7]}', "it was edited"),
    ],
)
def test_damaged_recipe_file_is_one_line(tmp_path: Path, text: str | None, match: str) -> None:
    folder = tmp_path / f"ssl-x-{SSL.key}"
    folder.mkdir()
    if text is not None:
        (folder / "recipe.json").write_text(text)
    with pytest.raises(MfhcaError, match=match) as caught:
        read_recipe(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("facebook/hubert-base-ls960", "ssl-hubert-base-ls960"),
        ("/models/Größe 1/", "ssl-Gr_e_1"),
        ("///", "ssl-model"),
        ("x" * 300, "ssl-" + "x" * 100),
    ],
)
def test_ssl_name_is_fit_for_a_folder(backbone: str, name: str) -> None:
    assert ssl_name(backbone) == name
