"""Which recipes of a cache a network reads, and that they fit together.

A network has up to three inputs, called sides: "spec" (a spectrogram, `logspec`
or `logmel`), "ssl" (hidden states) and "mfcc" (the baseline's third input).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.recipe.kinds import ALL_LAYERS
from mfhca_cache.store.reader import find_recipe, list_recipes

SPEC_KINDS = ("logspec", "logmel")  # the first one that a cache holds is meant, unless --spec names another
SSL_KIND, MFCC_KIND = "ssl", "mfcc"
CUT_BY = ("sample_rate", "segment_samples", "tail", "minimum_tail_samples")  # all kinds must agree on these


def choose_recipes(
    cache: Path,
    inputs: str,
    spec: str | None = None,
    ssl: str | None = None,
    mfcc: bool = False,
    ssl_layer: int | str = "auto",
) -> dict[str, RecipeFolder]:
    """The recipe of each side that a network reads.

    Args:
        cache: cache folder.
        inputs: ModelConfig.inputs.
        spec, ssl: beginnings of recipe names, where a cache holds several. A cache with both kinds of
            spectrogram means `logspec` as long as `spec` names no `logmel`.
        mfcc: ModelConfig.mfcc. Of several recipes it is the one made like the spectrogram's.
        ssl_layer: ModelConfig.ssl_layer. Of several recipes it is the only one that has it.

    Raises:
        MfhcaError: none or several fit, they cut the audio differently, or the layer is not there.
    """
    chosen: dict[str, RecipeFolder] = {}
    if inputs != "ssl":
        chosen["spec"] = _find(cache, _spec_kind(cache, spec), spec)
    if inputs != "spec":
        chosen["ssl"] = with_layer(_find(cache, SSL_KIND, _name_with(cache, ssl, ssl_layer)), ssl_layer)
    if mfcc:
        chosen["mfcc"] = _find(cache, MFCC_KIND, _name_beside(cache, chosen.get("spec")))
    for a, b in pairwise(chosen.values()):
        for field in CUT_BY:
            here, there = a.recipe.get(field), b.recipe.get(field)
            if here != there:
                raise MfhcaError(
                    f"{cache}: {a.path.name} and {b.path.name} cut the audio differently "
                    f"({field}: {here} and {there}); run `mfhca-cache features` for all kinds alike"
                )
    return chosen


def with_layer(recipe: RecipeFolder, wanted: int | str) -> RecipeFolder:
    """An encoder's recipe, to be read as a setting says.

    Args:
        recipe: of kind ssl.
        wanted: ModelConfig.ssl_layer.

    Raises:
        MfhcaError: the recipe holds another layer, or none of that number.
    """
    stored, layers = recipe.recipe.get("layer"), recipe.frame_shape[0]
    if wanted in ("auto", stored):
        return recipe
    if stored != ALL_LAYERS:
        raise MfhcaError(
            f"{recipe.path}: holds layer {stored} alone, model.ssl_layer={wanted} needs "
            f"{'more' if isinstance(wanted, str) else 'another'}; leave it out, or run "
            f"`mfhca-cache features --layer {ALL_LAYERS}` and name those features with --ssl"
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
    """The folder of the hidden states that have a layer, where it is one alone of those of that name."""
    found = [recipe for recipe in list_recipes(cache) if recipe.kind == SSL_KIND]
    named = [r for r in found if name is None or r.path.name.startswith((name, f"{SSL_KIND}-{name}"))]
    able = [r for r in named if r.recipe.get("layer") in (layer, ALL_LAYERS)]
    return able[0].path.name if layer != "auto" and len(able) == 1 else name


def _spec_kind(cache: Path, name: str | None) -> str:
    """The kind of spectrogram that is meant by the beginning of a recipe's name, or by nothing."""
    there = [recipe for recipe in list_recipes(cache) if recipe.kind in SPEC_KINDS]
    named = [r for r in there if name is None or r.path.name.startswith((name, f"{r.kind}-{name}"))]
    kinds = [kind for kind in SPEC_KINDS if any(recipe.kind == kind for recipe in named)]
    if name is not None and len(kinds) > 1:
        names = listing([recipe.path.name for recipe in named])
        raise MfhcaError(f"{cache}: --spec {name} fits several recipes; write more of the name:\n{names}")
    meant = [kind for kind in SPEC_KINDS if (name or "").startswith(kind)]
    return (*kinds, *meant, *SPEC_KINDS)[0]


def _name_beside(cache: Path, spec: RecipeFolder | None) -> str | None:
    """The folder of the MFCCs that were computed like a spectrogram, where a cache holds several."""
    found = [recipe for recipe in list_recipes(cache) if recipe.kind == MFCC_KIND]
    fields = (*CUT_BY, "pre_emphasis", "dtype")
    alike = [r for r in found if spec and all(r.recipe.get(f) == spec.recipe.get(f) for f in fields)]
    return alike[0].path.name if len(found) > 1 and len(alike) == 1 else None


def _find(cache: Path, kind: str, name: str | None) -> RecipeFolder:
    """As `find_recipe`; where the cache has nothing of the kind, the error names the command that makes it."""
    if not any(recipe.kind == kind for recipe in list_recipes(cache)):
        encoder = " --backbone ENCODER" if kind == SSL_KIND else ""
        there = "no" if cache.is_dir() else "no such folder, so no"
        raise MfhcaError(
            f"{cache}: {there} {kind} features; run `mfhca-cache features MANIFEST --root DIR --cache {cache} "
            f"--kind {kind}{encoder}` with the options of the other kinds"
        )
    return find_recipe(cache, kind, name)
