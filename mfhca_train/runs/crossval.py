"""A cross-validation run: the one-row case of what an ablation does. Who trains its units is in `pool`.

    runs/<name>/run.json                              what decides the results
    runs/<name>/<row>/seed-<n>/fold-<id>/             one finished unit (see fit.py)
    runs/<name>/results.json, report.html, report.md
    runs/<name>/data.csv                              which audio, speaker and class each utterance had
    runs/<name>/log.txt                               what happened when; alone holds times, no result depends on it

Every unit is trained at most once; a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_cache.common.typed import plain
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.results.checksums import write_sealed
from mfhca_train.results.published import comparable, read_published
from mfhca_train.results.schema import CV_ROW, RUN_FILE
from mfhca_train.results.summary import head, read_units, summarise
from mfhca_train.runs import analysis, data_csv, folder
from mfhca_train.runs.plan import (
    RUN_FORMAT,
    Corpora,
    Request,
    Row,
    check,
    choose_folds,
    finished_folders,
    folds_of,
    plan,
    read_ground,
    recipe_names,
)
from mfhca_train.training import queue

__all__ = ["RUN_FORMAT", "Request", "aggregate", "cross_validate"]


def cross_validate(request: Request) -> dict[str, Any]:
    """Runs what is left of a cross-validation, and writes results.json, report.html and report.md.

    Returns:
        The content of results.json.

    Raises:
        MfhcaError: the cache does not fit the manifest, the run folder holds another run, a unit failed.
    """
    with log.phase(f"reading {request.manifest} and making folds"):
        ground = read_ground(request)
        published = read_published(request.manifest)
        folds = folds_of(ground, request.protocol, request.config)
    chosen = choose_folds(folds, request.folds)
    check(request, ground, [request.protocol])
    model = request.config.model
    recipes = choose_recipes(
        request.cache, model.inputs, request.spec, request.ssl, model.mfcc, model.ssl_layer
    )
    row = Row(CV_ROW, request.config, request.protocol, request.seeds, folds, chosen, recipes)
    with lock(request.out / ".lock", f"{request.out}: this run"), log.to(request.out / log.FILE):
        with Corpora(ground) as corpora:
            with log.phase("opening the features"):
                planned = plan(request, ground, row, corpora.of(recipes))
            _refuse_another(request, planned.identity, corpora.of(recipes))
            about = {
                **planned.identity,
                "recipe_names": recipe_names([row]),
                data_csv.DATA_DIGEST: data_csv.write(request.out, corpora.of(recipes)),
            }
            here = folder.claim(request.out, about, request.device, request.cluster, bool(planned.unfinished))
            log.LOG.debug("units: %d, of them unfinished: %d", len(planned.units), len(planned.unfinished))
            if planned.unfinished:
                with log.phase("verifying the shards"):
                    corpora.verify([row])
        with log.phase("training"):
            queue.train(planned.unfinished, request.jobs, request.cluster, here)
        finished = finished_folders(request.out, row)
        classes = ground.label_set.classes
        with log.phase("results.json"):
            results = aggregate(
                request, finished, planned.digest, ground.utterances, classes, len(folds), planned.identity
            )
            results["yardsticks"] = plain(
                comparable(published.scores, results["corpus"], results["label_set"])
            )
            write_sealed(request.out / "results.json", results)
        if request.analysis:
            with log.phase("analysis"):
                analysis.analyse(request, [planned], ground)
        with log.phase("report.html"):
            from mfhca_train.report.page import write_report

            write_report(request.out)
    return results


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
    files = read_units(units, digest, classes)
    return head(identity) | summarise(files, utterances, classes, request.protocol, folds_in_all)


def _refuse_another(request: Request, identity: Any, corpus: Corpus) -> None:
    """Checks that a run which is already in the folder is the same one."""
    there = folder.read_about(request.out)
    if "rows" in there:
        raise MfhcaError(f"{request.out} holds an ablation; choose another --out (or RUN=)")
    if there and not folder.refuse_another(request.out, CV_ROW, there, identity, corpus):
        (request.out / RUN_FILE).unlink()
        (request.out / data_csv.FILE).unlink(missing_ok=True)
