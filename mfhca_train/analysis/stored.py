"""Portraits: for each trained row of a run, what its networks' features look like and what they attend to.

    runs/<name>/<row>/portrait.safetensors      figures of every fold, and the pictures' data from one of them

Features of different networks live in different spaces, so the pictures come from
one fold: the one with the median UA of the reference row, the lower of two in the
middle, the same for all rows. From that fold come the examples too: of each class
the recognised utterance with the median probability. Nothing is chosen by looking
at a picture. Only the first seed is portrayed. What a portrait was made from stands
in it; where that has changed, or the file is damaged, it is made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mfhca_cache.common import log
from mfhca_cache.common.console import progress
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_file, write_atomically
from mfhca_train.data.corpus import Array
from mfhca_train.results.checksums import read_unit, tensors_digest
from mfhca_train.results.schema import NETWORK, RESULT_FILE
from mfhca_train.results.summary import read_predictions
from mfhca_train.runs.plan import Corpora, Ground, Plan, finished_folders

FILE = "portrait.safetensors"
FORMAT = 1
PREDICTIONS, INPUTS = "predictions.csv", "inputs.safetensors"  # of a unit


@dataclass(frozen=True)
class Choice:
    """What the pictures show."""

    fold: str
    utterances: tuple[str, ...]  # one a class, in the order of the classes; fewer where the test lacks some
    row: str  # whose figures and predictions decided


@dataclass(frozen=True)
class Portrait:
    """A row's stored portrait: `about` as `portray` made it, and the arrays by name."""

    about: Mapping[str, Any]
    arrays: Mapping[str, Array]


def portray(
    out: Path,
    plans: Sequence[Plan],
    ground: Ground,
    device: str,
    reference: str | None = None,
    root: Path | None = None,
) -> list[str]:
    """Makes the portraits that are missing, stale or damaged.

    Args:
        out: the run folder.
        plans: its rows, those without a network too; of each the finished units of the first seed are read.
        ground: manifest and label set.
        device: where the networks run, as asked for.
        reference: the row whose figures choose fold and examples; without it the first.
        root: of the audio, for waveforms; None keeps those that are stored, and makes no new ones.

    Returns:
        The names of the rows that were portrayed now.

    Raises:
        MfhcaError: a unit is damaged, or features are missing.
    """
    units = {plan.row.name: _units(out, plan) for plan in plans if plan.row.kind == NETWORK}
    for name in [name for name, folders in units.items() if not all((f / INPUTS).exists() for f in folders)]:
        log.LOG.info(f"row {name}: no portrait; an earlier version trained it and kept no {INPUTS}")
        del units[name]
    units = {name: folders for name, folders in units.items() if folders}
    if not units:
        return []
    classes = ground.label_set.classes
    common = choose(units[first], classes, first) if (first := _first(list(units), reference)) else None
    todo = []
    for plan in plans:
        if plan.row.name in units:
            folders = units[plan.row.name]
            choice = common if common and _fits(common, folders) else choose(folders, classes, plan.row.name)
            origin = _origin(plan, folders, choice)
            stored = _stored(out / plan.row.name / FILE)
            if stored.get("origin") != origin or (root and stored.get("waveforms") is False):
                todo.append((plan, folders, choice, origin))
    if not todo:
        return []
    from mfhca_train.analysis.analyse import sit

    with (
        Corpora(ground) as corpora,
        progress(sum(len(folders) for _, folders, _, _ in todo), "fold", "portraits") as bar,
    ):
        for plan, folders, choice, origin in todo:
            about, arrays = sit(corpora.of(plan.row.recipes), plan, folders, choice, device, root, bar.update)
            write(out / plan.row.name / FILE, Portrait({"format": FORMAT, "origin": origin, **about}, arrays))
    return [plan.row.name for plan, *_ in todo]


def _first(names: Sequence[str], reference: str | None) -> str:
    return reference if reference is not None and reference in names else names[0]


def _units(out: Path, plan: Plan) -> list[Path]:
    """The finished units of the first seed, in the order of the folds."""
    folders = finished_folders(out, plan.row)
    first = [folder for folder in folders if folder.parent == folders[0].parent]
    return [folder for folder in first if (folder / RESULT_FILE).exists()]


def choose(folders: Sequence[Path], classes: Sequence[str], row: str) -> Choice:
    """The fold with the median UA, and of each class its recognised utterance with the median probability.

    Of two in the middle the lower one; equals by their names. Where no utterance of a class was recognised, all
    of it are looked at.

    Args:
        folders: a row's units, one a fold.
        classes: K names, in order.
        row: the row's name.
    """
    results = [(read_unit(folder), folder) for folder in folders]
    ordered = sorted(results, key=lambda pair: (pair[0]["ua"], pair[0]["id"]))
    result, folder = ordered[(len(ordered) - 1) // 2]
    rows = [row for row in read_predictions(folder) if row["speaker"] in result["test_speakers"]]
    chosen = []
    for name in classes:
        of_class = [row for row in rows if row["label"] == name]
        known = [row for row in of_class if row["prediction"] == name] or of_class
        by_confidence = sorted((float(row[f"logp_{name}"]), row["utterance"]) for row in known)
        if by_confidence:
            chosen.append(by_confidence[(len(by_confidence) - 1) // 2][1])
    return Choice(result["id"], tuple(chosen), row)


def _fits(choice: Choice, folders: Sequence[Path]) -> bool:
    """Whether these units have the fold, and test the examples in it."""
    for folder in folders:
        if read_unit(folder)["id"] == choice.fold:
            return set(choice.utterances) <= {row["utterance"] for row in read_predictions(folder)}
    return False


def _origin(plan: Plan, folders: Sequence[Path], choice: Choice) -> dict[str, Any]:
    """Everything a portrait is made from."""
    return {
        "identity": plan.digest,
        "units": [_unit(folder) for folder in folders],
        "fold": choice.fold,
        "examples": list(choice.utterances),
        "chosen_by": choice.row,
    }


def _unit(folder: Path) -> dict[str, str]:
    """A unit's identity. Its weights show in its predictions, which are quicker to read."""
    digests = {
        name: sha256_file(folder / name) for name in (RESULT_FILE, PREDICTIONS) if (folder / name).exists()
    }
    return {"seed": folder.parent.name, "fold": folder.name, **digests}


def is_current(portrait: Portrait, row: Path, folds: int) -> bool:
    """Whether a portrait was made from the units that now lie in a row's folder.

    Args:
        portrait: of that row.
        row: the row's folder.
        folds: how many folds the row has.
    """
    units = portrait.about["origin"]["units"]
    return len(units) == folds and all(unit == _unit(row / unit["seed"] / unit["fold"]) for unit in units)


def write(path: Path, portrait: Portrait) -> None:
    """Writes a portrait, atomically; equal portraits give equal bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in portrait.arrays.items()}
    about = dict(portrait.about) | {"digest": tensors_digest(portrait.about, arrays)}
    write_atomically(path, save(arrays, {"portrait": canonical_json(about)}))


def _stored(path: Path) -> Mapping[str, Any]:
    """What a portrait says that can be read whole; nothing for any other."""
    try:
        return read(path).about
    except MfhcaError:
        return {}


def read(path: Path) -> Portrait:
    """A stored portrait.

    Raises:
        MfhcaError: it is missing, damaged, or of another version.
    """
    try:
        with safe_open(path, "np") as file:
            about = json.loads(file.metadata()["portrait"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']!r}, this version reads {FORMAT}")
        if about["digest"] != tensors_digest(about, arrays):
            raise ValueError("its digest differs")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise MfhcaError(
            f"{path}: cannot be read ({error}); delete it, and run cv or ablate as before to make it again"
        ) from error
    return Portrait(about, arrays)
