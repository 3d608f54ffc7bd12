"""The analysis of a run's networks, at the end of `cv` and `ablate`."""

from __future__ import annotations

from collections.abc import Sequence

from mfhca_train.analysis.analyse import analyse_rows
from mfhca_train.analysis.selection import TrainedRow
from mfhca_train.data.labelled import LabelledCorpus
from mfhca_train.results.schema import NETWORK, RESULT_FILE, unit_folder
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.folder import finished_folders
from mfhca_train.runs.plan import Plan, Request


def analyse(
    request: Request, plans: Sequence[Plan], labelled: LabelledCorpus, reference: str | None = None
) -> list[str]:
    """Computes missing and outdated analyses of a run's rows.

    Args:
        request: run folder and device.
        plans: the rows of the run.
        labelled: manifests, label set and folders of the audio.
        reference: the row whose scores select what the figures show; by default the first.

    Returns:
        The names of the rows that were analysed.
    """
    rows = [_trained_row(request, plan) for plan in plans if plan.row.kind == NETWORK]
    with OpenFeatures(labelled) as features:
        classes = labelled.label_set.classes
        return analyse_rows(
            request.out, rows, classes, features.of, request.device, reference, labelled.roots
        )


def _trained_row(request: Request, plan: Plan) -> TrainedRow:
    """A row with its finished units of the first seed."""
    row = plan.row
    folders = [folder for folder in finished_folders(request.out, row) if (folder / RESULT_FILE).exists()]
    seed = int(folders[0].parent.name.removeprefix("seed-")) if folders else row.seeds[0]
    units = [(fold, unit_folder(request.out, row.name, seed, fold.id)) for fold in row.folds]
    return TrainedRow(
        name=row.name,
        config=row.config,
        protocol=row.protocol,
        recipes=row.recipes,
        identity=plan.digest,
        threads=request.threads,
        seed=seed,
        units=tuple((fold, folder) for fold, folder in units if folder in folders),
    )
