"""Folds side by side: processes as `cv --jobs` runs them, over training steps, without their start-up."""

from __future__ import annotations

from bench.report import Figure, Section, Target
from bench.run import Run
from bench.timing import Spread, in_turns, ratios
from bench.worker import Worker


def measure(run: Run) -> Section:
    """Runs the section."""
    if run.cores < 2:
        return Section("Folds side by side", "This machine has one core; nothing can be side by side.")
    rounds, steps = (1, 1) if run.quick else (5, 2)
    segments = steps * run.batch_size
    with (
        Worker("trainer", **run.trainer()) as first,
        Worker("trainer", **run.trainer()) as second,
        Worker("trainer", threads=2, **run.trainer()) as wide,
    ):

        def together() -> float:
            first.begin(steps)
            second.begin(steps)
            return 2 * segments / max(first.end(), second.end())

        rates = in_turns(
            {
                "one": lambda: segments / first.run(steps),
                "two": together,
                "wide": lambda: segments / wide.run(steps),
            },
            rounds,
        )
    return Section(
        "Folds side by side",
        f"Full default model, batch {run.batch_size}, {steps} step{'s' if steps > 1 else ''} a turn.",
        [
            Figure("one fold, one thread, alone", Spread.of(rates["one"]), "segments/s"),
            Figure("two folds, one thread each, together", Spread.of(rates["two"]), "segments/s"),
            Figure("one fold, two threads", Spread.of(rates["wide"]), "segments/s"),
            Figure(
                "two folds over one", Spread.of(ratios(rates["two"], rates["one"])), "x", Target(">=", 1.8)
            ),
            Figure(
                "two folds over one fold with two threads",
                Spread.of(ratios(rates["two"], rates["wide"])),
                "x",
                Target(">=", 1),
            ),
        ],
    )
