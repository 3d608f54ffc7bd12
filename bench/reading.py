"""Reading random batches of features from the page cache."""

from __future__ import annotations

from bench.report import Measurement, Section, Target
from bench.run import Run
from bench.timing import Spread, in_turns, ratios
from bench.worker import Worker

RATE = "gathering both features, one core"


def measure(run: Run) -> Section:
    """Runs the section."""
    rounds, batches, steps = (2, 4, 1) if run.quick else (9, 32, 1)
    options = {**run.training, "batch_size": run.batch_size}
    with (
        Worker("reading", **options) as reading,
        Worker("preparing", **options) as preparing,
        Worker("dataset", **options) as dataset,
        Worker("trainer", **run.trainer()) as trainer,
    ):
        times = in_turns(
            {
                "reading": lambda: reading.run(batches) / batches,
                "preparing": lambda: preparing.run(batches) / batches,
                "dataset": lambda: dataset.run(batches) / batches,
                "step": lambda: trainer.run(steps) / steps,
            },
            rounds,
            {"step": 3},
        )
        size = reading.info["bytes"]
    step = Spread.of(times["step"]).median
    share = [100 * t / step for t in times["reading"]]
    prepared = [100 * t / step for t in times["preparing"]]
    return Section(
        "Reading",
        f"Random batches of {run.batch_size} segments, 300 x 200 and 149 x 768 float16 ({size / 1e6:.1f} MB), from "
        "the page cache into torch tensors by the project's reader, in a process prepared as the trainer's is; "
        "the step it is compared with is the trainer's own, one thread.",
        [
            Measurement(RATE, Spread.of([size / t / 1e9 for t in times["reading"]]), "GB/s", Target(">=", 2)),
            Measurement("reading, share of a training step", Spread.of(share), "%", Target("<", 2)),
            Measurement(
                "reading, conversion to float32 and normalisation, share of a step", Spread.of(prepared), "%"
            ),
            Measurement(
                "`FeatureDataset` in a DataLoader without workers over the trainer's reader",
                Spread.of(ratios(times["preparing"], times["dataset"])),
                "x",
                Target(">=", 0.5),
                "segments per second, converted and normalised alike",
            ),
        ],
    )
