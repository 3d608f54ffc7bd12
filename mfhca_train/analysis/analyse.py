"""Analyses the trained networks of a run's rows: what their features look like and what they attend to.

The networks of the first seed are analysed. Only missing, outdated or damaged analyses are computed; this
module decides which, and does not import torch until there is one. The computation is in `measure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mfhca_cache.common.progress import progress
from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_train.analysis.selection import Selection, TrainedRow, applies_to, select
from mfhca_train.analysis.stored import FILE, FORMAT, Analysis, Source, read_summary, source_of, write
from mfhca_train.data.corpus import Corpus


def analyse_rows(
    out: Path,
    rows: Sequence[TrainedRow],
    classes: Sequence[str],
    open_features: Callable[[Mapping[str, RecipeFolder]], Corpus],
    device: str,
    reference: str | None = None,
    roots: Mapping[str, Path] | None = None,
) -> list[str]:
    """Computes the analyses that are missing, outdated or damaged.

    Args:
        out: the run folder.
        rows: its rows of networks.
        classes: K names, in order.
        open_features: opens the features of some recipes.
        device: auto, cpu, cuda or mps.
        reference: the row whose scores select fold and examples; by default the first.
        roots: folders of the audio by corpus ("" if there is one), for waveforms; without any, stored ones are kept
            and no new ones computed.

    Returns:
        The names of the rows that were analysed.

    Raises:
        MfhcaError: a unit is damaged, or features are missing.
    """
    rows = [row for row in rows if row.units]
    if not rows:
        return []
    first = next((row for row in rows if row.name == reference), rows[0])
    common = select(first.folders, classes, first.name)
    todo: list[tuple[TrainedRow, Selection, Source]] = []
    for row in rows:
        selection = common if applies_to(common, row.folders) else select(row.folders, classes, row.name)
        source = source_of(row.identity, row.folders, selection)
        stored = read_summary(out / row.name / FILE)
        lacks_waveforms = bool(roots) and stored is not None and stored.get("waveforms") is False
        if stored is None or stored["origin"] != source or lacks_waveforms:
            todo.append((row, selection, source))
    if not todo:
        return []
    with progress(sum(len(row.units) for row, *_ in todo), " folds", "analysis") as bar:
        from mfhca_train.analysis.measure import measure_row

        for row, selection, source in todo:
            corpus = open_features(row.recipes)
            measures, arrays = measure_row(corpus, row, selection, device, roots, bar.update)
            write(out / row.name / FILE, Analysis({**measures, "format": FORMAT, "origin": source}, arrays))
    return [row.name for row, *_ in todo]
