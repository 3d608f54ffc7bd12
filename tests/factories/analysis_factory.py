"""Small finished runs whose networks are analysed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from corpus_factory import request, utterances
from grid_factory import write_grid

from mfhca_train.runs.analysis import analyse
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.grid_rows import resolve, select
from mfhca_train.runs.plan import Request, make_plan, read_labels

GRID = """
title = "Fusions"
[[row]]
name = "hca"
title = "With HCA"
reference = true
[[row]]
name = "masked"
title = "Masked"
set = { "model.mask_padding" = true }
[[row]]
name = "frames"
title = "Frames"
set = { "model.hca" = "frames", "model.mask_padding" = true }
[[row]]
name = "channel"
title = "Channel"
set = { "model.hca" = "channel" }
[[row]]
name = "released"
title = "Released"
set = { "model.hca" = "released", "model.grf" = "released" }
[[row]]
name = "coattention"
title = "Co-attention"
set = { "model.fusion" = "coattention" }
[[row]]
name = "concat"
title = "Concatenated"
set = { "model.fusion" = "concat" }
[[row]]
name = "spec"
title = "Spectrogram"
set = { "model.inputs" = "spec" }
[[row]]
name = "ssl"
title = "Hidden states"
set = { "model.inputs" = "ssl" }
[[row]]
name = "svm"
title = "No network"
kind = "svm"
set = { "model.inputs" = "ssl" }
"""
ROWS = ("hca", "masked", "frames", "channel", "released", "coattention", "concat", "spec", "ssl")
FOLDS = ("s0", "s2")


def analysed_request(folder: Path, **changes: object) -> Request:
    """One epoch of two folds of five speakers, analysed at the end."""
    base = request(folder, utterances(speakers=5, each=8), {"train.epochs": "1"}, folds=FOLDS, analysis=True)
    return replace(base, **changes)  # type: ignore[arg-type]


def analyse_again(folder: Path) -> list[str]:
    """The analysis at the end of `ablate` on the grid above; the names of the rows that were analysed."""
    wanted, grid = analysed_request(folder, folds=FOLDS[:1]), write_grid(folder / "fusions.toml", GRID)
    ground = read_labels(wanted)
    rows, _ = resolve(wanted, grid, ground, select(grid, ()))
    with OpenFeatures(ground) as corpora:
        plans = [make_plan(wanted, ground, row, corpora.of(row.recipes)) for row in rows]
    return analyse(wanted, plans, ground, grid.reference)
