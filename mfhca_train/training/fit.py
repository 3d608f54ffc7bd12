"""One fold with one seed, trained, selected and tested: the unit of work of stage two.

A unit works in a hidden folder that only it holds, writes a checkpoint (`checkpoint`) after
every epoch, and shows its folder under its final name when everything is in it.
Killed anywhere, it goes on from the last whole epoch. All randomness of an epoch
follows from (seed, fold, epoch), so an interrupted unit ends with the same bits
as an uninterrupted one, whatever ran before or beside it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock, write_atomically
from mfhca_train.config.settings import Config, TrainConfig
from mfhca_train.data.corpus import Array, Corpus, Normaliser, Segments
from mfhca_train.data.folds import Fold
from mfhca_train.model.network import parameter_counts
from mfhca_train.model.saved import build_network, inputs_of, save_inputs
from mfhca_train.results import layer_weights
from mfhca_train.results.checksums import write_result
from mfhca_train.results.files import csv_text
from mfhca_train.results.schema import RESULT_FILE
from mfhca_train.results.summary import read_result
from mfhca_train.training import process
from mfhca_train.training.checkpoint import CHECKPOINT, HISTORY, load_best, resume, save_best, save_checkpoint
from mfhca_train.training.evaluate import Evaluation, autocast, evaluate, write_predictions
from mfhca_train.training.unit import begin_folder, publish_folder

LOCK_PATIENCE_SECONDS = 5.0  # an orphan of a killed run lets go within about a second


def derived_seed(seed: int, fold: str, epoch: int) -> int:
    """A 63-bit seed for one epoch of one fold (epoch 0: the initial weights).

    >>> derived_seed(0, "03", 1) == derived_seed(0, "03", 1) != derived_seed(0, "03", 2)
    True
    """
    digest = hashlib.sha256(f"{seed}/{fold}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def fit(
    corpus: Corpus,
    fold: Fold,
    seed: int,
    config: Config,
    folder: Path,
    device: str = "cpu",
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    identity: str = "",
    side_by_side: int = 1,
) -> dict[str, Any]:
    """Trains and tests one fold, or returns the result that is already there.

    Args:
        corpus: the open features.
        fold: its speakers.
        seed: of the run; the fold's own seed is derived from it.
        config: all settings.
        folder: where the finished unit appears (`result.json`, `best.safetensors`, `history.csv`,
            `inputs.safetensors`, `predictions.csv`, `segments.csv`).
        device: cpu, cuda or mps.
        on_epoch: called with each row of the history.
        identity: digest of all that decides the run; what an earlier run with another one left is refused.
        side_by_side: how many folds an accelerator trains at once, for its memory alone; see `machine.holds`.

    Returns:
        The content of `result.json`.

    Raises:
        MfhcaError: the loss is not finite, the disk is full, or another process trains this unit.
    """
    result_file = folder / RESULT_FILE
    if result_file.exists():
        return read_result(folder, identity)
    work = folder.with_name(f".{folder.name}.partial")
    with lock(folder.with_name(f".{folder.name}.lock"), f"{folder}: this fold", LOCK_PATIENCE_SECONDS):
        if result_file.exists():  # another process has finished it between the look and the lock
            return read_result(folder, identity)
        begin_folder(work)
        if process.holds(device, corpus.stored_bytes(), side_by_side):
            corpus.make_resident(device)
        result = _Trainer(corpus, fold, seed, config, work, device, identity).run(on_epoch)
        result = write_result(work, result)
        (work / CHECKPOINT).unlink(missing_ok=True)
        publish_folder(work, folder)
    return result


class _Trainer:
    """Everything that one unit needs while it runs."""

    def __init__(
        self, corpus: Corpus, fold: Fold, seed: int, config: Config, work: Path, device: str, identity: str
    ) -> None:
        self.corpus, self.fold, self.seed, self.config = corpus, fold, seed, config
        self.work, self.device, self.identity = work, device, identity
        self.name = "/".join(work.parts[-3:-1]) + f"/fold-{fold.id}"  # of its folder, for the log
        self.train_utterances = corpus.of_speakers(fold.train)
        self.normalisers = normalisers(corpus, self.train_utterances, config)
        torch.manual_seed(derived_seed(seed, fold.id, 0))
        self.inputs = inputs_of(corpus, fold, self.normalisers)
        self.model = build_network(config.model, self.inputs.shapes, len(corpus.classes)).to(device)
        train = config.train
        kind = torch.optim.AdamW if train.weight_decay else torch.optim.Adam
        self.optimiser = kind(self.model.parameters(), lr=train.lr, weight_decay=train.weight_decay)
        self.best_sha256 = ""  # of the selected weights as they were written
        self.weights = None
        if train.class_weights:
            counts = np.bincount(corpus.labels[self.train_utterances], minlength=len(corpus.classes))
            present = (counts > 0).sum()
            weights = np.where(counts > 0, counts.sum() / (present * np.maximum(counts, 1)), 0.0)
            self.weights = torch.from_numpy(weights).float().to(device)

    def run(self, on_epoch: Callable[[dict[str, float]], None] | None) -> dict[str, Any]:
        train, fold = self.config.train, self.fold
        segments = self.corpus.segments(self.train_utterances)
        validation = self.corpus.of_speakers(fold.validation)
        validation_segments = self.corpus.segments(validation)
        history, self.best_sha256 = resume(self.work, self.model, self.optimiser, self.identity)
        while len(history) < train.epochs and not _out_of_patience(history, train.patience):
            epoch = len(history) + 1
            start = time.monotonic()
            loss = self._epoch(segments, epoch)
            trained = time.monotonic() - start
            judged = self._evaluate(validation, validation_segments)
            row = {
                "epoch": epoch,
                "train_loss": loss,
                "validation_loss": judged.loss,
                "validation_wa": judged.scores.wa,
                "validation_ua": judged.scores.ua,
            }
            history.append(row)
            if best_row(history) is row:
                self.best_sha256 = save_best(self.work, self.model, epoch)
            save_checkpoint(self.work, self.model, self.optimiser, history, self.identity, self.best_sha256)
            log.LOG.debug(
                "%s epoch %d: %.2f s (training %.2f s, %.1f segments/s), "
                "loss %.4f, validation loss %.4f, WA %.4f, UA %.4f",
                self.name,
                epoch,
                time.monotonic() - start,
                trained,
                len(segments) / trained,
                *list(row.values())[1:],
            )
            if on_epoch:
                on_epoch(row)
        return self._finish(history)

    def _epoch(self, segments: Segments, epoch: int) -> float:
        """One pass over the training segments in a fresh order; the mean loss."""
        derived = derived_seed(self.seed, self.fold.id, epoch)
        torch.manual_seed(derived)  # dropout
        order = np.random.default_rng(derived).permutation(len(segments))
        self.model.train()
        total = torch.zeros((), device=self.device)
        size = self.config.train.batch_size
        steps = -(-len(segments) // size)
        batches = self.corpus.batches(segments, order, size, self.normalisers, self.device)
        for step, batch in enumerate(batches, start=(epoch - 1) * steps + 1):
            for group in self.optimiser.param_groups:
                group["lr"] = self.config.train.lr * lr_factor(self.config.train, step, steps)
            self.optimiser.zero_grad(set_to_none=True)
            with autocast(self.device, self.config.train.precision):
                logits = self.model(*batch.inputs).logits
            loss = functional.cross_entropy(logits.float(), batch.label, weight=self.weights)
            loss.backward()
            self.optimiser.step()
            total += loss.detach() * len(batch.label)
        mean = float(total) / len(segments)
        if not np.isfinite(mean):
            raise MfhcaError(
                f"fold {self.fold.id}, seed {self.seed}, epoch {epoch}: the loss is {mean}; lower train.lr"
            )
        return mean

    def _evaluate(self, chosen: Array, segments: Segments) -> Evaluation:
        return evaluate(
            self.model,
            self.corpus,
            chosen,
            segments,
            self.normalisers,
            self.device,
            self.config.train.precision,
        )

    def _finish(self, history: list[dict[str, float]]) -> dict[str, Any]:
        """The test pass with the selected weights, and every file of the unit but result.json."""
        fold, corpus = self.fold, self.corpus
        best = best_row(history)
        load_best(self.work, self.model, str(best["epoch"]), self.best_sha256, self.device)
        test = corpus.of_speakers(fold.test)
        segments = corpus.segments(test)
        judged = self._evaluate(test, segments)
        write_atomically(
            self.work / "history.csv", csv_text(HISTORY, [[row[name] for name in HISTORY] for row in history])
        )
        write_predictions(self.work, corpus, test, segments, judged)
        save_inputs(self.work, self.inputs)
        absent = [
            name for name, recall in zip(corpus.classes, judged.scores.recalls, strict=True) if recall is None
        ]
        return {
            "id": fold.id,
            "seed": self.seed,
            "identity": self.identity,
            "test_speakers": list(fold.test),
            "validation_speakers": list(fold.validation),
            "train_speakers": list(fold.train),
            "selected_on": "test" if set(fold.validation) & set(fold.test) else "validation",
            "n_utterances": len(test),
            "n_segments": len(segments),
            "wa": judged.scores.wa,
            "ua": judged.scores.ua,
            "f1": judged.scores.f1,
            "recalls": list(judged.scores.recalls),
            "classes_absent": absent,
            "confusion": judged.confusion.tolist(),
            "best_epoch": best["epoch"],
            "epochs": len(history),
            "stopped_by": "patience"
            if _out_of_patience(history, self.config.train.patience)
            else "epoch limit",
            "validation_wa": best["validation_wa"],
            "validation_ua": best["validation_ua"],
            "parameters": parameter_counts(self.model),
            **layer_weights.named(self.model.layer_weights),
        }


def lr_factor(config: TrainConfig, step: int, steps: int) -> float:
    """What the learning rate is multiplied by.

    Args:
        config: `schedule` and `epochs` are read.
        step: 1 for the first of the whole training.
        steps: per epoch.

    >>> [round(lr_factor(TrainConfig(schedule="cosine", epochs=3), step, 2), 3) for step in range(1, 7)]
    [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if config.schedule == "constant":
        return 1.0
    if step <= steps:
        return step / steps
    done = (step - steps - 1) / max(1, (config.epochs - 1) * steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def normalisers(corpus: Corpus, train_utterances: Array, config: Config) -> dict[str, Normaliser | None]:
    """What the inputs are scaled by, from the training speakers alone."""
    how = {
        "spec": config.train.spec_norm,
        "ssl": config.train.ssl_norm,
        "mfcc": "none",
    }  # of length 1 already
    return {side: corpus.normaliser(side, how[side], train_utterances) for side in corpus.features}


def best_row(history: list[dict[str, float]]) -> dict[str, float]:
    """The selected epoch: highest validation WA + UA, ties by lower validation loss, then the earlier epoch."""
    return min(
        history, key=lambda r: (-(r["validation_wa"] + r["validation_ua"]), r["validation_loss"], r["epoch"])
    )


def _out_of_patience(history: list[dict[str, float]], patience: int) -> bool:
    return bool(history) and len(history) - best_row(history)["epoch"] >= patience
