"""What a row of a run consists of: its settings, its identity, and its units (one fold with one seed each).

A `cv` run has one row, an ablation several. Rows with equal identity have equal
units, whichever run they belong to: nothing in it names a folder or a machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.cluster import Cluster
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import Manifest, read_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_cache.store.shard import verify_shard
from mfhca_train.config.settings import Config, TrainConfig
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold, make_folds
from mfhca_train.results.schema import CV_ROW, NETWORK, RESULT_FILE, unit_folder
from mfhca_train.training.unit import Unit, label_digest

RUN_FORMAT = 1


@dataclass(frozen=True)
class Request:
    """What the user asks of `cv` or `ablate`, resolved; for the latter, what all rows begin with."""

    manifest: Path
    cache: Path
    out: Path
    config: Config
    protocol: str = "strict"
    label_set: str | None = None
    spec: str | None = None  # which recipe, where the cache holds several
    ssl: str | None = None
    folds: tuple[str, ...] = ()  # a selection; empty: all
    seeds: tuple[int, ...] = (0,)
    threads: int = 1  # per fold; part of the result's identity
    jobs: int | None = None  # None: as many as the cores allow
    device: str = "auto"
    cluster: Cluster | None = None  # None: this machine
    analysis: bool = True  # of the trained networks, at the end
    root: Path | None = None  # of the audio, for waveforms in figures; None: without


@dataclass(frozen=True)
class Row:
    """One system that is trained and tested on every fold."""

    name: str
    config: Config
    protocol: str
    seeds: tuple[int, ...]
    folds: tuple[Fold, ...]  # all of the protocol
    chosen: tuple[Fold, ...]  # those asked for
    recipes: Mapping[str, RecipeFolder]
    kind: str = NETWORK
    origins: tuple[Row, ...] = ()  # not trained: each unit is one of theirs, see chosen.py


@dataclass(frozen=True)
class RowUnit(Unit):
    """A unit that knows its row, for messages."""

    row: str = CV_ROW

    @property
    def name(self) -> str:
        """For messages."""
        return super().name if self.row == CV_ROW else f"{self.row}, {super().name}"


@dataclass(frozen=True)
class Plan:
    """A row with everything that decides its results, and the units asked for."""

    row: Row
    identity: Mapping[str, Any]
    digest: str  # of the identity
    units: tuple[RowUnit, ...]

    @property
    def unfinished(self) -> list[RowUnit]:
        """The units that have no result yet."""
        return [unit for unit in self.units if not unit.finished]


@dataclass(frozen=True)
class Ground:
    """What all rows of a run stand on."""

    manifest: Manifest
    label_set: LabelSet
    utterances: tuple[Utterance, ...]  # of the label set


def read_ground(request: Request) -> Ground:
    """The manifest with the label set asked for.

    Raises:
        MfhcaError: the manifest cannot be read, or has no such label set.
    """
    manifest = read_manifest(request.manifest)
    manifest.warn()
    label_set = manifest.label_set(request.label_set)
    return Ground(manifest, label_set, manifest.select(label_set))


class Corpora:
    """The features of a run, opened once for each set of recipes. A context manager."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._open: dict[tuple[tuple[str, Path, int | None], ...], Corpus] = {}

    def of(self, recipes: Mapping[str, RecipeFolder]) -> Corpus:
        """The open corpus with these features.

        Raises:
            MfhcaError: features are missing or do not agree.
        """
        key = tuple((side, recipe.path, recipe.layer) for side, recipe in sorted(recipes.items()))
        if key not in self._open:
            self._open[key] = Corpus(recipes, self._ground.utterances, self._ground.label_set)
        return self._open[key]

    def verify(self, rows: Sequence[Row]) -> None:
        """Recomputes the digest of every shard that some rows use, once.

        Raises:
            MfhcaError: a byte differs from what was written.
        """
        shards = {shard.path: shard for row in rows for shard in self.of(row.recipes).shards}
        for shard in shards.values():
            verify_shard(shard)

    def __enter__(self) -> Corpora:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()


def plan(request: Request, ground: Ground, row: Row, corpus: Corpus) -> Plan:
    """A row's identity and units.

    Args:
        request: where, and with how many threads.
        ground: manifest and label set.
        row: what is to be trained.
        corpus: the open features of `row.recipes`.
    """
    identity = _identity(request, ground, row, corpus)
    digest = sha256_text(canonical_json(identity))
    units = [
        RowUnit(
            request.manifest,
            {side: recipe.path for side, recipe in row.recipes.items()},
            ground.label_set.name,
            row.config,
            fold,
            seed,
            unit_folder(request.out, row.name, seed, fold.id),
            request.threads,
            request.device,
            digest,
            identity["label_digest"],
            {str(shard.path): shard.stat for shard in corpus.shards},
            row=row.name,
        )
        for seed in row.seeds
        for fold in row.chosen
    ]
    return Plan(row, identity, digest, tuple(units))


def _identity(request: Request, ground: Ground, row: Row, corpus: Corpus) -> dict[str, Any]:
    """Everything that decides the results, without paths, so that equal runs have equal files."""
    manifest = ground.manifest
    identity: dict[str, Any] = {
        "format": RUN_FORMAT,
        "corpus": manifest.card.name if manifest.card else manifest.path.stem,
        "label_set": ground.label_set.name,
        "classes": list(corpus.classes),
        "protocol": row.protocol,
        "config": row.config.to_dict(),
        "recipes": {side: recipe.key for side, recipe in row.recipes.items()},
        "data_digest": corpus.digest(),
        "label_digest": label_digest(corpus),
        "folds_digest": sha256_text(
            canonical_json([[f.id, f.validation, f.test, len(f.train)] for f in row.folds])
        ),
        "threads": request.threads,
    }
    if row.origins:
        del identity["config"]["train"]["lr"]  # the one setting in which they differ
        identities = {origin.name: _identity(request, ground, origin, corpus) for origin in row.origins}
        identity["chosen_from"] = {
            name: sha256_text(canonical_json(found)) for name, found in identities.items()
        }
    return identity if row.kind == NETWORK else identity | {"kind": row.kind}


def recipe_names(rows: Sequence[Row]) -> dict[str, str]:
    """What the recipes of some rows are called, by key; names may change, so they decide nothing."""
    recipes = [recipe for row in rows for recipe in row.recipes.values()]
    return {recipe.key: recipe.name for recipe in recipes}


def choose_folds(folds: Sequence[Fold], names: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of these names, or all for none.

    Raises:
        MfhcaError: no fold is called so.
    """
    known = {fold.id: fold for fold in folds}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MfhcaError(f"no fold is called {unknown[0]!r}; there are: {', '.join(known)}")
    return tuple(fold for fold in folds if not names or fold.id in names)


def folds_of(ground: Ground, protocol: str, config: Config) -> tuple[Fold, ...]:
    """All folds of a protocol; see `make_folds`."""
    return make_folds(ground.utterances, protocol, config.train)


def check(request: Request, ground: Ground, protocols: Sequence[str]) -> None:
    """Refuses what cannot be scored, and settings that all the protocols would ignore.

    Raises:
        MfhcaError: it names which.
    """
    if len(ground.label_set.classes) < 2:
        raise MfhcaError(
            f"{request.manifest}: label set {ground.label_set.name} has one class only; nothing can be told apart"
        )
    given, default, names = request.config.train, TrainConfig(), ", ".join(protocols)
    if "group-k" not in protocols and given.groups != default.groups:
        raise MfhcaError(f"train.groups would be ignored by protocol {names}; leave it out")
    if (
        not {"strict", "oracle-matched"} & set(protocols)
        and given.validation_speakers != default.validation_speakers
    ):
        raise MfhcaError(f"train.validation_speakers would be ignored by protocol {names}; leave it out")


def finished_folders(out: Path, row: Row) -> list[Path]:
    """Folders of all finished units of a row that make a full grid of seeds and folds with those asked for."""
    names = {fold.id for fold in row.chosen}
    kept = [f for f in row.folds if f.id in names or all(_done(out, row, seed, f) for seed in row.seeds)]
    seeds = sorted({*finished_seeds(out, row, kept), *row.seeds})
    return [unit_folder(out, row.name, seed, fold.id) for seed in seeds for fold in kept]


def finished_seeds(out: Path, row: Row, folds: Sequence[Fold] | None = None) -> tuple[int, ...]:
    """The seeds with which all of these folds, by default those asked for, are finished."""
    there = [path.name.removeprefix("seed-") for path in (out / row.name).glob("seed-*")]
    folds = row.chosen if folds is None else folds
    return tuple(
        s for s in sorted(int(t) for t in there if t.isdigit()) if all(_done(out, row, s, f) for f in folds)
    )


def _done(out: Path, row: Row, seed: int, fold: Fold) -> bool:
    return (unit_folder(out, row.name, seed, fold.id) / RESULT_FILE).exists()
