"""The folder of a recipe in a cache, and its recipe.json.

A recipe (see `kinds`) contains no path, machine or time, so a moved corpus or a
renamed model has the same recipe and the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any, Final

from mfhca_cache.common.errors import MfhcaError, no_folder
from mfhca_cache.common.files import read_json, write_json
from mfhca_cache.recipe.kinds import ALL_LAYERS, KINDS, External, Recipe, Ssl, key_of

FORMAT = "mfhca-recipe"
RECIPE_FILE = "recipe.json"
KEY = re.compile(r"[0-9a-f]{16}")


OPTIONS: Final = {  # of `mfhca-cache features`, by the field of the recipe they set
    "tail": "--tail",
    "minimum_tail_samples": "--minimum-tail",
    "pre_emphasis": "--pre-emphasis",
    "db_reference": "--db-reference",
    "dtype": "--dtype",
    "compute_dtype": "--compute-dtype",
    "layer": "--layer",
}


@dataclass(frozen=True)
class RecipeFolder:
    """A recipe's folder in a cache, as described by its recipe.json."""

    path: Path
    name: str  # the folder's name without the key; for people only
    key: str
    kind: str
    recipe: dict[str, Any]  # may have fields of a later version of this program
    frame_shape: tuple[int, ...]  # (T, F): frames per segment, values per frame; (M, T, F) with all layers
    layer: int | None = None  # the layer to read if all are stored; None: as stored

    @property
    def command(self) -> str:
        """The command that fills this folder."""
        return command_for(self.kind, self.path.parent, self.recipe)

    @property
    def read_as(self) -> dict[str, Any]:
        """The recipe that would store exactly what a reader gets.

        The last of all layers is the encoder's output, layer -1. For encoders that normalise it, layer M - 1 alone
        is another state: the one before this normalisation.
        """
        if self.layer is None:
            return self.recipe
        return {**self.recipe, "layer": -1 if self.layer == self.frame_shape[0] - 1 else self.layer}

    def layers_alone(self) -> list[RecipeFolder]:
        """A recipe of all layers, read as each of them; of another recipe nothing."""
        return [replace(self, layer=layer) for layer in range(self.layers)]

    @property
    def layers(self) -> int:
        """Number of layers a reader gets; 0 if there is a single one without an axis of its own."""
        return self.frame_shape[0] if len(self.frame_shape) == 3 and self.layer is None else 0


def command_for(kind: str, cache: Path, recipe: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The command that fills a folder of a cache; `common.remedies` fills its placeholders in an error message.

    Args:
        kind: of the recipe.
        cache: the cache folder.
        recipe: the fields of the recipe; those that differ from the defaults become options.

    >>> command_for("ssl", Path("cache"), {"layer": 6, "dtype": "float16"})
    'mfhca-cache features MANIFEST --root DIR --cache cache --kind ssl --backbone ENCODER --layer 6'
    >>> command_for("external", Path("my cache"))
    "mfhca-cache import MANIFEST --cache 'my cache' --features DIR --name NAME"
    """
    if kind == External.kind:
        return f"mfhca-cache import MANIFEST --cache {quote(str(cache))} --features DIR --name NAME"
    parts = [f"mfhca-cache features MANIFEST --root DIR --cache {quote(str(cache))} --kind {kind}"]
    parts += ["--backbone ENCODER"] if kind == Ssl.kind else []
    return " ".join(
        [*parts, *(f"{name} {quote(str(value))}" for name, value in options_of(kind, recipe).items())]
    )


def options_of(kind: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `mfhca-cache features` for the fields of a recipe that differ from the defaults."""
    defaults = {field.name: field.default for field in fields(KINDS[kind])} if kind in KINDS else recipe
    return {
        option: recipe[name]
        for name, option in OPTIONS.items()
        if name in recipe and recipe[name] != defaults[name]
    }


def from_dict(values: Mapping[str, Any]) -> Recipe:
    """The recipe for a dictionary made by `to_dict`.

    Raises:
        MfhcaError: the kind is unknown, or fields are unknown or missing.
    """
    kind = KINDS.get(str(values.get("kind")))
    if values.get("kind") == External.kind:
        raise MfhcaError(
            "the networks read features that another program made and `mfhca-cache import` stored; that program is "
            "not known, so new audio has no such features: there is no encoder to compute them"
        )
    if kind is None:
        raise MfhcaError(f"recipe kind {values.get('kind')!r} is unknown, expected one of {', '.join(KINDS)}")
    given = {name: value for name, value in values.items() if name != "kind"}
    different = sorted(set(given) ^ {field.name for field in fields(kind)})
    if different:
        raise MfhcaError(
            f"a {kind.kind} recipe of another version: its fields differ in {', '.join(different)}"
        )
    return kind(**given)


def ssl_name(backbone: str, layer: int | str = -1) -> str:
    """The name of a backbone's recipe folder: "ssl-", the last part of its path or hub id, and the layer.

    >>> ssl_name("facebook/hubert-base-ls960"), ssl_name("models/my hubert/", 6), ssl_name("x", "all")
    ('ssl-hubert-base-ls960', 'ssl-my_hubert-layer6', 'ssl-x-all')
    """
    last = Path(backbone).name or Path(backbone).resolve().name
    name = "ssl-" + (re.sub(r"[^A-Za-z0-9._-]+", "_", last).strip("._-")[:100] or "model")
    return name if layer == -1 else f"{name}-{layer if layer == ALL_LAYERS else f'layer{layer}'}"


def folder_for(cache: Path, recipe: Recipe | External, name: str | None = None) -> Path:
    """The folder with a recipe's key, whatever its name; if there is none, the path for a new one.

    Args:
        cache: the cache folder, which need not exist.
        recipe: the recipe.
        name: name for a new folder; by default the recipe's kind.

    Raises:
        MfhcaError: two folders have this key.
    """
    folders = sorted(path for path in cache.glob(f"*-{recipe.key}") if path.is_dir())
    if len(folders) > 1:
        names = " and ".join(path.name for path in folders)
        raise MfhcaError(f"{cache}: {names} have the same recipe; delete all but one")
    return folders[0] if folders else cache / f"{name or recipe.kind}-{recipe.key}"


def recipe_folders(cache: Path) -> list[Path]:
    """All folders of a cache whose names end in a key, sorted.

    Raises:
        MfhcaError: the cache does not exist or cannot be read.
    """
    if not cache.is_dir():
        raise MfhcaError(f"{no_folder(cache)}; pass the cache folder as --cache")
    try:
        return sorted(p for p in cache.iterdir() if p.is_dir() and KEY.fullmatch(p.name.rpartition("-")[2]))
    except OSError as error:
        raise MfhcaError(
            f"{cache}: cannot be read ({error.strerror}); pass the cache folder as --cache"
        ) from error


def write_recipe(folder: Path, recipe: Recipe | External, frame_shape: tuple[int, ...]) -> None:
    """Writes recipe.json into a recipe's folder, which is created if needed; an existing one is checked.

    Args:
        folder: from `folder_for`.
        recipe: the recipe.
        frame_shape: (T, F), frames per segment and values per frame; (M, T, F) with all layers.

    Raises:
        MfhcaError: the folder cannot be written, or has the recipe with another frame shape.
    """
    if (folder / RECIPE_FILE).exists():
        existing = read_recipe(folder)
        if existing.frame_shape != tuple(frame_shape):
            raise MfhcaError(
                f"{folder}: has frames of shape {existing.frame_shape}, the recipe now gives {frame_shape}; "
                f"delete the folder and run `mfhca-cache features` again"
            )
        return
    name = folder.name.removesuffix(f"-{recipe.key}")
    value = {"format": FORMAT, "name": name, "recipe": recipe.to_dict(), "frame_shape": list(frame_shape)}
    write_json(folder / RECIPE_FILE, value)


def read_recipe(folder: str | Path) -> RecipeFolder:
    """Reads the recipe.json of a recipe's folder.

    Raises:
        MfhcaError: it is missing, is not a recipe.json of this project, or does not match the folder's key.
    """
    folder = Path(folder)
    path = folder / RECIPE_FILE
    value = read_json(path)
    name, _, key = folder.name.rpartition("-")
    remedy = "delete the folder and run `mfhca-cache features` again"
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise MfhcaError(f"{path}: not a recipe of this program (no format {FORMAT!r}); {remedy}")
    recipe, shape = value.get("recipe"), value.get("frame_shape")
    if not isinstance(recipe, dict) or not isinstance(recipe.get("kind"), str):
        raise MfhcaError(f"{path}: has no recipe; {remedy}")
    axes = 3 if recipe.get("layer") == ALL_LAYERS else 2
    if not (isinstance(shape, list) and len(shape) == axes and all(type(n) is int and n > 0 for n in shape)):
        raise MfhcaError(f"{path}: frame_shape is {shape!r}, expected {axes} integers above 0; {remedy}")
    actual = key_of(recipe)
    if actual != key:
        raise MfhcaError(
            f"{path}: the recipe has key {actual}, its folder name {key}; it was edited: {remedy}"
        )
    return RecipeFolder(folder, name, key, recipe["kind"], recipe, tuple(shape))


def explain(
    first: Recipe | Mapping[str, Any],
    second: Recipe | Mapping[str, Any],
    names: tuple[str, str],
) -> list[str]:
    """The fields in which two recipes differ, with both values; digests are abbreviated.

    Args:
        first, second: the recipes.
        names: what to call each of them.

    >>> from mfhca_cache.recipe.kinds import LogSpec
    >>> explain(LogSpec(), LogSpec(dft=1024), ("wanted", "in the cache"))
    ['dft: 800 wanted, 1024 in the cache']
    """
    a = first if isinstance(first, Mapping) else first.to_dict()
    b = second if isinstance(second, Mapping) else second.to_dict()
    return [
        f"{field}: {_short(a.get(field, 'nothing'))} {names[0]}, {_short(b.get(field, 'nothing'))} {names[1]}"
        for field in dict.fromkeys([*a, *b])
        if a.get(field) != b.get(field) or (field in a) != (field in b)
    ]


def _short(value: Any) -> str:
    return re.sub(r"^([0-9a-f]{16})[0-9a-f]{48}$", r"\1...", str(value))
