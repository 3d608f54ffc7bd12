"""The machine's peak performance, and how close each phase comes to it."""

from __future__ import annotations

from bench import computer, reading
from bench.report import Measurement, Section, Table, number
from bench.run import Run
from bench.timing import Spread, in_turns
from bench.worker import Worker, once

STEP = "training step, all operations"


def measure(run: Run) -> Section:
    """Runs the section."""
    rounds = 2 if run.quick else 5
    size = 256 if run.quick else 2048
    low_size = size if computer.has_bfloat16() else min(size, 512)
    copied = (16 if run.quick else 256) << 20  # bytes
    figures: list[Measurement] = []
    peaks: dict[tuple[str, int], float] = {}

    def note(what: str, key: str, threads: int, values: list[float], unit: str, remark: str = "") -> None:
        spread = Spread.of(values)
        peaks[key, threads] = spread.high
        figures.append(
            Measurement(f"{what}, {threads} thread{'s' if threads > 1 else ''}", spread, unit, note=remark)
        )

    for threads in sorted({1, min(2, run.cores)}):
        with (
            Worker("product", threads, size=size, dtype="float32") as single,
            Worker("product", threads, size=low_size, dtype="bfloat16") as half,
            Worker("copying", threads, size=copied) as copying,
        ):
            rates = in_turns(
                {
                    "float32": lambda w=single: 2 * size**3 * 3 / w.run(3) / 1e9,  # type: ignore[misc]
                    "bfloat16": lambda w=half: 2 * low_size**3 / w.run(1) / 1e9,  # type: ignore[misc]
                    # every byte is read and written
                    "copy": lambda w=copying: 2 * copied * 3 / w.run(3) / 1e9,  # type: ignore[misc]
                },
                rounds,
            )
        note("matrix product, float32", "float32", threads, rates["float32"], "GFLOP/s")
        note(
            "matrix product, bfloat16",
            "bfloat16",
            threads,
            rates["bfloat16"],
            "GFLOP/s",
            computer.bfloat16_remark(),
        )
        note("copy, bytes read and written", "copy", threads, rates["copy"], "GB/s")

    options = {**run.training, "batch_size": run.batch_size}
    measured = once("convolutions", 1, **options)
    with (
        Worker("trainer", 1, **run.trainer()) as trainer,
        Worker("hubert", 1, folder=str(run.encoder), batch_size=2 if run.quick else 4) as hubert,
        Worker("reading", 1, **options) as reader,
    ):
        rates = in_turns(
            {
                "step": lambda: measured["flop"] / trainer.run(1) / 1e9,
                "hubert": lambda: hubert.info["flop"] / hubert.run(1) / 1e9,
                # every byte is read from the page cache and written to the tensor
                "reading": lambda: 2 * reader.info["bytes"] * 8 / reader.run(8) / 1e9,
            },
            2 if run.quick else 3,
        )
    convolved = measured["convolution_flop"] / measured["convolution_seconds"] / 1e9
    share = 100 * measured["convolution_seconds"] / measured["seconds"]
    phases = [
        (STEP, Spread.of(rates["step"]), "GFLOP/s", "float32"),
        ("training step, its convolutions", Spread.of([convolved]), "GFLOP/s", "float32"),
        ("HuBERT forward, float32", Spread.of(rates["hubert"]), "GFLOP/s", "float32"),
        (reading.RATE, Spread.of(rates["reading"]), "GB/s", "copy"),
    ]
    rows = []
    for what, spread, unit, peak in phases:
        figures.append(Measurement(f"{what}, 1 thread", spread, unit))
        rows.append(
            (
                what,
                f"{number(spread.median)} {unit}",
                f"{number(peaks[peak, 1])} {unit} ({'matrix product' if peak == 'float32' else 'copy'})",
                f"{100 * spread.median / peaks[peak, 1]:.0f} %",
            )
        )
    return Section(
        "Roofline",
        f"Peaks: products of {size} x {size} matrices ({low_size} in bfloat16) and copies of {copied >> 20} MiB. "
        "Operations are counted by torch's FlopCounterMode, a multiplication and an addition being two; a training "
        f"step of {run.batch_size} segments has {number(measured['flop'] / 1e9)} GFLOP, "
        f"{number(measured['convolution_flop'] / 1e9)} of them in convolutions.",
        figures,
        [
            Table(
                "Phases compared with the peak, one thread",
                ("phase", "achieved", "peak", "share"),
                rows,
            )
        ],
        [
            f"Convolutions take {share:.0f} % of a training step's forward and backward pass (torch's profiler); the "
            "rest is the LSTM, batch norm and element-wise work."
        ],
    )
