"""Compares one accelerator with the CPU and measures it: features, training steps, determinism, memory.

    python -m bench.gpu [--device cuda] [--quick] [--out FOLDER]

Generated input, no downloads, at most 8 minutes. Writes gpu.md and gpu.json into --out, and ends with 1 if a value is
outside its tolerance.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import torch

from bench import accelerator, computer
from mfhca_train.training.process import prepare_process

SECONDS_PER_FORM = 8.0
QUICK = ("paper", "preset small")  # variants in a trial
IEMOCAP_SEGMENTS = 10_993 * 0.8 * 10 * 50  # ten folds of 50 epochs, eight of ten speakers training


def problems(results: dict[str, Any]) -> list[str]:
    """What is outside its tolerance or not deterministic, one line each."""
    found = [
        f"extraction, {name}: relative error {entry['error']:.2g}, tolerance {accelerator.TOLERANCE[name]:g}"
        for name, entry in results["extraction"].items()
        if not entry["error"] <= accelerator.TOLERANCE[name]
    ]
    for name, entry in results["agreement"].items():
        for what, error in entry.items():
            if not error <= accelerator.TOLERANCE["float32"]:
                found.append(
                    f"{name}: relative error of {what} {error:.2g}, tolerance {accelerator.TOLERANCE['float32']:g}"
                )
    return found + [
        f"{name}: two equal runs differ" for name, same in results["deterministic"].items() if not same
    ]


def markdown(results: dict[str, Any]) -> str:
    """The results as tables."""

    def table(title: str, rows: dict[str, Any]) -> list[str]:
        columns = list(dict.fromkeys(key for row in rows.values() for key in row))
        cells = [
            [name, *(f"{row[c]:.3g}" if c in row else "" for c in columns)] for name, row in rows.items()
        ]
        head = ["", *(column.replace("_", " ") for column in columns)]
        return [
            f"## {title}",
            "",
            *(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *cells)),
            "",
        ]

    lines = ["# One accelerator", "", f"Device: {results['device']}.", ""]
    lines += table("Extraction against the CPU in float32", results["extraction"])
    lines += table("A training epoch against the CPU: relative errors", results["agreement"])
    lines += table("Training step of the full model", results["steps"])
    lines += table(
        "Folds at the same time", {n: {"segments_per_second": s} for n, s in results["folds"].items()}
    )
    lines += [
        f"Ten folds of IEMOCAP's size, 50 epochs, at the fastest rate: {results['iemocap_minutes']:.0f} min.",
        "",
    ]
    lines += [f"- {line}" for line in results["problems"] or ["Everything is within its tolerance."]]
    return "\n".join(lines) + "\n"


def measure(device: str, quick: bool, folder: Path) -> dict[str, Any]:
    """Runs all comparisons and measurements."""
    prepare_process(torch.get_num_threads())
    size, seconds = (2, 0.01) if quick else (32, SECONDS_PER_FORM)
    variants = QUICK if quick else tuple(accelerator.SETTINGS)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    results: dict[str, Any] = {"device": name, "quick": quick, "machine": computer.description()}
    results["extraction"] = accelerator.extraction(folder, device, quick, seconds)
    results["agreement"] = accelerator.agreement(device, 1 if quick else 4, size, variants)
    results["deterministic"] = accelerator.deterministic(device, size, variants)
    results["steps"] = accelerator.steps(device, size, seconds, quick)
    results["folds"] = accelerator.folds(device, size, seconds, () if quick else (1, 2, 4, 8))
    rates = [row.get("segments_per_second", 0.0) for row in results["steps"].values()]
    results["iemocap_minutes"] = IEMOCAP_SEGMENTS / max(*rates, *results["folds"].values()) / 60
    results["problems"] = problems(results)
    return results


@click.command(help=__doc__)
@click.option("--device", default="cuda", show_default=True)
@click.option("--quick", is_flag=True, help="Small sizes: a trial of the program, not a measurement.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(__file__).parent)
def main(device: str, quick: bool, out: Path) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.ClickException("torch finds no CUDA device here; --device cpu --quick tries the program")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mfhca-gpu-") as folder:
        results = measure(device, quick, Path(folder))
    results["minutes"] = (time.perf_counter() - start) / 60
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text(markdown(results), encoding="utf-8")
    click.echo(markdown(results))
    sys.exit(bool(results["problems"]))


if __name__ == "__main__":
    main()
