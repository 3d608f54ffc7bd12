"""Grids: the rows of an ablation as they stand in a TOML file, checked before anything is trained.

    title = "..."
    [base]                      # what all rows begin with; protocol, set, spec, ssl, recipe: all optional
    [[row]]
    name = "mf"                 # of its folder
    title = "Spec + MF"         # as shown
    kind = "network"            # svm, majority: see classic.py; chosen: see chosen.py; cited: a published figure alone
    set = { "model.inputs" = "spec" }
    reference = true            # the others are tested against this row
    published = "spec-mf"       # key(s) of published.toml

manifests/README.md explains every field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_toml
from mfhca_train.config.settings import Config, with_settings
from mfhca_train.data.folds import PROTOCOLS
from mfhca_train.results.published import manifest_folders, read_published
from mfhca_train.results.summary import NETWORK
from mfhca_train.training.classical import KINDS as CLASSIC

CITED = "cited"
CHOSEN = "chosen"
ROW_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,60}")
# Fields of a TOML table and the type each must have.
COMMON = {"protocol": str, "set": dict, "spec": str, "ssl": str, "recipe": dict}
BASE_FIELDS = COMMON
ROW_FIELDS = COMMON | {
    "name": str,
    "title": str,
    "kind": str,
    "reference": bool,
    "published": (str, list),
    "features": str,
    "from": list,
}
CHOSEN_FIELDS = ("name", "title", "kind", "reference", "published", "from")
FIELDS = {"title": str, "note": str, "base": dict, "row": list}


@dataclass(frozen=True)
class GridRow:
    """One row as written, the grid's base filled in where the row says nothing."""

    name: str
    title: str
    kind: str
    settings: Mapping[str, Any]  # the row's own, over base and --set
    protocol: str | None  # None: the run's
    spec: str | None  # how the recipe's name must begin; None: as the run says
    ssl: str | None
    recipe: Mapping[str, Any]  # fields that the recipes must have
    features: str  # arguments of `mfhca-cache features` that make what it reads, for the message
    published: tuple[str, ...]  # keys of published.toml
    origins: tuple[str, ...] = ()  # of a chosen row: those that it chooses among


@dataclass(frozen=True)
class Grid:
    """A whole file."""

    name: str
    title: str
    note: str
    settings: Mapping[str, Any]
    protocol: str | None
    spec: str | None  # the recipe to choose where several would do: how its name begins
    ssl: str | None
    recipe: Mapping[str, Any]  # and what fields it has
    rows: tuple[GridRow, ...]
    reference: str | None
    figures: Mapping[str, Mapping[str, Any]]  # published ones by their key
    claims: tuple[Mapping[str, Any], ...] = ()  # published ones that are no scores

    @property
    def trained(self) -> tuple[GridRow, ...]:
        """The rows that are not merely cited."""
        return tuple(row for row in self.rows if row.kind != CITED)


def find_grid(name: Path) -> Path:
    """A grid file, or one of the project's own by its name (table2).

    Raises:
        MfhcaError: there is none.
    """
    if name.exists():
        return name
    shipped = [folder / "ablations" for folder in manifest_folders()]
    for folder in shipped:
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in shipped for path in folder.glob("*.toml")})
    raise MfhcaError(f"{name}: no such grid file; those of the project: {', '.join(known)}")


def read_grid(path: Path) -> Grid:
    """Reads a grid and checks all that can be checked without a corpus.

    Args:
        path: the TOML file.

    Raises:
        MfhcaError: it cannot be read, or a field, name, kind, protocol or published key is not known.
    """
    data = read_toml(path)
    _known(path, "the file", data, FIELDS)
    base = data.get("base", {})
    _known(path, "[base]", base, BASE_FIELDS)
    published = read_published(path)
    figures = {figure["key"]: figure for figure in published["figure"] if "key" in figure}
    rows = tuple(_row(path, index, entry, figures) for index, entry in enumerate(data.get("row", []), 1))
    names = [row.name for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise MfhcaError(f"{path}: two rows are called {twice[0]!r}")
    networks = [row.name for row in rows if row.kind == NETWORK]
    for row in rows:
        for name in row.origins:
            if name not in networks:
                raise MfhcaError(f"{path}: row {row.name}: from: no row of kind {NETWORK} is called {name!r}")
    references = [row["name"] for row in data.get("row", []) if row.get("reference")]
    grid = Grid(
        path.stem,
        data.get("title", path.stem),
        data.get("note", ""),
        base.get("set", {}),
        base.get("protocol"),
        base.get("spec"),
        base.get("ssl"),
        base.get("recipe", {}),
        rows,
        references[0] if references else None,
        figures,
        tuple(published["claim"]),
    )
    if not grid.trained:
        raise MfhcaError(f"{path}: no [[row]] to train")
    if len(references) > 1 or (references and references[0] not in [row.name for row in grid.trained]):
        raise MfhcaError(f"{path}: reference must be one row that is trained, is {', '.join(references)}")
    return grid


def row_config(base: Config, row: GridRow) -> Config:
    """The settings of a row: its own over those that all rows begin with.

    Raises:
        MfhcaError: a setting is not known or does not fit; the row is named.
    """
    try:
        config = with_settings(base, row.settings)
    except MfhcaError as error:
        raise MfhcaError(f"row {row.name}: {error}") from error
    if row.kind == "svm" and config.model.inputs != "ssl":
        raise MfhcaError(f'row {row.name}: kind svm reads hidden states alone; set "model.inputs" = "ssl"')
    return config


def _row(path: Path, index: int, entry: dict[str, Any], figures: Mapping[str, Any]) -> GridRow:
    where = f"row {index}"
    if not isinstance(entry, dict):
        raise MfhcaError(f"{path}: {where} is not a table")
    _known(path, where, entry, ROW_FIELDS)
    name, kind = entry.get("name", ""), entry.get("kind", NETWORK)
    if not ROW_NAME.fullmatch(name):
        raise MfhcaError(f"{path}: {where}: name {name!r} is not made of a-z, 0-9, '.' and '-'")
    kinds = (NETWORK, *CLASSIC, CHOSEN, CITED)
    if kind not in kinds:
        raise MfhcaError(f"{path}: row {name}: kind {kind!r} is not one of {', '.join(kinds)}")
    published = entry.get("published", [])
    published = (published,) if isinstance(published, str) else tuple(published)
    unknown = [key for key in published if not isinstance(key, str) or key not in figures]
    if unknown:
        raise MfhcaError(f"{path}: row {name}: published.toml has no figure with key {unknown[0]!r}")
    if kind == CITED and not published:
        raise MfhcaError(f"{path}: row {name}: a cited row needs a published figure")
    if kind != CHOSEN and "from" in entry:
        raise MfhcaError(f"{path}: row {name}: from belongs to kind {CHOSEN}")
    if kind == CHOSEN and len(entry.get("from", [])) < 2:
        raise MfhcaError(f"{path}: row {name}: a chosen row needs the names of two rows or more in from")
    ignored = [field for field in entry if kind == CHOSEN and field not in CHOSEN_FIELDS]
    if ignored:
        raise MfhcaError(f"{path}: row {name}: {ignored[0]} would be ignored by kind {CHOSEN}; leave it out")
    return GridRow(
        name,
        str(entry.get("title", name)),
        kind,
        entry.get("set", {}),
        entry.get("protocol"),
        entry.get("spec"),
        entry.get("ssl"),
        entry.get("recipe", {}),
        entry.get("features", ""),
        published,
        tuple(entry.get("from", [])),
    )


def _known(path: Path, where: str, table: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    for name, value in table.items():
        if name not in fields:
            raise MfhcaError(f"{path}: {where}: no field is called {name!r}; there are: {', '.join(fields)}")
        if not isinstance(value, fields[name]):
            raise MfhcaError(f"{path}: {where}: {name} = {value!r} has the wrong type")
    if table.get("protocol") not in (None, *PROTOCOLS):
        raise MfhcaError(
            f"{path}: {where}: no protocol is called {table['protocol']!r}; there are: {', '.join(PROTOCOLS)}"
        )
