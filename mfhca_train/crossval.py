"""A cross-validation run: its folder, its identity, its results. Who trains its units is in `pool`.

    runs/<name>/run.json                              what decides the results
    runs/<name>/<row>/seed-<n>/fold-<id>/             one finished unit (see fit.py)
    runs/<name>/results.json, report.html

Every unit is trained at most once; a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.cluster import Cluster
from mfhca_cache.errors import MfhcaError, listing
from mfhca_cache.files import canonical_json, lock, read_json, sha256_text, write_json
from mfhca_cache.manifest import LabelSet, Manifest, Utterance, read_manifest
from mfhca_train import machine, pool
from mfhca_train.config import Config, TrainConfig
from mfhca_train.data import Corpus, choose_recipes
from mfhca_train.folds import Fold, make_folds
from mfhca_train.results import (
    ROW,
    check_predictions,
    read_predictions,
    read_result,
    summarise,
    unit_folder,
)
from mfhca_train.unit import Unit, label_digest

RUN_FORMAT = 1


@dataclass(frozen=True)
class Request:
    """What the user asks of `cv`, resolved."""

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


def cross_validate(request: Request) -> dict[str, Any]:
    """Runs what is left of a cross-validation, and writes results.json and report.html.

    Returns:
        The content of results.json.

    Raises:
        MfhcaError: the cache does not fit the manifest, the run folder holds another run, a unit failed.
    """
    manifest = read_manifest(request.manifest)
    label_set = manifest.label_set(request.label_set)
    utterances = manifest.select(label_set)
    folds = make_folds(utterances, request.protocol, request.config.train)
    chosen = _chosen(folds, request.folds)
    _check(request, label_set)
    recipes = choose_recipes(request.cache, request.config.model.inputs, request.spec, request.ssl)
    with lock(request.out / ".lock", f"{request.out}: this run"):
        with Corpus(recipes, utterances, label_set) as corpus:
            keys = {side: recipe.key for side, recipe in recipes.items()}
            identity = _identity(request, manifest, label_set.name, corpus, keys, folds)
            _refuse_another(request, identity)
            digest = sha256_text(canonical_json(identity))
            units = [
                Unit(
                    request.manifest,
                    {side: recipe.path for side, recipe in recipes.items()},
                    label_set.name,
                    request.config,
                    fold,
                    seed,
                    unit_folder(request.out, ROW, seed, fold.id),
                    request.threads,
                    request.device,
                    digest,
                    identity["label_digest"],
                    {str(shard.path): shard.stat for shard in corpus.shards},
                )
                for seed in request.seeds
                for fold in chosen
            ]
            unfinished = [unit for unit in units if not unit.finished]
            here = _claim(request, identity, bool(unfinished))
            if unfinished:
                corpus.verify()
        pool.train(unfinished, request.jobs, request.cluster, here)
        grid = _finished(request, folds, chosen)
        results = aggregate(request, grid, digest, utterances, label_set.classes, len(folds), identity)
        write_json(request.out / "results.json", results)
        from mfhca_train.report import write_report

        write_report(request.out)
    return results


def _chosen(folds: Sequence[Fold], names: Sequence[str]) -> list[Fold]:
    known = {fold.id: fold for fold in folds}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise MfhcaError(f"no fold is called {unknown[0]!r}; there are: {', '.join(known)}")
    return [fold for fold in folds if not names or fold.id in names]


def _check(request: Request, label_set: LabelSet) -> None:
    """Refuses what cannot be scored, and settings that the protocol would ignore."""
    if len(label_set.classes) < 2:
        raise MfhcaError(
            f"{request.manifest}: label set {label_set.name} has one class only; nothing can be told apart"
        )
    given, default = request.config.train, TrainConfig()
    if request.protocol != "group-k" and given.groups != default.groups:
        raise MfhcaError(f"train.groups would be ignored by protocol {request.protocol}; leave it out")
    if (
        request.protocol not in ("strict", "oracle-matched")
        and given.validation_speakers != default.validation_speakers
    ):
        raise MfhcaError(
            f"train.validation_speakers would be ignored by protocol {request.protocol}; leave it out"
        )


def _finished(request: Request, folds: Sequence[Fold], chosen: Sequence[Fold]) -> list[Path]:
    """Folders of all finished units that make a full grid of seeds and folds with those asked for."""

    def done(seed: int, fold: Fold) -> bool:
        return (unit_folder(request.out, ROW, seed, fold.id) / "result.json").exists()

    names = {fold.id for fold in chosen}
    kept = [f for f in folds if f.id in names or all(done(seed, f) for seed in request.seeds)]
    there = [
        int(p.name.removeprefix("seed-")) for p in (request.out / ROW).glob("seed-*") if p.name[5:].isdigit()
    ]
    seeds = [
        s for s in sorted({*there, *request.seeds}) if s in request.seeds or all(done(s, f) for f in kept)
    ]
    return [unit_folder(request.out, ROW, seed, fold.id) for seed in seeds for fold in kept]


def _identity(
    request: Request,
    manifest: Manifest,
    label_set: str,
    corpus: Corpus,
    keys: dict[str, str],
    folds: Sequence[Fold],
) -> dict[str, Any]:
    """Everything that decides the results, without paths, so that equal runs have equal files."""
    return {
        "format": RUN_FORMAT,
        "corpus": manifest.card.name if manifest.card else manifest.path.stem,
        "label_set": label_set,
        "classes": list(corpus.classes),
        "protocol": request.protocol,
        "config": request.config.to_dict(),
        "recipes": keys,
        "data_digest": corpus.digest(),
        "label_digest": label_digest(corpus),
        "folds_digest": sha256_text(
            canonical_json([[f.id, f.validation, f.test, len(f.train)] for f in folds])
        ),
        "threads": request.threads,
    }


def _refuse_another(request: Request, identity: dict[str, Any]) -> None:
    """Checks that a run which is already in the folder is the same one."""
    out = request.out
    path = out / "run.json"
    if not path.exists():
        return
    differing = list(_differences(read_json(path), identity))
    trained = any(any((out / ROW).glob(f"seed-*/{p}")) for p in ("fold-*", ".fold-*/checkpoint.safetensors"))
    if differing and not trained:  # it failed before the end of its first epoch
        path.unlink()
    elif differing:
        raise MfhcaError(
            f"{out} holds another run; choose another --out (or RUN=), or delete it. "
            f"It differs in:\n{listing(differing)}"
        )


def _claim(request: Request, identity: dict[str, Any], to_train: bool) -> dict[str, Any]:
    """Writes run.json, or compares where it was begun with where it would go on; the latter is returned."""
    out, cluster = request.out, request.cluster if to_train else None
    path = out / "run.json"
    if not path.exists():
        here = pool.surroundings(request.device, cluster)
        write_json(path, identity | here)
        return here
    there = read_json(path)
    here = pool.surroundings(request.device, cluster) if to_train else {"versions": machine.versions()}
    changed = [
        f"{name} {there.get('versions', {}).get(name)} there, {version} here"
        for name, version in here["versions"].items()
        if there.get("versions", {}).get(name) != version
    ]
    if changed:
        _warn(
            f"{out} was begun with other versions ({'; '.join(changed)}); last digits may differ",
        )
    if not to_train:
        return here
    if there.get("device") != here["device"]:
        raise MfhcaError(
            f"{out} was begun on {there.get('device')}, this is {here['device']}; "
            "pass --device or choose another --out"
        )
    if there.get("cpu") != here["cpu"]:
        _warn(f"{out} was begun on {there.get('cpu')}, this is {here['cpu']}; last digits may differ")
    return here


def _warn(text: str) -> None:
    import click

    click.echo(f"warning: {text}", err=True)


def _differences(there: Any, here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in here.items():
        other = there.get(key) if isinstance(there, dict) else None
        if isinstance(value, dict):
            yield from _differences(other or {}, value, f"{prefix}{key}.")
        elif other != value:
            yield f"{prefix}{key}: {other} there, {value} here"


def aggregate(
    request: Request,
    units: Sequence[Path],
    digest: str,
    utterances: Sequence[Utterance],
    classes: Sequence[str],
    folds_in_all: int,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """results.json from the folders of finished units."""
    found = [read_result(folder, digest) for folder in units]
    predictions = [read_predictions(folder) for folder in units]
    for folder, result, rows in zip(units, found, predictions, strict=True):
        check_predictions(folder, result, rows, classes)
    summary = summarise(found, predictions, utterances, classes, request.protocol, folds_in_all)
    head = {key: identity[key] for key in ("corpus", "label_set", "recipes", "config", "threads")}
    return head | summary
