"""The Python functions that train: each does what a command does, with the same defaults.

Notes are logged by the logger "mfhca", progress bars go to standard error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfhca_cache.common.cluster import Cluster
from mfhca_cache.common.errors import MfhcaError, require_positive
from mfhca_cache.common.hardware import DEVICES
from mfhca_train.config.defaults import ABLATION_SEEDS, PROTOCOL, SEEDS, THREADS
from mfhca_train.config.settings import Config
from mfhca_train.config.sources import log_settings, resolve
from mfhca_train.data.class_map import ClassMap, read_class_map
from mfhca_train.interface.run import Run, load_run
from mfhca_train.runs import ablation, crossval
from mfhca_train.runs.grid import find_grid, read_grid
from mfhca_train.runs.plan import Request, files_of
from mfhca_train.training.epochs import OnEpoch

Paths = str | Path | Sequence[str | Path]


def cross_validate(
    manifest: Paths,
    cache: Paths,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | Config | None = None,
    preset: str | None = None,
    config_file: str | Path | None = None,
    protocol: str = PROTOCOL,
    label_set: str | None = None,
    spec: str | None = None,
    ssl: str | None = None,
    folds: str | Sequence[str] = (),
    seeds: int | Sequence[int] = SEEDS,
    threads: int = THREADS,
    jobs: int | None = None,
    device: str = DEVICES[0],
    analysis: bool = True,
    root: Paths | None = None,
    class_map: str | Path | ClassMap | None = None,
    accept_copies: bool = False,
    accept_untrained: bool = False,
    track: str | Sequence[str] = (),
    cluster: Cluster | None = None,
    on_epoch: OnEpoch | Sequence[OnEpoch] = (),
) -> Run:
    """Trains, selects and tests every fold, as `mfhca-train cv` does; after an interruption it resumes.

    Args:
        manifest: the CSV file; of several corpora a list.
        cache: the cache folder with its features; of several corpora one folder for all, or one for each.
        out: the run folder; it gets results.json and report.html.
        settings: by dotted name, as of --set, e.g. {"model.hca": "channel", "train.lr": 1e-4}; they win over the corpus
            card's. A `Config` replaces all other sources.
        preset: "paper", "released" or "small": a complete set of settings instead of the corpus card's. By default the
            card's; without a card, small below 2,000 utterances.
        config_file: a TOML file with settings, which those of `settings` win over.
        protocol: how speakers are divided into training, validation and test; docs/protocols.md has the names.
        label_set: a mapping from labels to classes; by default the corpus card's. Of several corpora one name for all,
            or "emodb=seven,mine=all".
        spec, ssl: beginning of the name of a recipe, if the cache has several spectrograms or encoders.
        folds: ids of the folds to train; by default all.
        seeds: how many seeds (0, 1, ...), or the seeds themselves.
        threads: per fold; the last digits depend on it.
        jobs: folds trained in parallel, by default as many as cores and memory allow. More than one start processes.
        device: "auto", "cpu", "cuda" or "mps".
        analysis: whether to analyse features and attention of the trained networks for the report.
        root: the folder of the audio, to show waveforms in the report; of several corpora one for each.
        class_map: of several corpora, what class of the run each class of a corpus becomes, "" to leave it out:
            {"emodb": {"boredom": ""}, "mine": {"joy": "happiness"}}, or a TOML file.
        accept_copies: accept identical recordings under several speakers.
        accept_untrained: accept folds that test a class which no training speaker has.
        track: "tensorboard", "mlflow" or both: trackers that also get every epoch; see docs/tracking.md.
        cluster: a Dask cluster; None for this machine.
        on_epoch: a function, or several, called with an `Epoch` after every epoch of every network, in this process,
            also if folds are trained in parallel. What it raises ends the training; nothing it does changes a result.

    Returns:
        The finished run, as `load_run` reads it.

    Raises:
        MfhcaError: an argument, setting or file is wrong, the run folder holds another run, or a fold failed.
    """
    resolved = _settings(manifest, settings, preset, config_file)
    request = _request(
        manifest,
        cache,
        out,
        **resolved,
        protocol=protocol,
        label_set=label_set,
        spec=spec,
        ssl=ssl,
        folds=folds,
        seeds=seeds,
        threads=threads,
        jobs=jobs,
        device=device,
        cluster=cluster,
        analysis=analysis,
        root=root,
        class_map=class_map,
        accept_copies=accept_copies,
        accept_untrained=accept_untrained,
        track=_names(track),
        on_epoch=on_epoch,
    )
    crossval.cross_validate(request)
    return load_run(out)


def ablate(
    grid: str | Path,
    manifest: Paths,
    cache: Paths,
    out: str | Path,
    *,
    rows: str | Sequence[str] = (),
    skip_missing: bool = False,
    settings: Mapping[str, Any] | Config | None = None,
    preset: str | None = None,
    config_file: str | Path | None = None,
    protocol: str | None = None,
    label_set: str | None = None,
    spec: str | None = None,
    ssl: str | None = None,
    folds: str | Sequence[str] = (),
    seeds: int | Sequence[int] = ABLATION_SEEDS,
    threads: int = THREADS,
    jobs: int | None = None,
    device: str = DEVICES[0],
    analysis: bool = True,
    root: Paths | None = None,
    class_map: str | Path | ClassMap | None = None,
    accept_copies: bool = False,
    accept_untrained: bool = False,
    track: str | Sequence[str] = (),
    cluster: Cluster | None = None,
    on_epoch: OnEpoch | Sequence[OnEpoch] = (),
) -> Run:
    """Trains the rows of a grid and tests them against its reference row, as `mfhca-train ablate` does.

    Args:
        grid: a grid file, or the name of one of the project's own, e.g. "table2".
        manifest, cache, out: as for `cross_validate`.
        rows: names of the rows to train; by default all.
        skip_missing: leave out rows whose features are not in the cache, instead of refusing.
        settings, preset, config_file: as for `cross_validate`; the settings of a row win over them.
        protocol: by default the grid's, else strict; see `cross_validate`.
        label_set, spec, ssl, folds, seeds, threads, jobs, device, analysis, root: as for `cross_validate`.
        class_map, accept_copies, accept_untrained, track, cluster, on_epoch: as for `cross_validate`.

    Returns:
        The finished run, as `load_run` reads it; `run["mf"]` is its row "mf".

    Raises:
        MfhcaError: an argument, setting or file is wrong, a row cannot be trained, or a fold failed.
    """
    found = read_grid(find_grid(Path(grid)))
    resolved = _settings(manifest, settings, preset, config_file, found.base.settings)
    request = _request(
        manifest,
        cache,
        out,
        **resolved,
        protocol=protocol or found.base.protocol or PROTOCOL,
        label_set=label_set,
        spec=spec,
        ssl=ssl,
        folds=folds,
        seeds=seeds,
        threads=threads,
        jobs=jobs,
        device=device,
        cluster=cluster,
        analysis=analysis,
        root=root,
        class_map=class_map,
        accept_copies=accept_copies,
        accept_untrained=accept_untrained,
        track=_names(track),
        on_epoch=on_epoch,
    )
    ablation.ablate(request, found, _names(rows), skip_missing)
    return load_run(out)


def _settings(
    manifest: Paths,
    settings: Mapping[str, Any] | Config | None,
    preset: str | None,
    config_file: str | Path | None,
    base: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields `config` and `default_preset` of a request, from all sources of settings."""
    if isinstance(settings, Config):
        if preset is not None or config_file is not None:
            raise MfhcaError("a Config has all settings; pass preset and config_file without it, or neither")
        return {"config": settings}
    file = None if config_file is None else Path(config_file)
    resolved = resolve(_paths(manifest), base, file, tuple((settings or {}).items()), preset)
    log_settings(resolved)
    return {"config": resolved.config, "default_preset": resolved.default_preset}


def _paths(paths: Paths | None) -> tuple[Path, ...]:
    if paths is None:
        return ()
    return (Path(paths),) if isinstance(paths, (str, Path)) else tuple(map(Path, paths))


def _class_map(given: str | Path | ClassMap | None) -> ClassMap:
    return read_class_map([str(given)]) if isinstance(given, (str, Path)) else given or {}


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _request(
    manifest: Paths,
    cache: Paths,
    out: str | Path,
    *,
    folds: str | Sequence[str],
    seeds: int | Sequence[int],
    threads: int,
    jobs: int | None,
    root: Paths | None,
    class_map: str | Path | ClassMap | None,
    cluster: Cluster | None,
    on_epoch: OnEpoch | Sequence[OnEpoch],
    **others: Any,
) -> Request:
    """The arguments in the form of a request.

    Raises:
        MfhcaError: a number is too small, or there is no seed.
    """
    require_positive(threads=threads, jobs=jobs)
    if jobs is not None and cluster is not None:
        raise MfhcaError("jobs cannot be used with a cluster, which trains one fold per worker; leave it out")
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise MfhcaError(f"seeds is {seeds!r}; expected a number of at least 1, or a list of seeds")
    return Request(
        **files_of(_paths(manifest), _paths(cache), _paths(root), _class_map(class_map)),
        out=Path(out),
        folds=_names(folds),
        seeds=chosen,
        threads=threads,
        jobs=jobs,
        cluster=cluster,
        on_epoch=(on_epoch,) if callable(on_epoch) else tuple(on_epoch),
        **others,
    )
