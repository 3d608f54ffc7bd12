"""Compares a row that was trained in several precisions with the same seeds.

    python -m bench.precision RESULTS_JSON RESULTS_JSON ...

Each `results.json` is of `cv` or `ablate`; of an ablation the reference row is compared. Writes bench/precision.json,
from which `bench.readme` writes a section of docs/results.md.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.scores import table

STORED = Path(__file__).with_suffix(".json")
SCORES = ("wa", "ua")


def pooled_by_seed(row: dict[str, Any]) -> dict[int, dict[str, float]]:
    """WA and UA of all folds together, for each seed.

    Args:
        row: of results.json, with the confusion matrix of every fold and seed.

    >>> fold = {"seed": 0, "confusion": [[3, 1], [0, 2]]}
    >>> pooled_by_seed({"folds": [fold, fold]})
    {0: {'wa': 0.8333333333333334, 'ua': 0.875}}
    """
    matrices: dict[int, Any] = {}
    for fold in row["folds"]:
        matrices[fold["seed"]] = matrices.get(fold["seed"], 0) + np.array(fold["confusion"])
    return {
        seed: {
            "wa": float(matrix.trace() / matrix.sum()),
            "ua": float((matrix.diagonal() / matrix.sum(axis=1)).mean()),
        }
        for seed, matrix in sorted(matrices.items())
    }


def compare(paths: list[Path]) -> dict[str, Any]:
    """The scores of every seed in each precision.

    Raises:
        SystemExit: the runs differ in more than the precision.
    """
    precisions: dict[str, Any] = {}
    others = []
    for path in paths:
        results = json.loads(path.read_text(encoding="utf-8"))
        row = results["rows"][results["reference"]] if "rows" in results else results
        precision = row["config"]["train"].pop("precision")
        precisions[precision] = pooled_by_seed(row)
        others.append(
            {name: row[name] for name in ("corpus", "label_set", "protocol", "config", "recipes", "seeds")}
        )
    if any(other != others[0] for other in others) or len(precisions) != len(paths):
        raise SystemExit("the runs must differ in train.precision, and in nothing else")
    about = {name: others[0][name] for name in ("corpus", "label_set", "protocol", "seeds")}
    return about | {"precisions": precisions}


def section(measured: dict[str, Any] | None) -> str:
    """Mean and spread over the seeds in each precision, and whether they differ by more than the seeds do."""
    if measured is None:
        return "Not measured yet: run `python -m bench.precision`."
    values = {
        precision: {score: [100 * seed[score] for seed in seeds.values()] for score in SCORES}
        for precision, seeds in measured["precisions"].items()
    }
    rows = [
        [precision]
        + [f"{statistics.mean(own[score]):.2f} ± {statistics.stdev(own[score]):.2f}" for score in SCORES]
        for precision, own in values.items()
    ]
    means = [statistics.mean(own["ua"]) for own in values.values()]
    gap, spread = max(means) - min(means), max(statistics.stdev(own["ua"]) for own in values.values())
    verdict = "less" if gap < spread else "more"
    return (
        f"Full model, {measured['corpus']}, label set {measured['label_set']}, protocol {measured['protocol']}; pooled "
        f"scores in %, mean ± standard deviation over {len(measured['seeds'])} seeds:\n\n"
        + table(["precision", "WA", "UA"], rows)
        + f"\n\nThe means of UA are {gap:.2f} points apart, {verdict} than the spread of the seeds ({spread:.2f})."
    )


def read() -> dict[str, Any] | None:
    """The stored comparison, if there is one."""
    return json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else None


if __name__ == "__main__":
    text = json.dumps(compare([Path(argument) for argument in sys.argv[1:]]), indent=1)
    STORED.write_text(text + "\n", encoding="utf-8")
