"""The features of another corpus that networks can read: found in its cache, or the command that computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from types import MappingProxyType
from typing import Any

from mfhca_cache.common.errors import MfhcaError, did_you_mean, listing
from mfhca_cache.recipe.folder import RecipeFolder, explain, options_of
from mfhca_cache.recipe.kinds import External, key_of
from mfhca_cache.store.reader import list_recipes
from mfhca_train.data.inputs import is_named
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.inference.hub import encoder_of


def find_recipes(
    ensemble: Ensemble,
    manifest: Path,
    cache: Path,
    label_set: str | None = None,
    named: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, RecipeFolder]:
    """The recipes of a cache that the networks read.

    Args:
        ensemble: the networks.
        manifest, cache, label_set: of the other corpus.
        named: side -> beginning of a recipe's name, of features that another program made. Their content differs from
            that of the training features, so the user says that they were made in the same way.

    Raises:
        MfhcaError: one is missing; the message has the command that computes it.
    """
    cached = list_recipes(cache)
    of_all = [layer for recipe in cached for layer in recipe.layers_alone()]
    by_key = {key_of(recipe.read_as): recipe for recipe in (*of_all, *cached)}
    wanted = {side: dict(recipe) for side, recipe in ensemble.inputs.recipes.items()}
    found = {side: by_key[key_of(recipe)] for side, recipe in wanted.items() if key_of(recipe) in by_key}
    for side in named:
        found[side] = _named(cache, cached, side, named[side], wanted.get(side, {}), ensemble)
    missing = {side: recipe for side, recipe in wanted.items() if side not in found}
    if not missing:
        return found
    if imported := [side for side, recipe in missing.items() if recipe["kind"] == External.kind]:
        names = ", ".join(ensemble.inputs.names[side] for side in imported)
        raise MfhcaError(
            f"{cache}: the networks read features that another program made ({names}); import those of this corpus, "
            f"made in the same way, and name them with {' '.join(f'--{side} NAME' for side in imported)}"
        )
    near = [
        f"{folder.path.name} differs: {'; '.join(explain(folder.recipe, recipe, ('in the cache', 'in the run')))}"
        for recipe in missing.values()
        for folder in cached
        if folder.kind == recipe["kind"]
    ]
    kinds = " and ".join(recipe["kind"] for recipe in missing.values())
    command = features_command(ensemble, manifest, cache, label_set)
    encoder = ensemble.inputs.names.get("ssl", "") if "--backbone ENCODER" in command else ""
    called = f" (ENCODER: {encoder.removeprefix('ssl-')})" if encoder.startswith("ssl-") else ""
    raise MfhcaError(
        f"{cache}: no {kinds} features of the recipe that the networks were trained on; run{called}\n  {command}"
        + (f"\n{listing(near)}" if near else "")
    )


def _named(
    cache: Path,
    cached: Sequence[RecipeFolder],
    side: str,
    name: str,
    wanted: Mapping[str, Any],
    ensemble: Ensemble,
) -> RecipeFolder:
    """The features of another program that are named for a side."""
    if wanted.get("kind") != External.kind:
        raise MfhcaError(f"--{side} {name}: the networks read no imported features there; leave it out")
    matching = [folder for folder in cached if folder.kind == External.kind and is_named(folder, name)]
    if len(matching) != 1:
        prefix = f"{External.kind}-"
        names = [folder.name.removeprefix(prefix) for folder in cached if folder.kind == External.kind]
        raise MfhcaError(
            f"{cache}: {len(matching)} imported features are named {name}...; {did_you_mean(name, names)}"
        )
    (folder,) = matching
    own, trained = ({**recipe, "content_sha256": ""} for recipe in (folder.recipe, wanted))
    differing = explain(own, trained, ("in the cache", "in the run"))
    if folder.frame_shape != (shape := ensemble.inputs.shapes[side]):
        differing.append(f"frames and width {folder.frame_shape} in the cache, {shape} in the run")
    if differing:
        raise MfhcaError(f"{folder.path}: not made like the training features: {'; '.join(differing)}")
    return folder


def features_command(ensemble: Ensemble, manifest: Path, cache: Path, label_set: str | None = None) -> str:
    """The command that computes the features of another corpus for these networks."""
    parts = [f"mfhca-cache features {quote(str(manifest))} --root DIR --cache {quote(str(cache))}"]
    options: dict[str, Any] = {} if label_set is None else {"--label-set": label_set}
    for recipe in ensemble.inputs.recipes.values():
        parts.append(f"--kind {recipe['kind']}")
        options |= options_of(recipe["kind"], recipe)
    if "ssl" in ensemble.inputs.recipes:
        source = encoder_of(ensemble, None)  # its name on the hub, if the local hub cache holds its files
        parts.append(f"--backbone {quote(source.name) if source and source.name else 'ENCODER'}")
    return " ".join([*parts, *(f"{option} {quote(str(value))}" for option, value in options.items())])
