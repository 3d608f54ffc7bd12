"""A cross-validation: a run of one row. Training and writing are shared with ablations, see `execute`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfhca_cache.common.progress import phase
from mfhca_cache.common.typed import plain
from mfhca_train.data.folds import make_folds
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.results.published import comparable, encoders_of, read_published
from mfhca_train.results.schema import CV_ROW
from mfhca_train.results.summary import head, read_units, summarise
from mfhca_train.runs.execute import execute
from mfhca_train.runs.folder import finished_folders
from mfhca_train.runs.plan import Plan, Request, Row, check, read_labels, select_folds, with_precision

__all__ = ["Request", "cross_validate"]


def cross_validate(request: Request) -> dict[str, Any]:
    """Trains what is unfinished of a cross-validation; writes results.json, report.html and report.md.

    Returns:
        The content of results.json.

    Raises:
        MfhcaError: the features do not fit the manifest, the run folder holds another run, or a unit failed.
    """
    labelled, row = plan_row(request)
    published = read_published(request.manifest)

    def results(plans: Mapping[str, Plan]) -> dict[str, Any]:
        plan = plans[CV_ROW]
        classes = labelled.label_set.classes
        units = read_units(finished_folders(request.out, row), plan.digest, classes)
        summary = summarise(units, labelled.utterances, classes, request.protocol, len(row.folds))
        summary = head(plan.identity) | summary
        used = encoders_of([row.recipes])
        scores = comparable(published.scores, summary["corpus"], summary["label_set"], used)
        note = {"default_preset": request.default_preset} if request.default_preset else {}
        return summary | note | {"yardsticks": plain(scores)}

    return execute(request, labelled, [row], results)


def plan_row(request: Request) -> tuple[LabelledCorpus, Row]:
    """The labelled corpus and the one row of a cross-validation.

    Raises:
        MfhcaError: the manifest cannot be read, or the request does not fit it or the cache.
    """
    with phase(f"reading {' and '.join(str(s.manifest) for s in request.sources)} and making folds"):
        labelled = read_labels(request)
        folds = make_folds(labelled.utterances, request.protocol, request.config.train)
    selected = select_folds(folds, request.folds)
    check(request, labelled, [request.protocol])
    model = request.config.model
    recipes = choose_recipes(
        request.cache, model.inputs, request.spec, request.ssl, model.mfcc, model.ssl_layer
    )
    config = with_precision(request, request.config)
    return labelled, Row(CV_ROW, config, request.protocol, request.seeds, folds, selected, recipes)
