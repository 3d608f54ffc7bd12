"""Training of one unit: one fold with one seed.

Training writes a checkpoint (`checkpoint`) after every epoch into the unit's hidden folder (`unit`), so a
process that is killed at any moment resumes from its last complete epoch. All randomness of an epoch is
derived from (seed, fold, epoch): an interrupted unit ends with the same bits as an uninterrupted one, in
whatever order and beside whatever else it runs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.settings import Config, TrainConfig
from mfhca_train.data.batch import Array, Normaliser
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold, Side
from mfhca_train.data.segments import Segments
from mfhca_train.model.network import parameter_counts
from mfhca_train.model.saved import build_network, inputs_of, save_inputs
from mfhca_train.results import layer_weights
from mfhca_train.results.summary import read_result
from mfhca_train.training import process
from mfhca_train.training.augment import augment
from mfhca_train.training.checkpoint import load_best, resume, save_best, save_checkpoint
from mfhca_train.training.evaluate import Evaluation, autocast, evaluate
from mfhca_train.training.loss import class_weights, training_loss
from mfhca_train.training.outputs import HISTORY_COLUMNS, TestOutputs, write_outputs
from mfhca_train.training.sampling import epoch_order
from mfhca_train.training.schedule import lr_factor
from mfhca_train.training.unit import CHECKPOINT, REFIT_CHECKPOINT, working_folder


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
    concurrent: int = 1,
) -> dict[str, Any]:
    """Trains and tests one fold, or returns the result that exists already.

    Args:
        corpus: the open features.
        fold: its speakers.
        seed: of the run; the fold's own seeds are derived from it.
        config: all settings.
        folder: where the finished unit appears (`result.json`, `best.safetensors`, `history.csv`,
            `inputs.safetensors`, `predictions.csv`, `segments.csv`).
        device: cpu, cuda or mps.
        on_epoch: called with each row of the history, and with epoch and training loss of each epoch of a refit.
        identity: SHA-256 of everything that decides the run; files of a run with another one are refused.
        concurrent: how many folds share an accelerator's memory; see `process.has_room`.

    Returns:
        The content of `result.json`.

    Raises:
        MfhcaError: the loss is not finite, the disk is full, or another process trains this unit.
    """
    with working_folder(folder, resume=True) as work:
        if work is None:
            return read_result(folder, identity)
        if process.has_room(device, corpus.stored_bytes(), concurrent):
            corpus.copy_to(device)
        result = Trainer(corpus, fold, seed, config, work, device, identity).run(on_epoch)
        for name in (CHECKPOINT, REFIT_CHECKPOINT):
            (work / name).unlink(missing_ok=True)
    return result


class Trainer:
    """The state of one unit while it is trained."""

    def __init__(
        self, corpus: Corpus, fold: Fold, seed: int, config: Config, work: Path, device: str, identity: str
    ) -> None:
        self.corpus, self.fold, self.seed, self.config = corpus, fold, seed, config
        self.work, self.device, self.identity = work, device, identity
        self.environment = process.environment(device)
        self.name = "/".join(work.parts[-3:-1]) + f"/fold-{fold.id}"  # for the log
        self.best_sha256 = ""  # of the file of the best weights
        self._start(fold.id, "train")

    def _start(self, stream: str, *sides: Side) -> None:
        """A new network to train on some sides of the fold; `stream` names the random numbers of its training."""
        corpus, train = self.corpus, self.config.train
        self.stream = stream
        # All units of a row have one identity, but a checkpoint of another unit has seen other speakers.
        self.training = f"{self.identity} {stream} seed {self.seed}"
        utterances = corpus.of_fold(self.fold, *sides)
        self.segments = corpus.segments(utterances)
        self.segment_speakers = [corpus.utterances[utterances[i]].speaker for i in self.segments.utterance]
        self.normalisers = normalisers(corpus, utterances, self.config)
        torch.manual_seed(derived_seed(self.seed, stream, 0))
        self.inputs = inputs_of(corpus, self.fold, self.normalisers)
        self.model = build_network(self.config.model, self.inputs.shapes, len(corpus.classes)).to(self.device)
        optimiser = torch.optim.AdamW if train.weight_decay else torch.optim.Adam
        self.optimiser = optimiser(self.model.parameters(), lr=train.lr, weight_decay=train.weight_decay)
        self.class_weights = None
        if train.class_weights:
            self.class_weights = class_weights(corpus.labels[utterances], len(corpus.classes), self.device)

    def run(self, on_epoch: Callable[[dict[str, float]], None] | None) -> dict[str, Any]:
        """Trains until patience or the epoch limit ends it, and writes the unit's files."""
        train = self.config.train
        validation = self.corpus.of_fold(self.fold, "validation")
        validation_segments = self.corpus.segments(validation)
        history, self.best_sha256 = resume(
            self.work, self.model, self.optimiser, self.training, self.environment
        )
        while len(history) < train.epochs and not _out_of_patience(history, train):
            epoch = len(history) + 1
            start = time.monotonic()
            loss = self.train_epoch(epoch)
            train_seconds = time.monotonic() - start
            evaluation = self.evaluate(validation, validation_segments)
            values = (epoch, loss, evaluation.loss, evaluation.scores.wa, evaluation.scores.ua)
            row: dict[str, float] = dict(zip(HISTORY_COLUMNS, values, strict=True))
            history.append(row)
            if selected_row(history, train.select) is row:
                self.best_sha256 = save_best(self.work, self.model, epoch)
            self._save_checkpoint(history, self.best_sha256, CHECKPOINT)
            log.LOG.debug(
                "%s epoch %d: %.2f s (training %.2f s, %.1f segments/s), "
                "loss %.4f, validation loss %.4f, WA %.4f, UA %.4f",
                self.name,
                epoch,
                time.monotonic() - start,
                train_seconds,
                len(self.segments) / train_seconds,
                *values[1:],
            )
            if on_epoch:
                on_epoch(row)
        selected = selected_row(history, train.select)
        if train.refit:
            self._refit(int(selected["epoch"]), on_epoch)
        return self._finish(history, selected)

    def _refit(self, epochs: int, on_epoch: Callable[[dict[str, float]], None] | None) -> None:
        """Trains a new network for a number of epochs on all speakers but the test speakers.

        The first training chose the number of epochs on the validation speakers; only its scores for them are
        validation scores, and only they are written.
        """
        if self.fold.selects_on_test:
            raise MfhcaError(f"fold {self.fold.id}: train.refit would train on the test speakers")
        self._start(f"{self.fold.id}/refit", "train", "validation")
        losses, _ = resume(
            self.work, self.model, self.optimiser, self.training, self.environment, REFIT_CHECKPOINT
        )
        while len(losses) < epochs:
            epoch = len(losses) + 1
            loss = self.train_epoch(epoch)
            losses.append({"epoch": epoch, "train_loss": loss})
            self._save_checkpoint(losses, "", REFIT_CHECKPOINT)
            log.LOG.debug("%s refit epoch %d of %d: loss %.4f", self.name, epoch, epochs, loss)
            if on_epoch:
                on_epoch(losses[-1])
        self.best_sha256 = save_best(self.work, self.model, epochs)

    def _save_checkpoint(self, history: list[dict[str, float]], best_sha256: str, name: str) -> None:
        save_checkpoint(
            self.work, self.model, self.optimiser, history, self.training, self.environment, best_sha256, name
        )

    def train_epoch(self, epoch: int, limit: int | None = None) -> float:
        """One pass over the training segments in a new order, or its first steps; returns the mean loss of a pass."""
        segments, train = self.segments, self.config.train
        derived = derived_seed(self.seed, self.stream, epoch)
        torch.manual_seed(derived)  # for dropout
        random = np.random.default_rng(derived)
        order = epoch_order(random, train.sampling, segments.label, self.segment_speakers)
        self.model.train()
        total = torch.zeros((), device=self.device)
        size = train.batch_size
        steps = -(-len(segments) // size)
        batches = self.corpus.batches(segments, order, size, self.normalisers, self.device)
        for step, batch in enumerate(islice(batches, limit), start=(epoch - 1) * steps + 1):
            for group in self.optimiser.param_groups:
                group["lr"] = train.lr * lr_factor(train, step, steps)
            batch = augment(batch, train, random)
            self.optimiser.zero_grad(set_to_none=True)
            with autocast(self.device, train.precision):
                logits = self.model(*batch.inputs).logits
            loss = training_loss(logits.float(), batch.label, train, self.class_weights)
            loss.backward()
            self.optimiser.step()
            total += loss.detach() * len(batch.label)
        mean = float(total) / len(segments)
        if not np.isfinite(mean):
            raise MfhcaError(
                f"fold {self.fold.id}, seed {self.seed}, epoch {epoch}: the loss is {mean}; lower train.lr"
            )
        return mean

    def evaluate(self, utterances: Array, segments: Segments) -> Evaluation:
        """The scores of the present weights."""
        return evaluate(
            self.model,
            self.corpus,
            utterances,
            segments,
            self.normalisers,
            self.device,
            self.config.train.precision,
        )

    def _finish(self, history: list[dict[str, float]], selected: dict[str, float]) -> dict[str, Any]:
        """Tests the selected weights and writes every file of the unit."""
        load_best(self.work, self.model, int(selected["epoch"]), self.best_sha256, self.device)
        test = self.corpus.of_fold(self.fold, "test")
        segments = self.corpus.segments(test)
        evaluation = self.evaluate(test, segments)
        save_inputs(self.work, self.inputs)
        return write_outputs(
            self.work,
            self.corpus,
            self.fold,
            self.seed,
            self.identity,
            self.environment,
            history,
            selected,
            "patience" if _out_of_patience(history, self.config.train) else "epoch limit",
            TestOutputs(
                test,
                evaluation.log_probabilities,
                segments.utterance,
                segments.frames(),
                evaluation.segment_log_probabilities,
                len(segments),
            ),
            {"parameters": parameter_counts(self.model), **layer_weights.by_layer(self.model.layer_weights)},
            sorted({*self.fold.train, *self.fold.validation}) if self.config.train.refit else None,
        )


def normalisers(corpus: Corpus, train_utterances: Array, config: Config) -> dict[str, Normaliser | None]:
    """Scaling of each input, estimated on the training speakers alone."""
    # MFCC frames have length 1 already.
    method = {"spec": config.train.spec_norm, "ssl": config.train.ssl_norm, "mfcc": "none"}
    return {side: corpus.normaliser(side, method[side], train_utterances) for side in corpus.features}


def best_row(history: list[dict[str, float]]) -> dict[str, float]:
    """The selected epoch: highest validation WA + UA, ties by lower validation loss, then the earlier epoch."""
    return min(
        history, key=lambda r: (-(r["validation_wa"] + r["validation_ua"]), r["validation_loss"], r["epoch"])
    )


def selected_row(history: list[dict[str, float]], select: str) -> dict[str, float]:
    """The epoch whose weights are kept: see TrainConfig.select."""
    return history[-1] if select == "last" else best_row(history)


def _out_of_patience(history: list[dict[str, float]], train: TrainConfig) -> bool:
    """Whether patience ends the training; with select=last it always reaches the epoch limit."""
    if not history or train.select == "last":
        return False
    return len(history) - best_row(history)["epoch"] >= train.patience
