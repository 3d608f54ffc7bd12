"""Recipes: everything that decides the numbers in a cache, its key, and the folder it names.

A recipe holds no path, machine or time, so a moved corpus or a renamed model is
the same recipe. What each kind of recipe consists of is in `kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_json, write_json
from mfhca_cache.recipe.kinds import ALL_LAYERS, KINDS, Recipe, key_of

FORMAT = "mfhca-recipe"
RECIPE_FILE = "recipe.json"
KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class RecipeFolder:
    """A recipe's folder in a cache, as its recipe.json describes it."""

    path: Path
    name: str  # cosmetic: the folder's name without the key
    key: str
    kind: str
    recipe: dict[str, Any]  # as written, perhaps by a later version of this program
    frame_shape: tuple[int, ...]  # (T, F): frames of a segment, values of a frame; of all layers (M, T, F)
    layer: int | None = None  # the one to be read of all; None: as stored

    @property
    def read_as(self) -> dict[str, Any]:
        """The fields of the recipe that would store just what a reader gets."""
        return self.recipe if self.layer is None else {**self.recipe, "layer": self.layer}

    @property
    def layers(self) -> int:
        """How many layers a reader gets of each frame: 0 where there is one, without an axis for it."""
        return self.frame_shape[0] if len(self.frame_shape) == 3 and self.layer is None else 0


def recipe_key(recipe: Recipe) -> str:
    """The key of a recipe: 16 hexadecimal digits, equal for equal recipes.

    >>> from mfhca_cache.recipe.kinds import LogSpec
    >>> recipe_key(LogSpec()) == recipe_key(LogSpec(floor_db=-100)) != recipe_key(LogSpec(floor_db=-80))
    True
    """
    return recipe.key


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe that `to_dict` was asked for.

    Raises:
        MfhcaError: unknown kind, or fields that this version does not know or lacks.
    """
    kind = KINDS.get(str(values.get("kind")))
    if kind is None:
        raise MfhcaError(f"recipe kind {values.get('kind')!r} is unknown, expected one of {', '.join(KINDS)}")
    given = {name: value for name, value in values.items() if name != "kind"}
    odd = sorted(set(given) ^ {field.name for field in fields(kind)})
    if odd:
        raise MfhcaError(f"a {kind.kind} recipe of another version: its fields differ in {', '.join(odd)}")
    return kind(**given)


def ssl_name(backbone: str, layer: int | str = -1) -> str:
    """The cosmetic name of a backbone's recipe: "ssl-", the last part of its path or hub id, and the layer.

    >>> ssl_name("facebook/hubert-base-ls960"), ssl_name("models/my hubert/", 6), ssl_name("x", "all")
    ('ssl-hubert-base-ls960', 'ssl-my_hubert-layer6', 'ssl-x-all')
    """
    last = Path(backbone).name or Path(backbone).resolve().name
    name = "ssl-" + (re.sub(r"[^A-Za-z0-9._-]+", "_", last).strip("._-")[:100] or "model")
    return name if layer == -1 else f"{name}-{layer if layer == ALL_LAYERS else f'layer{layer}'}"


def folder_for(cache: Path, recipe: Recipe, name: str | None = None) -> Path:
    """The folder of a recipe: the one that carries its key, whatever its name, else the path for a new one.

    Args:
        cache: the cache folder, which need not exist.
        recipe: the recipe.
        name: cosmetic name for a new folder; its kind by default.

    Raises:
        MfhcaError: two folders carry the key.
    """
    found = sorted(path for path in cache.glob(f"*-{recipe.key}") if path.is_dir())
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise MfhcaError(f"{cache}: {names} hold the same recipe; delete all but one")
    return found[0] if found else cache / f"{name or recipe.kind}-{recipe.key}"


def write_recipe(folder: Path, recipe: Recipe, frame_shape: tuple[int, ...]) -> None:
    """Writes recipe.json into a recipe's folder (made if need be); one that is there is checked.

    Args:
        folder: from `folder_for`.
        recipe: the recipe.
        frame_shape: (T, F), frames of a segment and values of a frame; (M, T, F) of all layers.

    Raises:
        MfhcaError: the folder cannot be written, or holds the recipe with another frame shape.
    """
    if (folder / RECIPE_FILE).exists():
        there = read_recipe(folder)
        if there.frame_shape != tuple(frame_shape):
            raise MfhcaError(
                f"{folder}: holds frames of shape {there.frame_shape}, the recipe now gives {frame_shape}"
            )
        return
    name = folder.name.removesuffix(f"-{recipe.key}")
    value = {"format": FORMAT, "name": name, "recipe": recipe.to_dict(), "frame_shape": list(frame_shape)}
    write_json(folder / RECIPE_FILE, value)


def read_recipe(folder: Path) -> RecipeFolder:
    """Reads recipe.json of a recipe's folder.

    Raises:
        MfhcaError: it is missing, is not what this program writes, or does not agree with the folder's key.
    """
    path = folder / RECIPE_FILE
    value = read_json(path)
    name, _, key = folder.name.rpartition("-")
    remedy = "delete the folder and run `mfhca-cache features` again"
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise MfhcaError(f"{path}: not a recipe of this program; {remedy}")
    recipe, shape = value.get("recipe"), value.get("frame_shape")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("kind"), str):
        raise MfhcaError(f"{path}: holds no recipe; {remedy}")
    axes = 3 if recipe.get("layer") == ALL_LAYERS else 2
    if not (isinstance(shape, list) and len(shape) == axes and all(type(n) is int and n > 0 for n in shape)):
        wanted = {2: "two", 3: "three"}[axes]
        raise MfhcaError(
            f"{path}: frame_shape is {shape!r}, expected {wanted} whole numbers above 0; {remedy}"
        )
    found = key_of(recipe)
    if found != key:
        raise MfhcaError(
            f"{path}: the recipe has key {found}, its folder says {key}; it was edited: {remedy}"
        )
    return RecipeFolder(folder, name, key, recipe["kind"], recipe, tuple(shape))


def explain(
    here: Recipe | Mapping[str, Any],
    there: Recipe | Mapping[str, Any],
    places: tuple[str, str] = ("here", "there"),
) -> list[str]:
    """In which fields two recipes differ, and both values; of digests the beginnings.

    >>> from mfhca_cache.recipe.kinds import LogSpec
    >>> explain(LogSpec(), LogSpec(dft=1024))
    ['dft: 800 here, 1024 there']
    """
    a = here if isinstance(here, Mapping) else here.to_dict()
    b = there if isinstance(there, Mapping) else there.to_dict()
    return [
        f"{name}: {_short(a.get(name, 'nothing'))} {places[0]}, {_short(b.get(name, 'nothing'))} {places[1]}"
        for name in dict.fromkeys([*a, *b])
        if a.get(name) != b.get(name) or (name in a) != (name in b)
    ]


def _short(value: Any) -> str:
    return re.sub(r"^([0-9a-f]{16})[0-9a-f]{48}$", r"\1...", str(value))
