"""Measures speed and memory and writes results.md and results.json (quick.* with --quick).

    python -m bench [--quick] [--only SECTION ...] [--out FOLDER]

With --only the results are printed, and written only if --out is given.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from bench import computer, report
from bench.run import Run

SECTIONS = ("extraction", "reading", "step", "folds", "startup", "scale", "roofline")
HERE = Path(__file__).resolve().parent
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="Small sizes: a trial of the programs, not a measurement.")
@click.option(
    "--only", multiple=True, type=click.Choice(SECTIONS), help="Only this section; repeat for more."
)
@click.option("--out", type=FOLDER, help="Output folder.  [default: bench/ if all sections run]")
@click.option("--scratch", type=FOLDER, help="Folder of temporary files.  [default: the system's]")
def main(quick: bool, only: tuple[str, ...], out: Path | None, scratch: Path | None) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    results: dict[str, Any] = {"quick": quick, "machine": computer.description(), "sections": {}}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mfhca-bench-", dir=scratch) as folder:
        run = Run(Path(folder), quick)
        for name in [name for name in SECTIONS if not only or name in only]:
            results["sections"][name] = measure_section(name, run)
    minutes = (time.perf_counter() - start) / 60
    results["machine"]["whole run"] = f"{minutes:.1f} minutes"
    text = report.markdown(results)
    if only:
        click.echo(text)
    out = HERE if out is None and not only else out
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        name = "quick" if quick else "results"  # a trial run must not replace the measurements
        (out / f"{name}.md").write_text(text, encoding="utf-8")
        dumped = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        (out / f"{name}.json").write_text(dumped, encoding="utf-8")
    sys.exit(any("failed" in section for section in results["sections"].values()))


def measure_section(name: str, run: Run) -> dict[str, Any]:
    """Measures one section; a failure does not stop the others."""
    click.echo(f"{name} ...", err=True)
    start = time.perf_counter()
    try:
        run.done[name] = import_module(f"bench.{name}").measure(run)
        content = run.done[name].to_dict()
    except Exception as error:
        traceback.print_exc()
        reason = " ".join(str(error).replace(str(run.folder), "SCRATCH").split())
        content = {"title": name, "failed": reason[:500], "figures": []}
    elapsed = time.perf_counter() - start
    click.echo(f"{name}: {elapsed:.0f} s", err=True)
    for figure in content["figures"]:
        target = f"  [{figure['target_text']}: {figure['verdict']}]" if figure["target"] else ""
        click.echo(f"  {figure['what']}: {figure['measured_text']}{target}", err=True)
    return {**content, "seconds": round(elapsed, 1)}


if __name__ == "__main__":
    main()
