"""The plan of a run: its rows, what decides their results, and their units of one fold with one seed each.

A cv run has one row, an ablation several. Rows with the same identity have the same units, whichever run they
belong to: an identity contains no folder and no machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfhca_cache.common.cluster import Cluster
from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.common.hardware import DEVICES
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_train.config.defaults import PROTOCOL, SEEDS, THREADS
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config, TrainConfig
from mfhca_train.data.class_map import ClassMap
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.coverage import check_corpora
from mfhca_train.data.folds import ORACLES, Fold
from mfhca_train.data.labelled import LabelledCorpus, Source, read_corpora
from mfhca_train.results.schema import NETWORK, unit_folder
from mfhca_train.training import queue
from mfhca_train.training.epochs import OnEpoch
from mfhca_train.training.unit import Unit

RUN_FORMAT = 1


@dataclass(frozen=True)
class Request:
    """The arguments of `cv` or `ablate`; in an ablation, what all rows start from.

    Attributes:
        manifest, cache, out: paths of the manifest, the cache and the run folder.
        config: all settings.
        protocol: a key of `folds.PROTOCOLS`.
        label_set: None for the card's default.
        spec, ssl: prefixes of recipe names, if the cache holds several.
        folds: ids of the folds to train; empty for all.
        seeds: one unit per fold and seed.
        threads: per fold; part of a row's identity.
        jobs: folds trained at the same time; None for as many as the cores allow.
        device: auto, cpu, cuda or mps.
        cluster: where to train; None for this machine.
        analysis: whether to analyse the trained networks at the end.
        root: folder of the audio, for waveforms in the report; None leaves them out.
        others: the files of further corpora, see `data.labelled`.
        class_map: of several corpora, see `data.class_map`.
        accept_copies, accept_untrained: accept identical recordings under two speakers, untrained test classes.
        default_preset: the preset that `config` is, if nobody named it; for the report.
        on_epoch: functions called with every epoch of every network, see `epochs.EpochWatcher`; they change no result.
        track: trackers of the training, names of `tracking.tracker.TRACKERS`; they change no result.
    """

    manifest: Path
    cache: Path
    out: Path
    config: Config
    protocol: str = PROTOCOL
    label_set: str | None = None
    spec: str | None = None
    ssl: str | None = None
    folds: tuple[str, ...] = ()
    seeds: tuple[int, ...] = tuple(range(SEEDS))
    threads: int = THREADS
    jobs: int | None = None
    device: str = DEVICES[0]
    cluster: Cluster | None = None
    analysis: bool = True
    root: Path | None = None
    accept_copies: bool = False
    accept_untrained: bool = False
    default_preset: str | None = None
    on_epoch: tuple[OnEpoch, ...] = ()
    track: tuple[str, ...] = ()
    others: tuple[Source, ...] = ()
    class_map: ClassMap = field(default_factory=dict)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files of every corpus, in the order of the command line."""
        return Source(self.manifest, self.cache, self.root), *self.others


@dataclass(frozen=True)
class Row:
    """A system that is trained and tested on every fold."""

    name: str
    config: Config
    protocol: str
    seeds: tuple[int, ...]
    folds: tuple[Fold, ...]  # all of the protocol
    selected_folds: tuple[Fold, ...]  # those asked for
    recipes: Mapping[str, RecipeFolder]
    kind: str = NETWORK
    candidates: tuple[Row, ...] = ()  # not trained itself: each unit is one of theirs, see reuse.select_units


@dataclass(frozen=True)
class Plan:
    """A row, everything that decides its results, and the units asked for."""

    row: Row
    identity: Mapping[str, Any]
    digest: str  # of the identity
    units: tuple[Unit, ...]

    @property
    def unfinished(self) -> list[Unit]:
        """The units without a result."""
        return [unit for unit in self.units if not unit.finished]


def files_of(
    manifests: Sequence[Path], caches: Sequence[Path], roots: Sequence[Path], class_map: ClassMap
) -> dict[str, Any]:
    """The fields of a `Request` that name the files of one corpus or several.

    Args:
        manifests: one per corpus.
        caches: one for all of them, or one for each.
        roots: none, or one for each.
        class_map: see `Request`.

    Raises:
        MfhcaError: there are other numbers of folders.
    """
    count = len(manifests)
    if len(caches) not in (1, count):
        raise MfhcaError(
            f"{len(caches)} caches for {count} manifests; pass one --cache for all, or one for each, in order"
        )
    if len(roots) not in (0, count):
        raise MfhcaError(
            f"{len(roots)} folders of audio for {count} manifests; pass one --root for each, in order, or none"
        )
    folders: list[Path | None] = [*roots] or [None] * count
    caches = [*caches] * (count if len(caches) == 1 else 1)
    first, *others = map(Source, manifests, caches, folders)
    named = {"manifest": first.manifest, "cache": first.cache, "root": first.root}
    return {**named, "others": tuple(others), "class_map": class_map}


def read_labels(request: Request) -> LabelledCorpus:
    """The manifest, or manifests, with the label set asked for.

    Raises:
        MfhcaError: see `labelled.read_corpora`.
    """
    labelled = read_corpora(request.sources, request.label_set, request.class_map, request.accept_copies)
    for part in labelled.parts:
        part.manifest.warn(part.label_set)
    return labelled


def with_precision(request: Request, config: Config) -> Config:
    """The settings with `train.precision=auto` replaced by what the run's device, or a worker of its cluster, has.

    Raises:
        MfhcaError: the device or the cluster is not available.
    """
    if config.train.precision != "auto":
        return config
    precision = queue.fastest_precision(request.device, request.cluster)
    return with_settings(config, {"train.precision": precision})


def make_plan(request: Request, labelled: LabelledCorpus, row: Row, corpus: Corpus) -> Plan:
    """A row's identity and units.

    Args:
        request: the run folder, threads and device.
        labelled: manifest and label set.
        row: what is trained.
        corpus: the open features of `row.recipes`.

    Raises:
        MfhcaError: the row would train on its test speakers, or cannot normalise each corpus by its training speakers.
    """
    if row.config.train.refit and row.protocol in ORACLES:
        raise MfhcaError(
            f"train.refit would train on the test speakers with protocol {row.protocol}; remove it"
        )
    if row.config.normalises_per("corpus"):
        check_corpora(labelled, row.protocol, row.selected_folds)
    identity = _identity(request, labelled, row, corpus)
    digest = sha256_text(canonical_json(identity))
    units = [
        Unit(
            manifest=request.manifest,
            recipes={side: recipe.path for side, recipe in row.recipes.items()},
            label_set=request.label_set,
            config=row.config,
            fold=fold,
            seed=seed,
            folder=unit_folder(request.out, row.name, seed, fold.id),
            threads=request.threads,
            device=request.device,
            identity=digest,
            label_digest=identity["label_digest"],
            shard_stats={str(shard.path): shard.stat for shard in corpus.shards},
            row=row.name,
            others=request.others,
            class_map=request.class_map,
        )
        for seed in row.seeds
        for fold in row.selected_folds
    ]
    return Plan(row, identity, digest, tuple(units))


def _identity(request: Request, labelled: LabelledCorpus, row: Row, corpus: Corpus) -> dict[str, Any]:
    """What decides a row's results: the deciding part of run.json."""
    folds = [
        [f.id, f.validation, f.test, len(f.train), *([] if f.utterances is None else [f.utterances])]
        for f in row.folds
    ]
    parts = labelled.parts if labelled.is_several else ()
    corpora = {p.name: {"label_set": p.label_set.name, "classes": dict(p.classes)} for p in parts}
    identity: dict[str, Any] = {
        "format": RUN_FORMAT,
        "corpus": labelled.name,
        "label_set": labelled.label_set.name,
        **({"corpora": corpora} if corpora else {}),
        "classes": list(corpus.classes),
        "protocol": row.protocol,
        "config": row.config.to_dict(),
        "recipes": {side: recipe.key for side, recipe in row.recipes.items()},
        "data_digest": corpus.digest(),
        "features_digest": corpus.features_digest(),
        "label_digest": corpus.label_digest(),
        "folds_digest": sha256_text(canonical_json(folds)),
        "threads": request.threads,
    }
    if row.candidates:
        del identity["config"]["train"]["lr"]  # the one setting in which the candidates differ
        identity["chosen_from"] = {
            candidate.name: sha256_text(canonical_json(_identity(request, labelled, candidate, corpus)))
            for candidate in row.candidates
        }
    return identity if row.kind == NETWORK else identity | {"kind": row.kind}


def select_folds(folds: Sequence[Fold], names: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of these names, or all if no name is given.

    Raises:
        MfhcaError: a name is unknown.
    """
    known = {fold.id: fold for fold in folds}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MfhcaError(f"no fold is called {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
    return tuple(fold for fold in folds if not names or fold.id in names)


def check(request: Request, labelled: LabelledCorpus, protocols: Sequence[str]) -> None:
    """Refuses a label set of one class, a run inside the cache, and settings that none of the protocols reads.

    Raises:
        MfhcaError: it names the label set, folder or setting.
    """
    if request.out.resolve().is_relative_to(request.cache.resolve()):
        raise MfhcaError(
            f"{request.out}: is inside the cache {request.cache}; choose another --out (or RUN=)"
        )
    if len(labelled.label_set.classes) < 2:
        raise MfhcaError(
            f"{labelled.manifests}: label set {labelled.label_set.name} has only one class; classification "
            "needs at least two"
        )
    given, default, names = request.config.train, TrainConfig(), ", ".join(protocols)
    if "group-k" not in protocols and given.groups != default.groups:
        raise MfhcaError(f"train.groups would be ignored by protocol {names}; remove it")
    if (
        not {"strict", "oracle-matched", "column", "corpus"} & set(protocols)
        and given.validation_speakers != default.validation_speakers
    ):
        raise MfhcaError(f"train.validation_speakers would be ignored by protocol {names}; remove it")
    if "column" not in protocols and given.shared_speakers:
        raise MfhcaError(f"train.shared_speakers would be ignored by protocol {names}; remove it")
