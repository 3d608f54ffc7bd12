"""The rows of a grid with their settings, folds and recipes, as they can be trained from a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote

from mfhca_cache.common.errors import MfhcaError, did_you_mean, listing
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.recipe.kinds import External
from mfhca_cache.store.reader import list_recipes
from mfhca_train.config.parse import value_of, with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.folds import Fold, make_folds
from mfhca_train.data.inputs import MFCC_KIND, SPEC_KINDS, SSL_KIND, choose_recipes, is_named
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.results.schema import CHOSEN, LOGISTIC, NETWORK, SVM
from mfhca_train.runs.grid import Grid, GridRow, row_config
from mfhca_train.runs.plan import Request, Row, select_folds, with_precision

KINDS = {"spec": SPEC_KINDS, "ssl": (SSL_KIND,), "mfcc": (MFCC_KIND,)}  # of recipe, by input


@dataclass(frozen=True)
class MissingRow:
    """A row that cannot be trained, with the reason and remedy."""

    name: str
    reason: str


def select(grid: Grid, names: Sequence[str]) -> list[str]:
    """Names of the rows asked for, with those that they select from; all if no name is given. Without cited rows.

    Raises:
        MfhcaError: a name is unknown.
    """
    known = [row.name for row in grid.trained]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MfhcaError(f"no row is called {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
    wanted = {*names, *(origin for row in grid.trained if row.name in names for origin in row.candidates)}
    return [name for name in known if not names or name in wanted]


def resolve(
    request: Request, grid: Grid, labelled: LabelledCorpus, names: Sequence[str] | None = None
) -> tuple[list[Row], list[MissingRow]]:
    """The rows of a grid as they would be trained.

    Args:
        request: what all rows start from.
        grid: the rows.
        labelled: the corpus.
        names: of the wanted rows; None for all.

    Returns:
        Those whose features are in the cache and whose protocol the corpus allows; and the others.

    Raises:
        MfhcaError: a setting does not fit, a fold is unknown, or several recipes match.
    """
    rows, missing = [], []
    wanted = [row for row in grid.trained if names is None or row.name in names]
    configs = {row.name: with_precision(request, row_config(request.config, row)) for row in wanted}
    for row in wanted:
        if row.kind == CHOSEN:
            candidates, incomplete = resolve(request, grid, labelled, row.candidates)
            if incomplete:
                reason = f"it selects from a row that cannot be trained: {incomplete[0].name}"
                missing.append(MissingRow(row.name, reason))
            else:
                rows.append(_selecting_row(row, candidates))
            continue
        config, protocol = configs[row.name], row.protocol or request.protocol
        recipes_in_cache = list_recipes(request.cache)
        lacking = _missing_features(request, row, config, recipes_in_cache)
        if lacking:
            missing.append(MissingRow(row.name, lacking))
            continue
        try:
            folds = make_folds(labelled.utterances, protocol, config.train)
        except MfhcaError as error:
            missing.append(MissingRow(row.name, f"{error} (its protocol is {protocol})"))
            continue
        try:
            selected = _select_folds(folds, request.folds)
            recipes = choose_recipes(
                request.cache,
                config.model.inputs,
                _recipe_name(request, grid, row, "spec", recipes_in_cache),
                _recipe_name(request, grid, row, "ssl", recipes_in_cache),
                config.model.mfcc,
                config.model.ssl_layer,
            )
            if row.kind in (SVM, LOGISTIC) and recipes["ssl"].layers:
                raise MfhcaError(
                    f"{recipes['ssl'].path}: kind {row.kind} reads one layer, but these features hold all; "
                    "set model.ssl_layer to a number"
                )
        except MfhcaError as error:
            raise MfhcaError(f"row {row.name}: {error}") from error
        # Classifiers without random numbers give the same result for every seed.
        seeds = request.seeds if row.kind == NETWORK else request.seeds[:1]
        rows.append(Row(row.name, config, protocol, seeds, folds, selected, recipes, row.kind))
    return rows, missing


def _selecting_row(row: GridRow, candidates: Sequence[Row]) -> Row:
    """A row that selects from others. They may differ only in the learning rate, so that they have one network.

    Raises:
        MfhcaError: they differ in more.
    """
    first, rate = candidates[0], "train.lr"
    for other in candidates[1:]:
        config = with_settings(other.config, {rate: value_of(first.config, rate)})
        if replace(other, name=first.name, config=config) != first:
            raise MfhcaError(
                f"row {row.name}: {first.name} and {other.name} differ in more than {rate}; "
                "select from rows with otherwise equal settings"
            )
    return replace(first, name=row.name, candidates=tuple(candidates))


def _select_folds(folds: Sequence[Fold], names: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of these names; a speaker's name stands for the fold that tests it, if no fold has that name."""
    of_speaker = {speaker: fold.id for fold in folds for speaker in fold.test}
    known = {fold.id for fold in folds}
    return select_folds(folds, [name if name in known else of_speaker.get(name, name) for name in names])


def _inputs(config: Config) -> list[str]:
    inputs = ["spec", "ssl"] if config.model.inputs == "both" else [config.model.inputs]
    return [*inputs, *(["mfcc"] if config.model.mfcc else [])]


def _name_prefix(request: Request, row: GridRow, side: str) -> str | None:
    """How the recipe's name must begin: the row's choice, else the command line's."""
    return {"spec": row.spec or request.spec, "ssl": row.ssl or request.ssl}.get(side)


def _matching(
    request: Request, row: GridRow, side: str, recipes: Sequence[RecipeFolder]
) -> list[RecipeFolder]:
    """The recipes that a row could read for one input."""
    prefix = _name_prefix(request, row, side)
    matching = [
        recipe
        for recipe in recipes
        if (recipe.kind in KINDS[side] or (recipe.kind == External.kind and prefix and side != "mfcc"))
        and (prefix is None or is_named(recipe, prefix))
        and all(recipe.recipe.get(field, value) == value for field, value in row.recipe.items())
    ]
    if side == "spec" and prefix is None:  # with both kinds of spectrogram in the cache, the preferred one
        preferred = min((r.kind for r in matching), key=SPEC_KINDS.index, default="")
        matching = [r for r in matching if r.kind == preferred]
    return matching


def _recipe_name(
    request: Request, grid: Grid, row: GridRow, side: str, recipes: Sequence[RecipeFolder]
) -> str | None:
    """Folder name of the only matching recipe; of several, of the one that the grid's base describes."""
    matching, prefix = _matching(request, row, side, recipes), _name_prefix(request, row, side)
    base_prefix = {"spec": grid.base.spec, "ssl": grid.base.ssl}.get(side)
    if len(matching) > 1 and prefix is None and base_prefix:
        matching = [r for r in matching if is_named(r, base_prefix)] or matching
    if len(matching) > 1:
        base = {field: value for field, value in grid.base.recipe.items() if field not in row.recipe}
        of_base = [r for r in matching if all(r.recipe.get(f, v) == v for f, v in base.items())]
        matching = of_base if len(of_base) == 1 else matching
    return matching[0].path.name if len(matching) == 1 else prefix


def _missing_features(
    request: Request, row: GridRow, config: Config, recipes: Sequence[RecipeFolder]
) -> str | None:
    """Which features of a row the cache lacks, with the command that computes them; None if it lacks none."""
    missing = [side for side in _inputs(config) if not _matching(request, row, side, recipes)]
    if not missing:
        return None
    kinds, phrases = [], []
    for side in missing:
        prefix = _name_prefix(request, row, side)
        known = (*KINDS[side], External.kind)
        kind = next((kind for kind in known if prefix and prefix.startswith(kind)), known[0])
        kinds.append(kind)
        phrases.append(f"no {kind} features" + (f" named {prefix}..." if prefix and prefix != kind else ""))
    if any(External.kind in phrase for phrase in phrases):
        command = f"mfhca-cache import {quote(str(request.manifest))} --cache {quote(str(request.cache))}"
        return f"{' and '.join(phrases)}: {command} --features DIR --name NAME"
    arguments = [f"--kind {kind}" for kind in kinds]
    arguments += [f"--{field.replace('_', '-')} {value}" for field, value in row.recipe.items()]
    arguments += [f"--label-set {quote(request.label_set)}"] if request.label_set else []
    if "ssl" in missing:
        arguments.append(row.features or "--backbone ENCODER")
    fields = "".join(f", {field} = {value}" for field, value in row.recipe.items())
    return (
        f"{' and '.join(phrases)}{fields}: mfhca-cache features {quote(str(request.manifest))} --root DIR "
        f"--cache {quote(str(request.cache))} {' '.join(arguments)}"
    )


def list_missing(missing: Sequence[MissingRow]) -> str:
    """The rows that cannot be trained, for a message."""
    return listing([f"{row.name}: {row.reason}" for row in missing])
