"""A training step of the full default model, compared with plain torch, bfloat16 and the released code."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import computer
from bench.report import Measurement, Section, Target
from bench.run import Run
from bench.synthetic import training_corpus
from bench.timing import Spread, in_turns, private_bytes, ratios
from bench.worker import REPOSITORY, Worker, once

OURS = "ours, as the trainer runs it"
CLOSE = 1e-3  # relative error of a gradient that counts as rounding, at the scale of float32 and this depth
EQUAL = 1e-7  # the same in float64
HUBERT_BATCH, HUBERT_PASSES = 4, 2  # at 32 it needs 17 GB; the cost of a segment is the same


def measure(run: Run) -> Section:
    """Runs the section."""
    size, rounds = run.batch_size, 1 if run.quick else 5
    fast = computer.has_bfloat16() or run.quick
    low_size = size if fast else 4  # emulated, a whole batch takes minutes
    hubert_size, passes = (2, 1) if run.quick else (HUBERT_BATCH, HUBERT_PASSES)
    steps = {"ours": 1 if run.quick else 3}
    sizes = {
        "ours": size,
        "plain": size,
        "bfloat16": low_size,
        "released": size,
        "hubert": hubert_size * passes,
    }
    with ExitStack() as stack:
        workers = {
            "ours": Worker("trainer", **run.trainer()),
            "plain": Worker("plain", **run.training, batch_size=size),
            "bfloat16": Worker(
                "trainer", **run.trainer(**{"train.precision": "bfloat16", "train.batch_size": low_size})
            ),
            "released": Worker("released", batch_size=size),
            "hubert": Worker(
                "released",
                batch_size=hubert_size,
                passes=passes,
                encoder="tiny" if run.quick else "base",
            ),
        }
        for worker in workers.values():
            stack.enter_context(worker)

        def action(name: str) -> float:
            n = steps.get(name, 1)
            return n * sizes[name] / workers[name].run(n)

        rates = in_turns(
            {name: lambda name=name: action(name) for name in workers},  # type: ignore[misc]
            rounds,
            {"released": 3, "hubert": 2, "bfloat16": rounds if fast else 2},
            warm_up=not run.quick,
        )
    same = once("agreement", **run.training, batch_size=4)
    for what in ("loss", "gradients"):
        if same["ours"][what] > max(CLOSE, 3 * same["plain"][what]):
            raise AssertionError(f"fused and plain steps differ in their {what}: {same}")
        if same["ours64"][what] > EQUAL:
            raise AssertionError(f"fused and plain steps differ in their {what} in float64: {same}")
    rate, quotient = "segments/s", "x"
    remark = f"batch {low_size}; {computer.bfloat16_remark()}"
    best = "bfloat16" if computer.has_bfloat16() else "ours"  # the one that the targets are for
    other = "its input differs: 3 x 256 x 384 instead of 1 x 300 x 200"

    def over(a: str, b: str) -> Spread:
        return Spread.of(ratios(rates[a], rates[b]))

    figures = [
        Measurement(OURS, Spread.of(rates["ours"]), rate),
        Measurement("ours in plain eager float32", Spread.of(rates["plain"]), rate),
        Measurement("ours in bfloat16", Spread.of(rates["bfloat16"]), rate, note=remark),
        Measurement("the released head, eager float32", Spread.of(rates["released"]), rate, note=other),
        Measurement(
            "the released head with HuBERT base trained jointly",
            Spread.of(rates["hubert"]),
            rate,
            note=f"{other}; batch {hubert_size * passes}, in passes of {hubert_size}",
        ),
        Measurement(
            "step: ours over plain eager float32", over("ours", "plain"), quotient, Target(">=", 1.5)
        ),
        Measurement(
            "step: ours in bfloat16 over plain eager float32",
            over("bfloat16", "plain"),
            quotient,
            Target(">=", 3),
            remark,
        ),
        *(
            Measurement(
                f"step: ours{how} over the released head{hubert}",
                over(ours, theirs),
                quotient,
                Target(">=", least) if ours == best else None,
                f"{other}{why}",
            )
            for ours, how in (("ours", ""), ("bfloat16", " in bfloat16"))
            for theirs, hubert, least, why in (
                ("released", "", 12, ""),
                (
                    "hubert",
                    " with HuBERT trained jointly",
                    25,
                    "; HuBERT runs once, in stage one, not in our step",
                ),
            )
        ),
        Measurement(
            "private memory (USS) of a fold worker, maximum",
            Spread.of([highest_memory(run)]),
            "GB",
            Target("<", 1.5),
            f"two folds of `cv` in parallel, default settings, batch {size}",
        ),
    ]
    worst = (
        f"{who}: loss {same[key]['loss']:.1e}, gradients {same[key]['gradients']:.1e}"
        for who, key in (("as trained", "ours"), ("plain", "plain"), ("as trained but in float64", "ours64"))
    )
    return Section(
        "Training step",
        f"The full default model (D = 768, four classes), batch {size} unless said otherwise, one thread, one process "
        "for each variant. Ours is the trainer itself, reading included; the released head is restated in "
        "`bench/released.py` and gets random inputs at no cost.",
        figures,
        notes=[
            "Ours and the plain form are the same function up to rounding; relative error of the loss, and the worst "
            f"of any parameter's gradient, against the plain form in float64: {'; '.join(worst)}."
        ],
    )


def highest_memory(run: Run) -> float:
    """Maximum private memory of the larger of two fold workers of a real `cv`, in GB."""
    made = training_corpus(run.folder / "memory", 6, 2 if run.quick else 16)
    arguments = [
        "cv",
        str(made.manifest),
        "--cache",
        str(made.cache),
        "--out",
        str(run.folder / "memory-run"),
    ]
    arguments += ["--jobs", "2", "--fold", "s0", "--fold", "s1", "--set", "train.epochs=1"]
    arguments += ["--set", f"train.batch_size={run.batch_size}"]
    highest = 0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mfhca_train", *arguments], cwd=REPOSITORY, stdout=log, stderr=log
        )
        while process.poll() is None:
            highest = max([highest, *(private_bytes(child) for child in fold_workers(process.pid))])
            time.sleep(0.1)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"cv: exit code {process.returncode}: {log.read()[-2000:].decode()}")
    if not highest:
        raise AssertionError("found no fold worker")
    return highest / 1e9


def fold_workers(parent: int) -> list[int]:
    """Process ids of the workers that joblib started for a `cv`."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    workers = []
    for child in map(int, children):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"LokyProcess" in command:
            workers.append(child)
        else:
            workers += fold_workers(child)
    return workers
