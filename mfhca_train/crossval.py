"""A cross-validation run: its folder, its units, the workers that train them, its results.

    runs/<name>/run.json                              what decides the results
    runs/<name>/<row>/seed-<n>/fold-<id>/             one finished unit (see fit.py)
    runs/<name>/results.json, report.html

Every unit is trained at most once; a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.console import progress
from mfhca_cache.errors import MfhcaError, listing
from mfhca_cache.files import lock, read_json, write_json
from mfhca_cache.manifest import Manifest, Utterance, read_manifest
from mfhca_train import machine
from mfhca_train.config import Config
from mfhca_train.data import Corpus, choose_recipes
from mfhca_train.folds import Fold, make_folds
from mfhca_train.results import ROW, read_predictions, summarise, unit_folder

RUN_FORMAT = 1
ATTEMPTS = 3  # of the worker pool: a worker that is killed takes the whole pool with it


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


@dataclass(frozen=True)
class Unit:
    """One fold with one seed: all that a worker needs, and nothing that is large."""

    manifest: Path
    recipes: Mapping[str, Path]
    label_set: str
    config: Config
    fold: Fold
    seed: int
    folder: Path
    threads: int
    device: str
    stats: Mapping[str, tuple[int, int, int]]  # shards as the parent verified them


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
    recipes = choose_recipes(request.cache, request.config.model.inputs, request.spec, request.ssl)
    with lock(request.out / ".lock", f"{request.out}: this run"):
        with Corpus(recipes, utterances, label_set) as corpus:
            identity = _identity(
                request, manifest, label_set.name, corpus, {s: r.key for s, r in recipes.items()}
            )
            _claim(request, identity)
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
                    {str(shard.path): shard.stat for shard in corpus.shards},
                )
                for seed in request.seeds
                for fold in chosen
            ]
            unfinished = [unit for unit in units if not (unit.folder / "result.json").exists()]
            if unfinished:
                corpus.verify()
        train(unfinished, request.jobs)
        results = aggregate(request, units, utterances, label_set.classes, len(folds), identity)
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


def _identity(
    request: Request, manifest: Manifest, label_set: str, corpus: Corpus, keys: dict[str, str]
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
        "label_digest": _label_digest(corpus),
        "threads": request.threads,
    }


def _label_digest(corpus: Corpus) -> str:
    """Identity of who says what with which label, in the order of the manifest."""
    from mfhca_cache.files import canonical_json, sha256_text

    rows = [
        [u.utterance, u.speaker, u.session, corpus.classes[label]]
        for u, label in zip(corpus.utterances, corpus.labels, strict=True)
    ]
    return sha256_text(canonical_json(rows))


def _claim(request: Request, identity: dict[str, Any]) -> None:
    """Writes run.json, or checks that the folder's run is the same one."""
    out = request.out
    path = out / "run.json"
    if not path.exists():
        here = {"cpu": machine.cpu_type(), "device": machine.resolve_device(request.device)}
        write_json(path, identity | {"versions": machine.versions()} | here)
        return
    there = read_json(path)
    differing = list(_differences(there, identity))
    if differing:
        raise MfhcaError(
            f"{out} holds another run; choose another --out (or RUN=), or delete it. "
            f"It differs in:\n{listing(differing)}"
        )
    changed = [
        f"{name} {there['versions'].get(name)} there, {version} here"
        for name, version in machine.versions().items()
        if there.get("versions", {}).get(name) != version
    ]
    if changed:
        import click

        click.echo(
            f"warning: {out} was begun with other versions ({'; '.join(changed)}); last digits may differ",
            err=True,
        )


def _differences(there: Any, here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in here.items():
        other = there.get(key) if isinstance(there, dict) else None
        if isinstance(value, dict):
            yield from _differences(other or {}, value, f"{prefix}{key}.")
        elif other != value:
            yield f"{prefix}{key}: {other} there, {value} here"


def train(units: Sequence[Unit], jobs: int | None) -> None:
    """Trains units side by side, each in a process of its own unless there is only one job.

    Raises:
        MfhcaError: a unit failed; what is finished stays.
    """
    if not units:
        return
    jobs = min(len(units), jobs or max(1, machine.cores() // units[0].threads))
    with progress(len(units), "fold", "training") as bar:
        if jobs == 1:
            for unit in units:
                run_unit(unit, bar)
                bar.update()
            return
        _train_in_pool(list(units), jobs, bar)


def _train_in_pool(units: list[Unit], jobs: int, bar: Any) -> None:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    left = units
    for _ in range(ATTEMPTS):
        pool = Parallel(
            n_jobs=jobs, backend="loky", return_as="generator_unordered", batch_size=1, pre_dispatch=jobs
        )
        try:
            for _ in pool(delayed(_run_in_worker)(unit, os.getpid()) for unit in left):
                bar.update()
            return
        except TerminatedWorkerError:
            left = [unit for unit in left if not (unit.folder / "result.json").exists()]
        finally:
            get_reusable_executor().shutdown(wait=True, kill_workers=True)
    names = ", ".join(f"fold {unit.fold.id} seed {unit.seed}" for unit in left)
    raise MfhcaError(
        f"workers were killed {ATTEMPTS} times (out of memory?) while these were left: {names}; "
        "run again with fewer --jobs"
    )


def _run_in_worker(unit: Unit, parent: int) -> None:
    machine.die_with(parent)
    run_unit(unit)


def run_unit(unit: Unit, bar: Any = None) -> None:
    """Trains one unit in this process."""
    machine.prepare_process(unit.threads)
    from mfhca_cache.recipe import read_recipe
    from mfhca_train.fit import fit

    manifest = read_manifest(unit.manifest)
    label_set = manifest.label_set(unit.label_set)
    recipes = {side: read_recipe(path) for side, path in unit.recipes.items()}

    def show(row: Mapping[str, float]) -> None:
        bar.set_postfix_str(
            f"fold {unit.fold.id} epoch {row['epoch']}: validation WA {row['validation_wa']:.3f}"
        )

    with Corpus(recipes, manifest.select(label_set), label_set) as corpus:
        corpus.expect_unchanged(unit.stats)
        device = machine.resolve_device(unit.device)
        fit(corpus, unit.fold, unit.seed, unit.config, unit.folder, device, show if bar is not None else None)


def aggregate(
    request: Request,
    units: Sequence[Unit],
    utterances: Sequence[Utterance],
    classes: Sequence[str],
    folds_in_all: int,
    identity: Mapping[str, Any],
) -> dict[str, Any]:
    """results.json from the finished units."""
    found = [read_json(unit.folder / "result.json") for unit in units]
    predictions = [read_predictions(unit.folder) for unit in units]
    summary = summarise(found, predictions, utterances, classes, request.protocol, folds_in_all)
    head = {key: identity[key] for key in ("corpus", "label_set", "recipes", "config", "threads")}
    return head | summary
