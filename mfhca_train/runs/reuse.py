"""A unit is trained once, however many rows and runs want it: finished ones with equal identity are linked.

Only runs beside this one are looked at, and only those that were trained with the same
versions, type of processor and kind of device, so that what is taken over has the
bits that training again would give. Files are never changed in place; a hard link costs nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, fsync_folder, lock, sha256_text
from mfhca_train.results.checksums import write_result
from mfhca_train.results.schema import CV_ROW, RESULT_FILE, RUN_FILE, UNIT_FILES, unit_folder
from mfhca_train.results.summary import read_units
from mfhca_train.runs.folder import BESIDE, SURROUNDINGS, read_about
from mfhca_train.runs.plan import RowUnit

LOCK_PATIENCE_SECONDS = 5.0  # an orphan of a killed run lets go within about a second


def distinct(units: Sequence[RowUnit]) -> tuple[list[RowUnit], list[tuple[RowUnit, RowUnit]]]:
    """The units to train, and those that are the same as one of them.

    Returns:
        The first of each kind, in order; and pairs of another one with its first.
    """
    first: dict[tuple[str, str, int], RowUnit] = {}
    copies = []
    for unit in units:
        known = first.setdefault((unit.identity, unit.fold.id, unit.seed), unit)
        if known is not unit:
            copies.append((unit, known))
    return list(first.values()), copies


def adopt(
    out: Path, units: Sequence[RowUnit], here: Mapping[str, Any], classes: Sequence[str]
) -> dict[Path, int]:
    """Takes over what runs beside `out`, or other rows of it, have finished.

    Args:
        out: the run folder.
        units: those without a result.
        here: where they would be trained; see `pool.surroundings`.
        classes: K names, in order, to check what is found.

    Returns:
        How many came from which run folder.
    """
    wanted = {unit.identity for unit in units}
    rows = [(run, row, digest) for run, row, digest in _rows_beside(out, here) if digest in wanted]
    taken: dict[Path, int] = {}
    for unit in units:
        for run, row, digest in rows:
            folder = unit_folder(run, row, unit.seed, unit.fold.id)
            if digest == unit.identity and folder != unit.folder and take_over(folder, unit, classes):
                taken[run] = taken.get(run, 0) + 1
                break
    return taken


def _rows_beside(out: Path, here: Mapping[str, Any]) -> Iterable[tuple[Path, str, str]]:
    """(run folder, row, digest of its identity) of all runs in the same folder, this one included."""
    for path in sorted(out.absolute().parent.glob(f"*/{RUN_FILE}")):
        run = out if path.parent == out.absolute() else path.parent
        try:
            about = read_about(run)
        except MfhcaError:  # a damaged neighbour is none of this run's business
            continue
        if any(about.get(name) != here.get(name) for name in SURROUNDINGS):
            continue
        alone = {name: value for name, value in about.items() if name not in BESIDE}
        rows = about["rows"] if isinstance(about.get("rows"), dict) else {CV_ROW: alone}
        for row, identity in rows.items():
            yield run, row, sha256_text(canonical_json(identity))


def take_over(folder: Path, unit: RowUnit, classes: Sequence[str]) -> bool:
    """Links a finished unit to where another one is wanted.

    Args:
        folder: of the finished unit; what is not whole, or of another identity, is left alone.
        unit: the one that is wanted.
        classes: K names, in order.

    Returns:
        Whether the unit is there now.

    Raises:
        MfhcaError: its folder cannot be written.
    """
    if not (folder / RESULT_FILE).exists():
        return False
    try:
        ((found),) = read_units([folder], unit.identity, classes)
    except MfhcaError:
        return False
    if (found.result["seed"], found.result["id"]) != (unit.seed, unit.fold.id):
        return False
    link(folder, unit)
    return True


def link(folder: Path, unit: RowUnit, result: Mapping[str, Any] | None = None) -> None:
    """Puts links to the files of a finished unit where another one is wanted; does nothing if that is there.

    Args:
        folder: of the finished unit, checked.
        unit: the one that is wanted.
        result: what its result.json says instead; None takes that over too.

    Raises:
        MfhcaError: its folder cannot be written.
    """
    target = unit.folder
    with lock(target.with_name(f".{target.name}.lock"), f"{target}: this fold", LOCK_PATIENCE_SECONDS):
        if unit.finished:
            return
        work = target.with_name(f".{target.name}.taken.partial")  # the lock is held: nobody else is at it
        try:
            shutil.rmtree(work, ignore_errors=True)  # of a process that was killed here
            work.mkdir()
            for name in UNIT_FILES if result else (*UNIT_FILES, RESULT_FILE):
                if (folder / name).exists():
                    _link(folder / name, work / name)
            if result:
                write_result(work, result)
            # What an interrupted training had left is of no use any more.
            shutil.rmtree(target.with_name(f".{target.name}.partial"), ignore_errors=True)
            os.replace(work, target)
            fsync_folder(target.parent)
        except OSError as error:
            raise MfhcaError(f"{target}: cannot be written ({error.strerror}); free space") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
