"""The recipes of a cache that a network reads.

A network has up to three inputs: "spec" (a spectrogram, `logspec` or `logmel`), "ssl" (hidden states) and
"mfcc" (the baseline's third input).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shlex import quote

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.recipe.kinds import ALL_LAYERS
from mfhca_cache.store.reader import find_recipe, list_recipes

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
    chosen: dict[str, RecipeFolder] = {}
    if inputs != "ssl":
        chosen["spec"] = _find(cache, _spec_kind(cache, spec), spec)
    if inputs != "spec":
        chosen["ssl"] = with_layer(_find(cache, SSL_KIND, _name_with(cache, ssl, ssl_layer)), ssl_layer)
    if mfcc:
        chosen["mfcc"] = _find(cache, MFCC_KIND, _mfcc_name(cache, chosen.get("spec")))
    for a, b in pairwise(chosen.values()):
        for field in SEGMENTATION:
            values = a.recipe.get(field), b.recipe.get(field)
            if values[0] != values[1]:
                raise MfhcaError(
                    f"{cache}: {a.path.name} and {b.path.name} cut the audio differently ({field}: {values[0]} "
                    f"and {values[1]}); run `mfhca-cache features` for all kinds with the same options"
                )
    return chosen


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


def _name_with(cache: Path, name: str | None, layer: int | str) -> str | None:
    """The folder of the hidden states with a layer, if exactly one of those with the name prefix has it."""
    recipes = [recipe for recipe in list_recipes(cache) if recipe.kind == SSL_KIND]
    named = [r for r in recipes if name is None or r.path.name.startswith((name, f"{SSL_KIND}-{name}"))]
    able = [r for r in named if r.recipe.get("layer") in (layer, ALL_LAYERS)]
    return able[0].path.name if layer != "auto" and len(able) == 1 else name


def _spec_kind(cache: Path, name: str | None) -> str:
    """The kind of spectrogram that a name prefix stands for; without one, the preferred kind of the cache."""
    recipes = [recipe for recipe in list_recipes(cache) if recipe.kind in SPEC_KINDS]
    named = [r for r in recipes if name is None or r.path.name.startswith((name, f"{r.kind}-{name}"))]
    kinds = [kind for kind in SPEC_KINDS if any(recipe.kind == kind for recipe in named)]
    if name is not None and len(kinds) > 1:
        names = listing([recipe.path.name for recipe in named])
        raise MfhcaError(f"{cache}: --spec {name} matches several recipes; write more of the name:\n{names}")
    spelled = [kind for kind in SPEC_KINDS if (name or "").startswith(kind)]
    return (*kinds, *spelled, *SPEC_KINDS)[0]


def _mfcc_name(cache: Path, spec: RecipeFolder | None) -> str | None:
    """The folder of the MFCCs with a spectrogram's settings, if the cache holds several."""
    recipes = [recipe for recipe in list_recipes(cache) if recipe.kind == MFCC_KIND]
    fields = (*SEGMENTATION, "pre_emphasis", "dtype")
    alike = [r for r in recipes if spec and all(r.recipe.get(f) == spec.recipe.get(f) for f in fields)]
    return alike[0].path.name if len(recipes) > 1 and len(alike) == 1 else None


def _find(cache: Path, kind: str, name: str | None) -> RecipeFolder:
    """As `find_recipe`; if the cache has no recipe of the kind, the error gives the command that computes it."""
    cached = {recipe.kind for recipe in list_recipes(cache)}
    if kind not in cached:
        encoder = " --backbone ENCODER" if kind == SSL_KIND else ""
        missing = "no" if cache.is_dir() else "no such folder, so no"
        alone = cached == {SSL_KIND} and kind in SPEC_KINDS
        raise MfhcaError(
            f"{cache}: {missing} {kind} features; "
            + ("train on the hidden states alone with `--set model.inputs=ssl`, or " if alone else "")
            + f"run `mfhca-cache features MANIFEST --root DIR --cache {quote(str(cache))} --kind {kind}{encoder}` "
            "with the same options as the other kinds"
        )
    return find_recipe(cache, kind, name)
