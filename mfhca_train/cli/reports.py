"""The commands `report`, `compare` and `runs`, which read finished runs.

Only click and the standard library are imported, so that `--help` is fast.
"""

from __future__ import annotations

from pathlib import Path

import click

from mfhca_cache.common.columns import terminal_width
from mfhca_cache.common.console import DIR, FILE, Command, echo
from mfhca_cache.common.errors import MfhcaError

FIGURE_FORMATS = ("svg", "pdf", "png")  # report.plots.files.FORMATS; a test compares them


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=DIR, metavar="RUN...")
@click.option(
    "--figures",
    type=DIR,
    metavar="DIR",
    help="Also write every figure to DIR, with a list of captions; report.md links to them. Each of several RUNs gets "
    "a folder in DIR.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(FIGURE_FORMATS),
    help="Format of --figures: fonts are outlined (svg) or embedded (pdf).  [default: svg]",
)
@click.option("--latex", is_flag=True, help="Also write scores.tex, a table for a paper (package booktabs).")
@click.option("--csv", "as_csv", is_flag=True, help="Also write scores.csv: every score as a fraction.")
def report(runs: tuple[Path, ...], figures: Path | None, form: str | None, latex: bool, as_csv: bool) -> None:
    """Write report.html and report.md of every finished RUN again, and print its scores.

    Figures and tables for a paper are written on request. For example:

    \b
      mfhca-train report runs/emodb --figures paper/figures --format pdf --latex --csv
    """
    if form and figures is None:
        raise click.UsageError("--format is that of --figures; add --figures DIR")
    from mfhca_cache.common.files import write_atomically
    from mfhca_train.report import score_files
    from mfhca_train.report.page import write_report
    from mfhca_train.report.terminal import table
    from mfhca_train.results.checksums import read_sealed
    from mfhca_train.results.record import read_record
    from mfhca_train.runs.compare import short_names

    runs = tuple({run.resolve(): run for run in runs}.values())
    for run, short in zip(runs, short_names([run.resolve() for run in runs]), strict=True):
        folder = figures / short if figures and len(runs) > 1 else figures
        page = write_report(run, folder, form or "svg")
        echo(table(read_sealed(run / "results.json"), terminal_width()))
        echo(page)
        for wanted, name in ((latex, "scores.tex"), (as_csv, "scores.csv")):
            if wanted:
                write_atomically(run / name, score_files.SCORE_FILES[name](read_record(run)))
                echo(run / name)
        if folder:
            echo(folder)
    if len(runs) > 1:
        echo(
            f"{len(runs)} separate reports. To test the runs against each other: mfhca-train compare "
            f"{' '.join(map(str, runs))}"
        )


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=DIR, metavar="RUN...")
@click.option(
    "--row", "rows", multiple=True, metavar="NAME", help="Only this row of ablations (repeat for more)."
)
@click.option(
    "--out",
    type=FILE,
    metavar="PAGE.html",
    help="The page to write; the same as Markdown next to it.  [default: comparison.html next to the first RUN]",
)
@click.option("--latex", is_flag=True, help="Also write the table for a paper, PAGE.tex (package booktabs).")
@click.option("--csv", "as_csv", is_flag=True, help="Also write every score as a fraction, PAGE.csv.")
def compare(
    runs: tuple[Path, ...], rows: tuple[str, ...], out: Path | None, latex: bool, as_csv: bool
) -> None:
    """Compare finished runs: settings that differ, scores, and a paired test over the test speakers.

    The first RUN is the reference (of an ablation, its reference row). Runs on other features or with other labels are
    refused. For example:

    \b
      mfhca-train compare runs/small runs/paper
    """
    if out is not None and out.suffix != ".html":
        raise click.UsageError(f"--out {out}: write NAME.html; NAME.md is written next to it")
    from mfhca_cache.common.files import write_atomically
    from mfhca_train.report import score_files
    from mfhca_train.report.terminal import rows_table
    from mfhca_train.runs.compare import comparison, write_comparison

    # The parent of `.` and `..` is known only to the file system.
    first = runs[0].resolve() if runs[0].name in ("", "..") else runs[0]
    out = out or first.parent / "comparison.html"
    compared = comparison(runs, rows)
    page = write_comparison(compared, out)
    echo(rows_table(compared.record.results, terminal_width()))
    echo("\n".join(compared.differences()))
    echo(page)
    for wanted, suffix, text in ((latex, ".tex", score_files.latex), (as_csv, ".csv", score_files.csv)):
        if wanted:
            write_atomically(out.with_suffix(suffix), text(compared.record))
            echo(out.with_suffix(suffix))


@click.command(cls=Command)
@click.argument("folder", type=DIR, metavar="DIR")
def runs(folder: Path) -> None:
    """List the runs in DIR and its subfolders: corpus, protocol, UA and whether they are complete.

    For example:

    \b
      mfhca-train runs runs
    """
    from mfhca_train.runs.listing import list_runs, table

    found = list_runs(folder)
    if not found:
        raise MfhcaError(
            f"{folder}: no run in this folder; `mfhca-train cv MANIFEST --cache DIR --out {folder}/NAME` makes one"
        )
    echo("\n".join(table(found, terminal_width())))
