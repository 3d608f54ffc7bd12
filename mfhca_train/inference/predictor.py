"""Predicting emotions of recordings that no cache holds: audio in, probabilities out.

    predictor = Predictor.from_run("runs/emodb", backbone="facebook/hubert-base-ls960")
    for prediction in predictor.predict(["a.wav", "b.flac"]):
        print(prediction.name, prediction.emotion, prediction.probabilities)

Features are those of the run's own recipes, computed by stage one's code and
rounded as its cache would round them; networks judge them as `evaluation` does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mfhca_cache.common import hardware
from mfhca_cache.common.errors import MfhcaError
from mfhca_train.analysis.attention import normalise_weights
from mfhca_train.analysis.probe import attended, over_time
from mfhca_train.data.batch import Array, as_batch, on_device
from mfhca_train.inference.bundle import open_ensemble, read_bundle
from mfhca_train.inference.ensemble import Ensemble, read_run
from mfhca_train.inference.prediction import Attention, Failure, Prediction
from mfhca_train.model.fusion import TIME
from mfhca_train.results.metrics import mean_over_segments
from mfhca_train.training.evaluate import EVALUATION_BATCH, predict_batch

if TYPE_CHECKING:
    from mfhca_cache.features.online import Readable, Recording

BATCH_SIZE = 8  # segments the encoder sees at once; as in settings.BATCH_SIZE, tested
PathLike = str | os.PathLike[str]


@dataclass
class _Waiting:
    """A recording whose segments are being judged. M networks, S segments."""

    name: str
    recording: Recording
    outputs: Array  # (M, S, K)
    weights: Array  # (S, L), the sum over the networks
    left: int  # segments


class Predictor:
    """An ensemble with its encoder, ready for audio.

    Args:
        ensemble: the networks.
        backbone: folder or hub name of the encoder, for networks that read hidden states.
        device: "auto", "cpu", "cuda" or "mps".
        batch_size: segments that the encoder sees at once.
        jobs: decoding threads; by default one a core.

    Raises:
        MfhcaError: no encoder where one is needed, another one than the training features', weights that do not
            fit, or a device that is not there.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        backbone: PathLike | None = None,
        *,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        jobs: int | None = None,
    ) -> None:
        from mfhca_cache.features.online import OnlineExtractor  # stage one, and only here

        self.ensemble = ensemble
        self._device = hardware.resolve_device(device)
        recipes = ensemble.inputs.recipes
        self._kinds = {side: str(recipe["kind"]) for side, recipe in recipes.items()}
        names = {self._kinds[side]: name for side, name in ensemble.inputs.names.items()}
        self._stream = OnlineExtractor(
            recipes.values(),
            None if backbone is None else os.fspath(backbone),
            names,
            device=self._device,
            batch_size=batch_size,
            jobs=jobs or hardware.cores(),
        )
        self._sample_rate = int(next(iter(recipes.values()))["sample_rate"])
        self._models = ensemble.build(self._device)
        self._affine = [on_device(member.inputs.normalisers, self._device) for member in ensemble.members]

    @classmethod
    def open(
        cls,
        path: PathLike,
        backbone: PathLike | None = None,
        *,
        row: str | None = None,
        speaker: str | None = None,
        **options: Any,
    ) -> Predictor:
        """The networks of a run or a bundle.

        Args:
            path: its folder.
            backbone: see the class.
            row: of an ablation's run.
            speaker: of the training corpus; only the networks that were tested on them are taken.
            options: `device`, `batch_size`, `jobs`.

        Raises:
            MfhcaError: the folder is neither, or see the class.
        """
        return cls(_asked(open_ensemble(Path(path), row), speaker), backbone, **options)

    @classmethod
    def from_run(
        cls,
        path: PathLike,
        backbone: PathLike | None = None,
        *,
        row: str | None = None,
        speaker: str | None = None,
        **options: Any,
    ) -> Predictor:
        """The networks of a finished run of `cv` or `ablate`; see `open`."""
        return cls(_asked(read_run(Path(path), row), speaker), backbone, **options)

    @classmethod
    def from_bundle(
        cls, path: PathLike, backbone: PathLike | None = None, *, speaker: str | None = None, **options: Any
    ) -> Predictor:
        """The networks of a bundle that `export` wrote; see `open`."""
        return cls(_asked(read_bundle(Path(path)), speaker), backbone, **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, in the order of all probabilities."""
        return self.ensemble.classes

    def predict(self, paths: Iterable[PathLike], attention: bool = False) -> list[Prediction]:
        """Judges audio files.

        Args:
            paths: files in any format that libsndfile reads.
            attention: whether to say where the networks looked.

        Returns:
            One prediction a file, in order.

        Raises:
            MfhcaError: a file cannot be used (`each` goes on past it), or attention is not over time.
        """
        return list(_whole(self.each(paths, attention)))

    def predict_array(
        self, samples: Array, sample_rate: int, attention: bool = False, name: str = "array"
    ) -> Prediction:
        """Judges audio in memory.

        Args:
            samples: (n,) or (n, channels), floating point with full scale 1.
            sample_rate: Hz.
            attention: see `predict`.
            name: for messages.

        Raises:
            MfhcaError: see `predict`.
        """
        from mfhca_cache.features.online import Samples

        (found,) = _whole(self._run([(name, Samples(samples, sample_rate, name))], attention))
        return found

    def each(self, paths: Iterable[PathLike], attention: bool = False) -> Iterator[Prediction | Failure]:
        """Judges audio files one after the other; see `predict`.

        Yields:
            A prediction, or why there is none. Failures may overtake predictions, which come in order.
        """
        from mfhca_cache.features.online import AudioFile

        return self._run([(os.fspath(path), AudioFile(Path(path))) for path in paths], attention)

    def expect_attention(self) -> None:
        """Checks that the networks' attention is over time.

        Raises:
            MfhcaError: it is not, or there is none.
        """
        config = self.ensemble.config.model
        if attended(config) != TIME:
            reading = f"{config.fusion}, model.hca={config.hca}" if config.fusion == "hca" else config.fusion
            raise MfhcaError(
                f"{self.ensemble.source}: with model.inputs={config.inputs}, model.fusion={reading} the networks "
                "do not weigh moments of time; leave attention out"
            )

    def _run(
        self, recordings: Sequence[tuple[str, Readable]], attention: bool
    ) -> Iterator[Prediction | Failure]:
        if attention:
            self.expect_attention()
        frames = self.ensemble.inputs.shapes["ssl"][-2] if attention else 0
        queue: deque[tuple[_Waiting, int]] = deque()
        for index, found in self._stream.run(recording for _, recording in recordings):
            name = recordings[index][0]
            if isinstance(found, MfhcaError):
                yield Failure(name, str(found))
                continue
            count = len(found.starts)
            outputs = np.empty((len(self._models), count, len(self.classes)))
            waiting = _Waiting(name, found, outputs, np.zeros((count, frames)), count)
            queue.extend((waiting, row) for row in range(count))
            while len(queue) >= EVALUATION_BATCH:
                yield from self._judge(queue)
        while queue:
            yield from self._judge(queue)

    def _judge(self, queue: deque[tuple[_Waiting, int]]) -> Iterator[Prediction]:
        """One batch through all networks; yields the recordings whose last segment was in it."""
        taken = [queue.popleft() for _ in range(min(EVALUATION_BATCH, len(queue)))]
        stored, valid = {}, {}
        for side, kind in self._kinds.items():
            parts = [waiting.recording.features[kind] for waiting, _ in taken]
            rows = [values[row] for (values, _), (_, row) in zip(parts, taken, strict=True)]
            real = [int(frames[row]) for (_, frames), (_, row) in zip(parts, taken, strict=True)]
            stored[side] = torch.from_numpy(np.stack(rows)).to(self._device)
            valid[side] = torch.tensor(real).to(self._device)
        label = torch.zeros(len(taken), dtype=torch.int64, device=self._device)
        config = self.ensemble.config
        for m, (model, affine) in enumerate(zip(self._models, self._affine, strict=True)):
            batch = as_batch(stored, affine, valid, label)
            outputs, attention = predict_batch(model, batch, self._device, config.train.precision)
            for (waiting, row), output in zip(taken, outputs, strict=True):
                waiting.outputs[m, row] = output
            weights = over_time(config.model, attention, batch.spec_valid)
            if weights is not None and taken[0][0].weights.shape[1]:
                found = normalise_weights(weights.float().cpu().numpy())
                for (waiting, row), share in zip(taken, found, strict=True):
                    waiting.weights[row] += share
        for waiting, _ in taken:
            waiting.left -= 1
            if not waiting.left:
                yield self._prediction(waiting)

    def _prediction(self, waiting: _Waiting) -> Prediction:
        recording, (_, count, _) = waiting.recording, waiting.outputs.shape
        one = np.zeros(count, np.int64)
        return Prediction(
            waiting.name,
            recording.seconds,
            count,
            self.classes,
            np.concatenate([mean_over_segments(outputs, one, 1) for outputs in waiting.outputs]),
            sum(member.inputs.seen_in_training(recording.digest) for member in self.ensemble.members),
            self._attention(waiting) if waiting.weights.shape[1] else None,
        )

    def _attention(self, waiting: _Waiting) -> Attention:
        """The weights with their places in time; see `prediction.Attention`."""
        hop, view = self._stream.frame_samples
        _, valid = waiting.recording.features[self._kinds["ssl"]]
        weights = waiting.weights / len(self._models)
        segment = np.repeat(np.arange(len(valid)), valid)
        frame = np.concatenate([np.arange(count) for count in valid])
        starts = waiting.recording.starts[segment] + frame * hop / self._sample_rate
        real = weights[segment, frame]
        return Attention(
            segment,
            starts,
            np.minimum(starts + view / self._sample_rate, waiting.recording.seconds),
            real,
            np.maximum(weights.sum(axis=1) - np.bincount(segment, real, len(valid)), 0),
        )


def _asked(ensemble: Ensemble, speaker: str | None) -> Ensemble:
    """All networks, or those that never met a speaker."""
    return ensemble if speaker is None else ensemble.holding_out(speaker)


def _whole(found: Iterable[Prediction | Failure]) -> Iterator[Prediction]:
    for one in found:
        if isinstance(one, Failure):
            raise MfhcaError(one.reason)
        yield one
