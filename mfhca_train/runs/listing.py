"""The runs below a folder as a table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.common.columns import Column, fitted, paragraph
from mfhca_cache.common.errors import MfhcaError, no_folder
from mfhca_cache.common.text import plural, printable
from mfhca_train.report.page import file_date
from mfhca_train.report.rows import warning_of
from mfhca_train.report.text import mean_sd, score
from mfhca_train.results.record import read_compared, read_run_file
from mfhca_train.results.schema import CV_ROW, RESULT_FILE, RESULTS_FILE, RUN_FILE
from mfhca_train.results.summary import ForeignError

# Columns and their ranks, see `Column.rank`: on a narrow terminal the highest ranks are left out first.
RANKS = {"corpus": 5, "protocol": 3, "UA ± sd": 0, "pooled UA": 2, "folds × seeds": 4, "date": 6, "state": 1}
NUMBERS = ("UA ± sd", "pooled UA", "folds × seeds")


@dataclass(frozen=True)
class Listed:
    """One row of a run; texts of an unfinished or damaged run may be empty.

    Attributes:
        run: the folder, relative to the one that was searched.
        row: title of the row of an ablation, marked if its scores are not comparable with others; empty for a
            cross-validation.
        corpus: name and label set.
        protocol: of the row.
        ua, pooled: mean ± standard deviation over folds, and the pooled value, in %.
        size: folds × seeds.
        date: of results.json, YYYY-MM-DD (UTC).
        state: complete, or what is missing; of a cross-validation with the mark; foreign if a file is of another run.
        reason: why the run cannot be read.
    """

    run: str
    row: str = ""
    corpus: str = ""
    protocol: str = ""
    ua: str = ""
    pooled: str = ""
    size: str = ""
    date: str = ""
    state: str = ""
    reason: str = ""


def list_runs(folder: Path) -> list[Listed]:
    """Every row of every run below a folder; a run that cannot be read is listed with the reason.

    Raises:
        MfhcaError: there is no such folder.
    """
    if not folder.is_dir():
        raise MfhcaError(f"{no_folder(folder)}; pass the one that holds the runs")
    return [line for run in sorted(_find(folder)) for line in _lines(folder, run)]


def _find(folder: Path) -> Iterator[Path]:
    """Folders with a run.json; what is inside them is not searched."""
    for place, folders, files in os.walk(folder):
        if RUN_FILE in files:
            folders.clear()
            yield Path(place)
        folders[:] = [name for name in folders if not name.startswith(".")]


def _lines(folder: Path, run: Path) -> Iterator[Listed]:
    name = run.relative_to(folder).as_posix()
    name = run.resolve().name if name == "." else name
    try:
        if not (run / RESULTS_FILE).exists():
            units = len(list(run.glob(f"*/seed-*/fold-*/{RESULT_FILE}")))
            for key, identity in read_run_file(run).rows.items():
                own = len(list(run.glob(f"{key}/seed-*/fold-*/{RESULT_FILE}")))
                state = f"not finished: {plural(own, 'unit')}" if units else "nothing trained yet"
                corpus = f"{identity.corpus} ({identity.label_set})"
                yield Listed(name, "" if key == CV_ROW else key, corpus, identity.protocol, state=state)
            return
        _, results = read_compared(run)
    except MfhcaError as error:
        state = "foreign" if isinstance(error, ForeignError) else "cannot be read"
        yield Listed(name, state=state, reason=str(error).removeprefix(f"{run}/"))
        return
    date = file_date(run / RESULTS_FILE)
    for row in results.rows.values():
        size = f"{row.n_folds} × {len(row.seeds)}"
        state = "complete" if row.complete else f"only {plural(row.n_folds, 'fold')}"
        corpus = f"{row.corpus} ({row.label_set})"
        ua, pooled = mean_sd(row.ua), score(row.ua.pooled)
        title, mark = (row.marked_title, "") if results.grid else ("", warning_of(row))
        state += f", {mark}" if mark else ""
        yield Listed(name, title, corpus, row.protocol, ua, pooled, size, date, state)


def table(lines: Sequence[Listed], width: int | None) -> list[str]:
    """The runs as lines of text: one per cross-validation, one per row of an ablation below its name.

    Args:
        lines: what to show.
        width: characters per line; None for no limit.
    """
    cells: list[tuple[str, ...]] = []
    reasons = []
    for k, line in enumerate(lines):
        own = (line.corpus, line.protocol, line.ua, line.pooled, line.size, line.date, line.state)
        if line.row and (k == 0 or lines[k - 1].run != line.run):
            cells.append((line.run, *[""] * len(own)))
        cells.append((f"  {line.row}" if line.row else line.run, *own))
        if line.reason:
            reasons += paragraph(f"{line.run}: {line.reason}", width)
    names, *columns = zip(*cells, strict=True)
    wanted = [Column("run", names, left=True)]
    for (head, rank), texts in zip(RANKS.items(), columns, strict=True):
        wanted.append(Column(head, texts, rank, left=head not in NUMBERS))
    return [*fitted(wanted, width), *map(printable, reasons)]
