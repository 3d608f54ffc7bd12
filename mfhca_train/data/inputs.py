"""The recipes of a cache that a network reads.

A network has up to three inputs: "spec" (a spectrogram, `logspec` or `logmel`), "ssl" (hidden states) and
"mfcc" (the baseline's third input). Features of another program (kind `external`) are read as "spec" or "ssl" if they
are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError, listing, no_folder
from mfhca_cache.recipe.folder import RecipeFolder, command_for, explain
from mfhca_cache.recipe.kinds import ALL_LAYERS, External
from mfhca_cache.store.reader import list_recipes, select_recipe

SPEC_KINDS = ("logspec", "logmel")  # in order of preference, unless --spec names one
SSL_KIND, MFCC_KIND = "ssl", "mfcc"
SEGMENTATION = ("sample_rate", "segment_samples", "tail", "minimum_tail_samples")  # fields that must be equal


def choose_recipes(
    cache: Path,
    inputs: str,
    spec: str | None = None,
    ssl: str | None = None,
    mfcc: bool = False,
    ssl_layer: int | str = "auto",
) -> dict[str, RecipeFolder]:
    """The recipe of each input of a network.

    Args:
        cache: cache folder.
        inputs: ModelConfig.inputs.
        spec, ssl: prefixes of recipe names, if the cache holds several. With both kinds of spectrogram in the
            cache, `logspec` is read unless `spec` names a `logmel`.
        mfcc: ModelConfig.mfcc. Of several recipes the one with the spectrogram's settings is read.
        ssl_layer: ModelConfig.ssl_layer. Of several recipes the one that has this layer is read.

    Raises:
        MfhcaError: no recipe or several recipes match, they cut the audio differently, or lack the layer.
    """
    recipes = list_recipes(cache)
    chosen: dict[str, RecipeFolder] = {}
    if inputs != "ssl":
        chosen["spec"] = _find(cache, recipes, _kind(cache, recipes, "spec", SPEC_KINDS, spec), spec)
    if inputs != "spec":
        kind = _kind(cache, recipes, "ssl", (SSL_KIND,), ssl)
        name = _name_with(recipes, ssl, ssl_layer) if kind == SSL_KIND else ssl
        chosen["ssl"] = with_layer(_find(cache, recipes, kind, name), ssl_layer)
    if mfcc:
        chosen["mfcc"] = _find(cache, recipes, MFCC_KIND, _mfcc_name(recipes, chosen.get("spec")))
    for a, b in pairwise(chosen.values()):
        for field in SEGMENTATION:
            values = a.recipe.get(field), b.recipe.get(field)
            if values[0] != values[1]:
                raise MfhcaError(
                    f"{cache}: {a.path.name} and {b.path.name} cut the audio differently ({field}: {values[0]} "
                    f"and {values[1]}); run `mfhca-cache features` for all kinds with the same options"
                )
    return chosen


def are_alike(a: RecipeFolder, b: RecipeFolder) -> bool:
    """Whether two recipes of another program's features have the same name, shape and fields, their content aside.

    Nothing else can show that the features of two corpora were made in the same way.
    """
    fields = ({k: v for k, v in one.recipe.items() if k != "content_sha256"} for one in (a, b))
    first, second = ((own, one.name, one.frame_shape) for own, one in zip(fields, (a, b), strict=True))
    return a.kind == External.kind and first == second


def recipes_in(cache: Path, recipes: Mapping[str, RecipeFolder]) -> dict[str, RecipeFolder]:
    """The same recipes in another cache; of another program's features those that `are_alike`.

    Raises:
        MfhcaError: it lacks one.
    """
    found: dict[str, RecipeFolder] = {}
    cached = list_recipes(cache)
    for side, recipe in recipes.items():
        same = next((other for other in cached if other.key == recipe.key or are_alike(other, recipe)), None)
        if same is None:
            near = [
                f"{other.path.name} differs: "
                + "; ".join(explain(other.recipe, recipe.recipe, ("in this cache", "in the other")))
                for other in cached
                if other.kind == recipe.kind
            ]
            raise MfhcaError(
                f"{cache}: no features of the recipe {recipe.path.name} of {recipe.path.parent}; all corpora of a run "
                f"need the same, so run `{recipe.command}` with the options of the other corpus"
                + (f":\n{listing(near)}" if near else "")
            )
        found[side] = replace(same, layer=recipe.layer)
    return found


def with_layer(recipe: RecipeFolder, wanted: int | str) -> RecipeFolder:
    """An encoder's recipe, restricted to the layer that a setting asks for.

    Args:
        recipe: of kind ssl.
        wanted: ModelConfig.ssl_layer.

    Raises:
        MfhcaError: the recipe holds another layer, or has no such layer.
    """
    stored, layers = recipe.recipe.get("layer"), recipe.frame_shape[0]
    if wanted in ("auto", stored):
        return recipe
    if recipe.kind == External.kind:
        raise MfhcaError(f"{recipe.path}: has no layers; remove model.ssl_layer={wanted}")
    if stored != ALL_LAYERS:
        raise MfhcaError(
            f"{recipe.path}: holds only layer {stored}, but model.ssl_layer={wanted} needs "
            f"{'all layers' if isinstance(wanted, str) else 'another one'}; remove that setting, or run "
            f"`mfhca-cache features --layer {ALL_LAYERS}` and select those features with --ssl"
        )
    if isinstance(wanted, str):
        return recipe
    if not -1 <= wanted < layers:
        raise MfhcaError(
            f"{recipe.path}: has no layer {wanted}; model.ssl_layer may be 0 (before the first layer) to "
            f"{layers - 1}, or -1 for the final output"
        )
    return replace(recipe, layer=wanted % layers)


def _name_with(recipes: Sequence[RecipeFolder], name: str | None, layer: int | str) -> str | None:
    """The folder of the hidden states with a layer, if exactly one of those with the name prefix has it."""
    named = [r for r in recipes if r.kind == SSL_KIND and (name is None or is_named(r, name))]
    able = [r for r in named if r.recipe.get("layer") in (layer, ALL_LAYERS)]
    return able[0].path.name if layer != "auto" and len(able) == 1 else name


def _kind(
    cache: Path, recipes: Sequence[RecipeFolder], side: str, kinds: tuple[str, ...], name: str | None
) -> str:
    """The kind of features that a name prefix stands for; without one, the first of `kinds` in the cache."""
    named = [
        recipe
        for recipe in recipes
        if (recipe.kind in kinds and name is None)
        or (recipe.kind in (*kinds, External.kind) and name and is_named(recipe, name))
    ]
    found = [kind for kind in (*kinds, External.kind) if any(recipe.kind == kind for recipe in named)]
    if name is not None and len(found) > 1:
        names = listing([recipe.path.name for recipe in named])
        raise MfhcaError(
            f"{cache}: --{side} {name} is an ambiguous prefix; choose one of these recipes:\n{names}"
        )
    spelled = [kind for kind in (*kinds, External.kind) if (name or "").startswith(kind)]
    return (*found, *spelled, *kinds)[0]


def is_named(recipe: RecipeFolder, name: str) -> bool:
    """Whether the name of a recipe's folder begins with `name`, with or without its kind."""
    return recipe.path.name.startswith((name, f"{recipe.kind}-{name}"))


def _mfcc_name(recipes: Sequence[RecipeFolder], spec: RecipeFolder | None) -> str | None:
    """The folder of the MFCCs with a spectrogram's settings, if the cache holds several."""
    cached = [recipe for recipe in recipes if recipe.kind == MFCC_KIND]
    fields = (*SEGMENTATION, "pre_emphasis", "dtype")
    alike = [r for r in cached if spec and all(r.recipe.get(f) == spec.recipe.get(f) for f in fields)]
    return alike[0].path.name if len(cached) > 1 and len(alike) == 1 else None


def _find(cache: Path, recipes: Sequence[RecipeFolder], kind: str, name: str | None) -> RecipeFolder:
    """As `select_recipe`; if the cache has no recipe of the kind, the error gives the command that computes it."""
    cached = {recipe.kind for recipe in recipes}
    if kind not in cached and kind != External.kind:
        where = f"{cache}: no" if cache.is_dir() else f"{no_folder(cache)}, so no"
        alone = cached == {SSL_KIND} and kind in SPEC_KINDS
        option = "--spec" if kind in SPEC_KINDS else "--ssl"
        others = [
            recipe.path.name for recipe in recipes if recipe.kind == External.kind and kind != MFCC_KIND
        ]
        raise MfhcaError(
            f"{where} {kind} features; "
            + ("train on the hidden states alone with `--set model.inputs=ssl`, or " if alone else "")
            + (f"choose imported ones with {option} {' or '.join(others)}, or " if others else "")
            + f"run `{command_for(kind, cache)}` "
            "with the same options as the other kinds"
        )
    return select_recipe(cache, recipes, kind, name)
