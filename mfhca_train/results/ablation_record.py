"""A finished ablation as it lies on the disk, read and checked: run.json, results.json, and the files of every unit.

Every row's figures are compared with its units', and these with their predictions, so
that a report cannot show what the predictions do not say.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.typed import problem, problems
from mfhca_train.results.checksums import read_about, read_sealed
from mfhca_train.results.comparison import Outcome, outcome
from mfhca_train.results.record import disagreement, read_agreeing, read_history
from mfhca_train.results.schema import NETWORK, AblationResults, RunFile, Side, unit_folder

SHAPES = {"ssl": (2, 3)}  # how many sizes a shape may have, where not two: see `Inputs`
HEADER_LIMIT = 1 << 20  # bytes of a safetensors header; ours have a few thousand


@dataclass(frozen=True)
class AblationRecord:
    """What an ablation left behind.

    Attributes:
        about: run.json.
        results: results.json.
        outcomes: row -> its score of each speaker and its right utterances, with every seed.
        histories: row -> for each of its units, in the order of its `folds`, the curves; of networks only.
        recipes: key -> the fields of the recipe, as far as networks have kept them.
        shapes: side -> shape of a segment, likewise: frames and width; of all layers their number comes first.
    """

    about: Mapping[str, Any]
    results: Mapping[str, Any]
    outcomes: Mapping[str, Outcome]
    histories: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]
    recipes: Mapping[str, Mapping[str, Any]]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def rows(self) -> Mapping[str, Mapping[str, Any]]:
        """The trained rows, in the grid's order."""
        rows: Mapping[str, Mapping[str, Any]] = self.results["rows"]
        return rows

    @property
    def networks(self) -> dict[str, Mapping[str, Any]]:
        """The rows that have epochs."""
        return {name: row for name, row in self.rows.items() if row["kind"] == NETWORK}

    @property
    def reference(self) -> str | None:
        """The row that the others are tested against, if it is here."""
        name = self.results["reference"]
        return name if name in self.rows else None

    @property
    def chance(self) -> float:
        """UA of blind guessing, a fraction."""
        return 1 / len(self.results["classes"])


def is_ablation(run: Path) -> bool:
    """Whether a folder holds a finished ablation, rather than a run of `cv` or nothing.

    Raises:
        MfhcaError: results.json cannot be read.
    """
    path = run / "results.json"
    results = read_sealed(path) if path.is_file() else None
    return isinstance(results, dict) and "rows" in results


def read_ablation(run: Path) -> AblationRecord:
    """Reads the folder of an ablation.

    Args:
        run: a folder in which `ablate` has finished.

    Raises:
        MfhcaError: a file is missing, damaged, or contradicts another.
    """
    if not (run / "run.json").is_file():
        raise MfhcaError(
            f"{run}: no run.json, so no finished run; run `mfhca-train ablate` with this --out first"
        )
    about, results = read_about(run), read_sealed(run / "results.json")
    _expect(run / "run.json", problem(about, RunFile))
    _expect(
        run / "results.json",
        problem(results, AblationResults) or _contradiction(results, about),
    )
    outcomes, histories = {}, {}
    recipes: dict[str, Mapping[str, Any]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, row in results["rows"].items():
        folders = [unit_folder(run, name, unit["seed"], unit["id"]) for unit in row["folds"]]
        units = [
            read_agreeing(run, name, folder, told, row["classes"], "ablate")
            for folder, told in zip(folders, row["folds"], strict=True)
        ]
        outcomes[name] = outcome(units, row["classes"], row["kind"] == NETWORK)
        if row["kind"] == NETWORK:
            histories[name] = [
                read_history(folder / "history.csv", unit["epochs"], "ablate")
                for folder, unit in zip(folders, row["folds"], strict=True)
            ]
        for side, key, kept in _sides(folders[0], row["recipes"]):
            recipes.setdefault(key, kept["recipe"])
            shapes.setdefault(side, tuple(kept["shape"]))
    return AblationRecord(about, results, outcomes, histories, recipes, shapes)


def _expect(path: Path, wrong: str | None) -> None:
    if wrong:
        raise MfhcaError(f"{path}: {wrong}; delete it and run `mfhca-train ablate` again")


def _contradiction(results: Mapping[str, Any], about: Mapping[str, Any]) -> str | None:
    """What in a results.json contradicts itself or run.json."""
    if not results["rows"]:
        return "no rows"
    for name, row in results["rows"].items():
        wrong = disagreement(row) or (None if row["classes"] == results["classes"] else "other classes")
        if wrong:
            return f"row {name!r:.40}: {wrong}"
        if name not in about["rows"]:
            return f"row {name!r:.40} is not in run.json"
    return None


def _sides(folder: Path, keys: Mapping[str, str]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Side, key, shape and recipe of what a unit reads, from the head of inputs.safetensors; nothing where it is none.

    The head alone is read: its length in eight bytes, then JSON. Nothing here needs torch.
    """
    path = folder / "inputs.safetensors"
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(HEADER_LIMIT, path.stat().st_size - 8):
                raise ValueError(f"a header of {length} bytes")
            head = json.loads(file.read(length))
        sides = json.loads(head["__metadata__"]["sides"])
        found = [(side, keys[side], sides[side]) for side in sides if side in keys]
        wrong = [wrong for _, _, kept in found for wrong in problems(kept, Side)]
        if wrong or any(len(kept["shape"]) not in SHAPES.get(side, (2,)) for side, _, kept in found):
            raise ValueError(wrong or "a shape has another number of sizes")
    except (OSError, struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MfhcaError(f"{path}: cannot be read ({error}); delete {folder} and run ablate again") from error
    yield from found
