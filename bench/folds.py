"""Folds in parallel: training steps in processes like those of `cv --jobs`, without their start-up."""

from __future__ import annotations

from bench.report import Measurement, Section, Target
from bench.run import Run
from bench.timing import Spread, in_turns, ratios
from bench.worker import Worker


def measure(run: Run) -> Section:
    """Runs the section."""
    if run.cores < 2:
        return Section("Folds in parallel", "This machine has one core; nothing can run in parallel.")
    rounds, steps = (1, 1) if run.quick else (5, 2)
    segments = steps * run.batch_size
    with (
        Worker("trainer", **run.trainer()) as first,
        Worker("trainer", **run.trainer()) as second,
        Worker("trainer", threads=2, **run.trainer()) as wide,
    ):

        def in_parallel() -> float:
            first.begin(steps)
            second.begin(steps)
            return 2 * segments / max(first.end(), second.end())

        rates = in_turns(
            {
                "one": lambda: segments / first.run(steps),
                "two": in_parallel,
                "wide": lambda: segments / wide.run(steps),
            },
            rounds,
        )
    return Section(
        "Folds in parallel",
        f"Full default model, batch {run.batch_size}, {steps} step{'s' if steps > 1 else ''} per turn.",
        [
            Measurement("one fold, one thread, alone", Spread.of(rates["one"]), "segments/s"),
            Measurement("two folds, one thread each, together", Spread.of(rates["two"]), "segments/s"),
            Measurement("one fold, two threads", Spread.of(rates["wide"]), "segments/s"),
            Measurement(
                "two folds over one", Spread.of(ratios(rates["two"], rates["one"])), "x", Target(">=", 1.8)
            ),
            Measurement(
                "two folds over one fold with two threads",
                Spread.of(ratios(rates["two"], rates["wide"])),
                "x",
                Target(">=", 1),
            ),
        ],
    )
