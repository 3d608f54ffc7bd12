"""Units that need no training: those that another row or run has finished, and those of rows that select.

A unit is trained once, however many rows and runs contain it. Only runs in the same parent folder are searched,
and only units trained with the same code, package versions, instruction set and device are reused, so a reused unit
has the bits that training it again would give. Files are hard-linked; they are never changed in place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_text
from mfhca_train.results.checksums import read_about, write_result
from mfhca_train.results.schema import CHOSEN, RESULT_FILE, RUN_FILE, UNIT_FILES, unit_folder
from mfhca_train.results.summary import read_units
from mfhca_train.runs.folder import recorded_rows
from mfhca_train.runs.plan import Plan
from mfhca_train.training.unit import Unit, working_folder


def distinct(units: Sequence[Unit]) -> tuple[list[Unit], list[tuple[Unit, Unit]]]:
    """Separates units to train from those that are equal to one of them.

    Returns:
        The first unit of each identity, fold and seed, in order; and pairs of another such unit with the first.
    """
    first: dict[tuple[str, str, int], Unit] = {}
    copies = []
    for unit in units:
        known = first.setdefault((unit.identity, unit.fold.id, unit.seed), unit)
        if known is not unit:
            copies.append((unit, known))
    return list(first.values()), copies


def adopt(
    out: Path, units: Sequence[Unit], environment: Mapping[str, Any], classes: Sequence[str]
) -> dict[Path, int]:
    """Links units that other runs in the same parent folder, or other rows of this run, have finished.

    Args:
        out: the run folder.
        units: those without a result.
        environment: where they would be trained; see `queue.environment`.
        classes: K names, in order, to check the units.

    Returns:
        For each run folder, how many units were linked from it.
    """
    adopted: dict[Path, int] = {}
    for unit, run, folder in adoptable(out, units):
        if not unit.finished and reuse(folder, unit, classes, environment):
            adopted[run] = adopted.get(run, 0) + 1
    return adopted


def adoptable(out: Path, units: Sequence[Unit]) -> Iterator[tuple[Unit, Path, Path]]:
    """Units with the run and folder where an equal one may be finished, which is not read.

    Args:
        out: the run folder.
        units: those without a result.
    """
    wanted = {unit.identity for unit in units}
    rows = [(run, row, digest) for run, row, digest in _recorded_rows(out) if digest in wanted]
    for unit in units:
        for run, row, digest in rows:
            folder = unit_folder(run, row, unit.seed, unit.fold.id)
            if digest == unit.identity and folder != unit.folder and (folder / RESULT_FILE).exists():
                yield unit, run, folder


def _recorded_rows(out: Path) -> Iterable[tuple[Path, str, str]]:
    """Run folder, row and identity digest of every row in the parent folder."""
    for path in sorted(out.absolute().parent.glob(f"*/{RUN_FILE}")):
        run = out if path.parent == out.absolute() else path.parent
        try:
            about = read_about(run)
        except MfhcaError:  # another run's damage is no reason to stop this one
            continue
        for row, identity in recorded_rows(about).items():
            yield run, row, sha256_text(canonical_json(identity))


def reuse(
    folder: Path, unit: Unit, classes: Sequence[str], environment: Mapping[str, Any] | None = None
) -> bool:
    """Links a finished unit to where an equal one is wanted.

    Args:
        folder: of the finished unit; an incomplete one, or one of another identity, is ignored.
        unit: the one that is wanted.
        classes: K names, in order.
        environment: in which it must have been trained; None for any.

    Returns:
        Whether the unit is finished now.

    Raises:
        MfhcaError: its folder cannot be written.
    """
    if not (folder / RESULT_FILE).exists():
        return False
    try:
        ((finished),) = read_units([folder], unit.identity, classes)
    except MfhcaError:
        return False
    if (finished.result["seed"], finished.result["id"]) != (unit.seed, unit.fold.id):
        return False
    if environment is not None and finished.result["environment"] != environment:
        return False
    _link(folder, unit)
    return True


def select_units(plan: Plan, plans: Mapping[str, Plan], classes: Sequence[str]) -> None:
    """Finishes a row that trains nothing: of each fold and seed the best unit, on validation, of other rows.

    These rows differ only in the learning rate. The unit's files are hard links to the selected one's, except
    result.json, which has the identity of this row and names the row that was selected.

    Args:
        plan: the row; any row that trains is left as it is.
        plans: by name, with the rows to select from, all finished.
        classes: K names, in order.

    Raises:
        MfhcaError: a unit is missing or damaged, or a folder cannot be written.
    """
    for unit in plan.unfinished if plan.row.candidates else ():
        candidates = [
            (plans[row.name], other)
            for row in plan.row.candidates
            for other in plans[row.name].units
            if (other.seed, other.fold.id) == (unit.seed, unit.fold.id)
        ]
        results = [read_units([other.folder], of.digest, classes)[0].result for of, other in candidates]
        scores = [result["validation_wa"] + result["validation_ua"] for result in results]
        best = scores.index(max(scores))  # ties: the first in the grid
        selected, source = candidates[best]
        result = {**results[best], "identity": plan.digest, CHOSEN: selected.row.name}
        _link(source.folder, unit, result)


def _link(folder: Path, unit: Unit, result: Mapping[str, Any] | None = None) -> None:
    """Links the files of a finished, checked unit to where another one is wanted.

    Args:
        folder: of the finished unit.
        unit: the one that is wanted; nothing is done if it is finished.
        result: content of its result.json; None links that file too.

    Raises:
        MfhcaError: its folder cannot be written.
    """
    with working_folder(unit.folder) as work:
        if work is None:
            return
        try:
            for name in UNIT_FILES if result else (*UNIT_FILES, RESULT_FILE):
                if (folder / name).exists():
                    _link_file(folder / name, work / name)
        except OSError as error:
            raise MfhcaError(
                f"{unit.folder}: cannot be written ({error.strerror}); free disk space"
            ) from error
        if result:
            write_result(work, result)


def _link_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)
