"""Grids: the rows of an ablation, read from a TOML file and checked before anything is trained.

    title = "..."
    [base]                      # what all rows begin with; protocol, set, spec, ssl, recipe: all optional
    [[row]]
    name = "mf"                 # of its folder
    title = "Spec + MF"         # in tables
    kind = "network"            # svm, logistic, majority: training.classical; chosen: runs.reuse; cited: published
    set = { "model.inputs" = "spec" }
    reference = true            # the others are tested against this row
    published = "spec-mf"       # key(s) of published.toml

manifests/README.md explains every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import NODEFAULT, Meta, Struct, structs

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.files import read_toml
from mfhca_cache.common.typed import Text, decode
from mfhca_cache.manifest.card import manifest_folders
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.folds import PROTOCOLS
from mfhca_train.results.published import Claim, PublishedScore, read_published
from mfhca_train.results.schema import CHOSEN, CITED, LOGISTIC, NETWORK, SVM

RowName = Annotated[
    str,
    Meta(pattern="^[a-z0-9][a-z0-9.-]{0,60}$", description="a name of at most 61 of a-z, 0-9, '.' and '-'"),
]
Setting = str | int | float | bool | list[int]
USED_BY_CHOSEN = ("name", "title", "kind", "reference", "published", "candidates")
FILE_SUFFIXES = (".json", ".html", ".md", ".csv", ".txt")  # of files beside the rows' folders
REMEDY = "correct the grid"


class Selection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"settings": "set"}):
    """What the base of a grid and each of its rows may choose: protocol, settings and features."""

    protocol: str | None = None  # None: the run's
    settings: dict[str, Setting] = {}
    spec: Text | None = None  # how the recipe's name begins; None: as the run says
    ssl: Text | None = None
    recipe: dict[str, Any] = {}  # fields that the recipes must have

    def __post_init__(self) -> None:
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise ValueError(
                f"protocol {self.protocol!r} does not exist; {did_you_mean(self.protocol, PROTOCOLS)}"
            )


class GridRow(Selection, frozen=True, kw_only=True, rename={"settings": "set", "candidates": "from"}):
    """One [[row]]; its settings win over the base and over --set."""

    name: RowName
    title: str = ""  # replaced by the name
    kind: Literal["network", "svm", "logistic", "majority", "chosen", "cited"] = NETWORK
    reference: bool = False
    published: str | tuple[str, ...] = ()  # key(s) of published.toml
    features: str = ""  # arguments of `mfhca-cache features` that make what the row reads, for messages
    candidates: tuple[str, ...] = ()  # of a chosen row: the rows it selects from

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == CITED and not self.published:
            raise ValueError("a cited row needs a published score")
        if self.kind != CHOSEN and self.candidates:
            raise ValueError(f"from belongs to kind {CHOSEN}")
        if self.kind == CHOSEN and len(self.candidates) < 2:
            raise ValueError("a chosen row needs the names of two rows or more in from")
        for field in structs.fields(self):
            default = field.default if field.default_factory is NODEFAULT else field.default_factory()
            if (
                self.kind == CHOSEN
                and field.name not in USED_BY_CHOSEN
                and getattr(self, field.name) != default
            ):
                raise ValueError(f"{field.encode_name} would be ignored by kind {CHOSEN}; leave it out")

    @property
    def published_keys(self) -> tuple[str, ...]:
        """The keys of its published scores."""
        return (self.published,) if isinstance(self.published, str) else self.published


class GridFile(Struct, frozen=True, forbid_unknown_fields=True, rename={"rows": "row"}):
    """The whole file as written."""

    title: str = ""
    note: str = ""
    base: Selection = Selection()
    rows: tuple[GridRow, ...] = ()

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        # Tables and figures show titles alone.
        for what, texts in (("called", names), ("titled", [row.title or row.name for row in self.rows])):
            twice = sorted({text for text in texts if texts.count(text) > 1})
            if twice:
                raise ValueError(f"two rows are {what} {twice[0]!r}")
        for name in names:
            if name.endswith(FILE_SUFFIXES):
                raise ValueError(
                    f"row {name!r} is named like a file of a run; choose a name without its suffix"
                )
        trained = [row for row in self.rows if row.kind != CITED]
        if not trained:
            raise ValueError("no [[row]] to train")
        networks = [row.name for row in self.rows if row.kind == NETWORK]
        for row in self.rows:
            for name in row.candidates:
                if name not in networks:
                    raise ValueError(f"row {row.name}: from: no row of kind {NETWORK} is called {name!r}")
        references = [row for row in self.rows if row.reference]
        if len(references) > 1 or any(row not in trained for row in references):
            called = ", ".join(row.name for row in references)
            raise ValueError(f"reference must be one row that is trained, is {called}")


@dataclass(frozen=True)
class Grid:
    """A grid with the published scores its rows name."""

    name: str
    title: str
    note: str
    base: Selection
    rows: tuple[GridRow, ...]
    reference: str | None
    published: Mapping[str, PublishedScore]  # by key
    claims: tuple[Claim, ...] = ()

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
    raise MfhcaError(f"{name}: no such grid file; {did_you_mean(str(name), known)}")


def read_grid(path: Path) -> Grid:
    """Reads a grid and checks everything that can be checked without a corpus.

    Args:
        path: the TOML file.

    Raises:
        MfhcaError: it cannot be read, or a field, name, kind, protocol or published key is not known.
    """
    file = decode(path, read_toml(path), GridFile, REMEDY)
    published = read_published(path)
    by_key = {score.key: score for score in published.scores if score.key is not None}
    for row in file.rows:
        for key in row.published_keys:
            if key not in by_key:
                known = did_you_mean(key, by_key)
                raise MfhcaError(
                    f"{path}: row {row.name}: published.toml has no figure with key {key!r}; {known}"
                )
    rows = tuple(structs.replace(row, title=row.title or row.name) for row in file.rows)
    reference = next((row.name for row in rows if row.reference), None)
    return Grid(
        path.stem, file.title or path.stem, file.note, file.base, rows, reference, by_key, published.claims
    )


def row_config(base: Config, row: GridRow) -> Config:
    """The settings of a row: its own over those that all rows begin with.

    Raises:
        MfhcaError: a setting is not known or does not fit; the row is named.
    """
    try:
        config = with_settings(base, row.settings)
    except MfhcaError as error:
        raise MfhcaError(f"row {row.name}: {error}") from error
    if row.kind in (SVM, LOGISTIC) and config.model.inputs != "ssl":
        raise MfhcaError(
            f'row {row.name}: kind {row.kind} reads hidden states alone; set "model.inputs" = "ssl"'
        )
    return config
