"""The folder of a recipe: its name, recipe.json, and how recipes differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.recipe.folder import (
    explain,
    folder_for,
    from_dict,
    read_recipe,
    ssl_name,
    write_recipe,
)
from mfhca_cache.recipe.kinds import LogSpec, Ssl

NAMES = ("wanted", "cached")
SSL = Ssl(weights_sha256="a" * 64, config_sha256="b" * 64, normalise=True, attention_mask=False)


def test_recipe_of_all_layers_says_how_many(tmp_path: Path) -> None:
    every = dataclasses.replace(SSL, layer="all")
    folder = folder_for(tmp_path, every, ssl_name("x", every.layer))
    write_recipe(folder, every, (13, 149, 768))
    found = read_recipe(folder)
    assert (found.name, found.frame_shape, found.layers) == ("ssl-x-all", (13, 149, 768), 13)
    one = dataclasses.replace(found, layer=6)
    assert (one.layers, from_dict(one.read_as)) == (0, dataclasses.replace(SSL, layer=6))
    alone = [from_dict(layer.read_as) for layer in found.layers_alone()]
    assert alone == [dataclasses.replace(SSL, layer=layer) for layer in (*range(12), -1)]
    other = folder_for(tmp_path, SSL)
    write_recipe(other, SSL, (149, 768))
    assert (read_recipe(other).layers, read_recipe(other).layers_alone()) == (0, [])
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
