"""A few steps of a unit, to compile the loops or to estimate how long training takes. No result depends on them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import mfhca_train.model
from mfhca_cache.common import hardware
from mfhca_cache.common.progress import phase
from mfhca_train.config.variables import plain_equations
from mfhca_train.training import process
from mfhca_train.training.unit import Unit, open_corpus

STEPS = 5


class Seconds(NamedTuple):
    """Seconds that an epoch takes.

    Attributes:
        epoch: training, and scoring the validation speakers.
        refit: of the second training, on the validation speakers too; 0 if there is none.
    """

    epoch: float
    refit: float


def seconds_per_epoch(unit: Unit, steps: int = STEPS) -> Seconds:
    """Times a few steps of a unit.

    Args:
        unit: unfinished; nothing is written.
        steps: so many batches are timed, after one that is not.

    Raises:
        MfhcaError: features or labels have changed since the unit was planned, or the loss is not finite.
    """
    process.prepare_process(unit.threads)
    from mfhca_train.training.fit import Trainer  # imports torch, whose threads must be set first

    device = hardware.resolve_device(unit.device)
    with open_corpus(unit) as corpus, tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(corpus, unit.fold, unit.seed, unit.config, Path(folder), device, unit.identity)
        batch = unit.config.train.batch_size
        validation = corpus.of_fold(unit.fold, "validation")
        some = validation[: steps * batch]
        segments = corpus.segments(some)
        trainer.train_epoch(1, 1)
        trainer.evaluate(some[:1], corpus.segments(some[:1]))
        start = time.perf_counter()
        trainer.train_epoch(1, steps)
        trained = time.perf_counter()
        trainer.evaluate(some, segments)
        scored = time.perf_counter()
        of_epoch = len(trainer.segments) / min(steps * batch, len(trainer.segments))
        in_validation, in_training = len(corpus.segments(validation)), len(trainer.segments)
        of_validation = in_validation / max(1, len(segments))
    seconds = (trained - start) * of_epoch
    refit = seconds * (in_training + in_validation) / in_training if unit.config.train.refit else 0.0
    return Seconds(seconds + (scored - trained) * of_validation, refit)


def compile_loops(units: Sequence[Unit]) -> None:
    """Compiles the loops that units use on the CPU, if this was never done here, before many processes need them.

    Their device is not "auto".

    This is an optimisation, whose failure is ignored: units compile what they lack.
    """
    if plain_equations() or units[0].device != "cpu" or _are_compiled():
        return
    from joblib.externals.loky import ProcessPoolExecutor

    with phase("compiling the loops for this processor, once"), contextlib.suppress(Exception):
        worker = ProcessPoolExecutor(1)
        try:
            for unit in {unit.row: unit for unit in units}.values():
                worker.submit(_compile, unit, os.getpid()).result()
        finally:
            worker.shutdown(kill_workers=True)


def _compile(unit: Unit, parent: int) -> None:
    process.exit_with_parent(parent)
    seconds_per_epoch(unit, 1)


def _are_compiled() -> bool:
    """Whether there is machine code of the present sources."""
    folder = Path(mfhca_train.model.__file__).parent / "cpu"
    changed = max(path.stat().st_mtime for path in folder.glob("*.py"))
    if any(path.stat().st_mtime > changed for path in folder.glob("__pycache__/*.nbi")):
        return True  # the usual case, without importing the compiler
    from mfhca_train.model.cpu import kernels, machine_code

    return machine_code.is_cached(kernels.moments)
