"""From the rows of a grid to rows that can be trained here: settings, folds, and the features they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.reader import list_recipes
from mfhca_train.config.parse import value_of, with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.folds import Fold
from mfhca_train.data.inputs import MFCC_KIND, SPEC_KINDS, SSL_KIND, choose_recipes
from mfhca_train.results.schema import CHOSEN, NETWORK
from mfhca_train.runs.grid import Grid, GridRow, row_config
from mfhca_train.runs.plan import Ground, Request, Row, choose_folds, folds_of

KINDS = {"spec": SPEC_KINDS, "ssl": (SSL_KIND,), "mfcc": (MFCC_KIND,)}  # of recipe, by side


@dataclass(frozen=True)
class Lacking:
    """A row that cannot be trained here, and what would help."""

    name: str
    reason: str


def select(grid: Grid, names: Sequence[str]) -> list[str]:
    """The rows asked for by name and those that they choose among, or all, merely cited ones left out.

    Raises:
        MfhcaError: no row is called so.
    """
    known = [row.name for row in grid.trained]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MfhcaError(f"no row is called {unknown[0]!r}; there are: {', '.join(known)}")
    wanted = {*names, *(origin for row in grid.trained if row.name in names for origin in row.candidates)}
    return [name for name in known if not names or name in wanted]


def resolve(
    request: Request, grid: Grid, ground: Ground, names: Sequence[str] | None = None
) -> tuple[list[Row], list[Lacking]]:
    """The rows of a grid as they would be trained.

    Args:
        request: what all rows begin with.
        grid: the rows.
        ground: the corpus.
        names: of the rows that are wanted; None for all.

    Returns:
        Those whose features are in the cache and whose protocol the corpus allows; and the others.

    Raises:
        MfhcaError: a setting does not fit, a fold is not known, or several recipes would do.
    """
    rows, lacking = [], []
    wanted = [row for row in grid.trained if names is None or row.name in names]
    configs = {row.name: row_config(request.config, row) for row in wanted}
    for row in wanted:
        if row.kind == CHOSEN:
            origins, left = resolve(request, grid, ground, row.candidates)
            if left:
                lacking.append(
                    Lacking(row.name, f"it chooses among rows that lack something: {left[0].name}")
                )
            else:
                rows.append(_choosing(row, origins))
            continue
        config, protocol = configs[row.name], row.protocol or request.protocol
        there = list_recipes(request.cache)
        missing = _missing(request, row, config, there)
        if missing:
            lacking.append(Lacking(row.name, missing))
            continue
        try:
            folds = folds_of(ground, protocol, config)
        except MfhcaError as error:
            lacking.append(Lacking(row.name, f"{error} (it has protocol {protocol})"))
            continue
        try:
            chosen = _chosen(folds, request.folds)
            recipes = choose_recipes(
                request.cache,
                config.model.inputs,
                _name(request, grid, row, "spec", there),
                _name(request, grid, row, "ssl", there),
                config.model.mfcc,
                config.model.ssl_layer,
            )
            if row.kind == "svm" and recipes["ssl"].layers:
                raise MfhcaError(
                    f"{recipes['ssl'].path}: kind svm reads one layer, these are all; "
                    "set model.ssl_layer to a number"
                )
        except MfhcaError as error:
            raise MfhcaError(f"row {row.name}: {error}") from error
        # What has no random numbers gives the same under every seed.
        seeds = request.seeds if row.kind == NETWORK else request.seeds[:1]
        rows.append(Row(row.name, config, protocol, seeds, folds, chosen, recipes, row.kind))
    return rows, lacking


def _choosing(row: GridRow, origins: Sequence[Row]) -> Row:
    """A row that chooses among others, which are the same but for the learning rate, so that one network fits all.

    Raises:
        MfhcaError: they differ in more.
    """
    first, rate = origins[0], "train.lr"
    for other in origins[1:]:
        config = with_settings(other.config, {rate: value_of(first.config, rate)})
        if replace(other, name=first.name, config=config) != first:
            raise MfhcaError(
                f"row {row.name}: {first.name} and {other.name} differ in more than {rate}; choose among others"
            )
    return replace(first, name=row.name, origins=tuple(origins))


def _chosen(folds: Sequence[Fold], names: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of these names; where a protocol has no such fold, the one that tests the speaker of that name."""
    of_speaker = {speaker: fold.id for fold in folds for speaker in fold.test}
    known = {fold.id for fold in folds}
    return choose_folds(folds, [name if name in known else of_speaker.get(name, name) for name in names])


def _sides(config: Config) -> list[str]:
    inputs = {"both": ["spec", "ssl"], "spec": ["spec"], "ssl": ["ssl"]}[config.model.inputs]
    return [*inputs, *(["mfcc"] if config.model.mfcc else [])]


def _fitting(request: Request, row: GridRow, side: str, there: Sequence[RecipeFolder]) -> list[RecipeFolder]:
    """The recipes that a row could read on one side."""
    name = _asked(request, row, side)
    found = [
        recipe
        for recipe in there
        if recipe.kind in KINDS[side]
        and (name is None or recipe.path.name.startswith((name, f"{recipe.kind}-{name}")))
        and all(recipe.recipe.get(field, value) == value for field, value in row.recipe.items())
    ]
    if side == "spec" and name is None:  # a cache with both kinds means the first, see `recipes`
        found = [r for r in found if r.kind == min((f.kind for f in found), key=SPEC_KINDS.index)]
    return found


def _asked(request: Request, row: GridRow, side: str) -> str | None:
    """How the name of the recipe must begin: the row's word, else the command line's."""
    return {"spec": row.spec or request.spec, "ssl": row.ssl or request.ssl}.get(side)


def _name(request: Request, grid: Grid, row: GridRow, side: str, there: Sequence[RecipeFolder]) -> str | None:
    """The folder of the one recipe that fits; of several the one that the grid's base describes, if there is one."""
    found, asked = _fitting(request, row, side, there), _asked(request, row, side)
    usual = {"spec": grid.base.spec, "ssl": grid.base.ssl}.get(side)
    if len(found) > 1 and asked is None and usual:
        found = [r for r in found if r.path.name.startswith((usual, f"{r.kind}-{usual}"))] or found
    if len(found) > 1:
        preferred = {field: value for field, value in grid.base.recipe.items() if field not in row.recipe}
        alike = [r for r in found if all(r.recipe.get(f, v) == v for f, v in preferred.items())]
        found = alike if len(alike) == 1 else found
    return found[0].path.name if len(found) == 1 else asked


def _missing(request: Request, row: GridRow, config: Config, there: Sequence[RecipeFolder]) -> str | None:
    """Which features a row lacks, with the command that makes them."""
    lacking = [side for side in _sides(config) if not _fitting(request, row, side, there)]
    if not lacking:
        return None
    kinds, words = [], []
    for side in lacking:
        name = _asked(request, row, side)
        kind = next((kind for kind in KINDS[side] if name and name.startswith(kind)), KINDS[side][0])
        kinds.append(kind)
        words.append(f"no {kind} features" + (f" named {name}..." if name and name != kind else ""))
    arguments = [f"--kind {kind}" for kind in kinds]
    arguments += [f"--{field.replace('_', '-')} {value}" for field, value in row.recipe.items()]
    arguments += [f"--label-set {request.label_set}"] if request.label_set else []
    if "ssl" in lacking:
        arguments.append(row.features or "--backbone ENCODER")
    fields = "".join(f", {field} = {value}" for field, value in row.recipe.items())
    return (
        f"{' and '.join(words)}{fields}: mfhca-cache features {request.manifest} --root DIR "
        f"--cache {request.cache} {' '.join(arguments)}"
    )


def complain(lacking: Sequence[Lacking]) -> str:
    """Rows that cannot be trained, for an error or a note."""
    return listing([f"{row.name}: {row.reason}" for row in lacking])
