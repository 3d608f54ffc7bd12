"""A finished ablation made up without training: the grid, its statistics and its files are the real ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grid_factory import write_grid
from msgspec import structs
from run_factory import FOUR, SURROUNDINGS, make_utterances, reseal, write_unit

from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import Manifest
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.folds import make_folds
from mfhca_train.model.network import MFHCA, parameter_counts
from mfhca_train.results.checksums import write_sealed
from mfhca_train.results.schema import NETWORK, unit_folder
from mfhca_train.runs.ablation_results import aggregate
from mfhca_train.runs.grid import Grid, row_config
from mfhca_train.runs.plan import RUN_FORMAT, LabelledCorpus, Plan, Request, Row

TEN = tuple(f"{n:02d}" for n in range(1, 11))
KEYS = {"spec": "d8df7b2649005f00", "ssl": "79e523475b60a6af", "mfcc": "1111222233334444"}
SHAPES = {"spec": (300, 200), "ssl": (149, 64), "mfcc": (300, 40)}


def make_ablation(
    run: Path,
    grid: Grid,
    skills: Mapping[str, float],
    speakers: Sequence[str] = TEN,
    classes: Sequence[str] = FOUR,
    seeds: int = 2,
    corpus: str = "toy",
    settings: Mapping[str, Any] | None = None,
    sessions: bool = False,
    chosen: slice = slice(None),
    each: int = 4,
    epochs: int = 10,
    stopped_by: str = "patience",
    own_seeds: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Writes a run folder; returns results.json.

    Args:
        run: where.
        grid: its rows.
        skills: row -> how often a made-up prediction is right; rows that are not named are not there.
        chosen: which folds are there.
        own_seeds: of rows that have others than 0, 1, ...
    """
    config = with_settings(Config(), settings or {})
    utterances = tuple(
        u
        for u in make_utterances(speakers, classes, sessions, each)
        if each == 1 or u.emotion != classes[0] or not u.utterance.endswith(f"0{each - 1}")
    )  # one utterance of the first class is missing, so that WA and UA differ
    label_set = LabelSet("four", {name: name for name in classes})
    manifest = Manifest(run / f"{corpus}.csv", utterances, None, "")
    request = Request(run / f"{corpus}.csv", run, run, config, seeds=tuple(range(seeds)))
    plans: dict[str, Plan] = {}
    for number, row in enumerate(row for row in grid.trained if row.name in skills):
        own = row_config(config, row)
        protocol = row.protocol or "strict"
        folds = make_folds(utterances, protocol, own.train)
        sides = {"both": ["spec", "ssl"], "spec": ["spec"], "ssl": ["ssl"]}[own.model.inputs]
        sides += ["mfcc"] * own.model.mfcc
        row_seeds = request.seeds if row.kind == NETWORK else (0,)
        row_seeds = tuple((own_seeds or {}).get(row.name, row_seeds))
        entry = Row(row.name, own, protocol, row_seeds, folds, folds[chosen], {}, row.kind)
        identity: dict[str, Any] = {
            "format": RUN_FORMAT,
            "corpus": corpus,
            "label_set": "four",
            "classes": list(classes),
            "protocol": protocol,
            "config": own.to_dict(),
            "recipes": {side: KEYS[side] for side in sides},
            "data_digest": "0" * 64,
            "features_digest": "4" * 64,
            "label_digest": "1" * 64,
            "folds_digest": "2" * 64,
            "threads": 1,
        }
        if row.kind != NETWORK:
            identity["kind"] = row.kind
        digest = sha256_text(canonical_json(identity))
        plans[row.name] = Plan(entry, identity, digest, ())
        parameters = {"total": 40}
        if row.kind == NETWORK:
            with torch.device("meta"):
                model = MFHCA(own.model, len(classes), *SHAPES["ssl"], mfcc_shape=SHAPES["mfcc"])
            parameters = parameter_counts(model)
        random = np.random.default_rng(number)
        for seed in row_seeds:
            for fold in folds[chosen]:
                folder = unit_folder(run, row.name, seed, fold.id)
                write_unit(
                    folder,
                    fold,
                    seed,
                    utterances,
                    classes,
                    random,
                    skills[row.name],
                    epochs,
                    stopped_by,
                    parameters,
                    digest,
                )
                if row.kind == NETWORK:
                    _write_inputs(folder / "inputs.safetensors", sides)
                    reseal(folder)
    results = aggregate(request, grid, LabelledCorpus(manifest, label_set, utterances), plans)
    about = {"format": RUN_FORMAT, "grid": grid.name, "title": grid.title}
    about |= {"rows": {name: entry.identity for name, entry in plans.items()}}
    write_sealed(run / "run.json", about | SURROUNDINGS)
    write_sealed(run / "results.json", results)
    return results


def with_title(grid: Grid, name: str, title: str) -> Grid:
    """The grid with another title for one of its rows."""
    return replace(
        grid, rows=tuple(structs.replace(row, title=title) if row.name == name else row for row in grid.rows)
    )


def _write_inputs(path: Path, sides: Sequence[str]) -> None:
    """The head of what `network.save_inputs` writes, without tensors."""
    kept = {side: {"shape": SHAPES[side], "recipe": {"kind": side, "dtype": "float16"}} for side in sides}
    head = json.dumps({"__metadata__": {"sides": json.dumps(kept)}}).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head)


GRID = """
title = "Small"
[[row]]
name = "full"
title = "Full"
reference = true
published = "full"
[[row]]
name = "plain"
title = "Without attention"
set = { "model.fusion" = "coattention", "model.bilstm" = false }
[[row]]
name = "no-bilstm"
title = "Without BiLSTM"
set = { "model.bilstm" = false }
[[row]]
name = "svm"
title = "Support vectors"
kind = "svm"
set = { "model.inputs" = "ssl" }
[[row]]
name = "quoted"
title = "Quoted only"
kind = "cited"
published = "quoted"
"""


PUBLISHED = """
[[figure]]
key = "full"
corpus = "other"
label_set = "four"
system = "Their full system"
wa = 71.23
ua = 72.34
score = "mean"
protocol = "their protocol"
source = "their paper"

[[figure]]
key = "quoted"
corpus = "toy"
label_set = "four"
system = "Quoted system"
wa = 61.11
score = "pooled"
protocol = "another protocol"
source = "another paper"

[[figure]]
key = "yardstick"
corpus = "toy"
label_set = "four"
system = "A yardstick"
wa = 51.51
ua = 52.52
score = "pooled"
protocol = "a third protocol"
source = "a third paper"

[[claim]]
key = "saving"
what = "parameters saved"
value = 12.25
source = "a bold paper"
"""


SKILLS = {"full": 0.8, "plain": 0.35, "no-bilstm": 0.75, "svm": 0.6}


ROWS = {"Full": "full", "Without attention": "plain", "Without BiLSTM": "no-bilstm", "Support vectors": "svm"}


def small_grid(folder: Path, published: str = PUBLISHED, grid: str = GRID) -> Grid:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "published.toml").write_text(published)
    return write_grid(folder / "small.toml", grid)
