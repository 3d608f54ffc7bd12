"""Prediction from audio: recordings in, class probabilities out.

Features are computed with the recipes of the run by the code of stage one, and rounded to the type that its cache
stores; networks are applied as in `training.evaluate`.
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
from mfhca_cache.recipe.kinds import Ssl
from mfhca_train.analysis.attention import normalise_weights
from mfhca_train.analysis.probe import over_time
from mfhca_train.data.batch import Affine, Array, as_batch
from mfhca_train.data.normalise import affine_of
from mfhca_train.inference.bundle import CARD, NETWORKS, open_ensemble, read_bundle
from mfhca_train.inference.ensemble import Ensemble, read_run
from mfhca_train.inference.hub import find_bundle
from mfhca_train.inference.model_card import BundleCard
from mfhca_train.inference.prediction import (
    Attention,
    Failure,
    FrameTimes,
    Prediction,
    attention_of,
    require_attention,
    require_statistics,
    without_failures,
)
from mfhca_train.results.metrics import mean_over_segments
from mfhca_train.training.evaluate import EVALUATION_BATCH, predict_batch

if TYPE_CHECKING:
    from mfhca_cache.features.online import Readable, Recording

BATCH_SIZE = 8  # segments per batch of the encoder; the same number as in cli.inference; a test compares them
PathLike = str | os.PathLike[str]


@dataclass
class _Pending:
    """A recording with segments still to be processed. M networks, S segments."""

    name: str
    recording: Recording
    outputs: Array  # (M, S, K)
    weights: Array  # (S, L), the sum over the networks
    remaining: int  # segments


class Predictor:
    """An ensemble with its encoder, ready for audio.

    Args:
        ensemble: the networks.
        backbone: folder or hub name of the encoder, for networks that read hidden states; by default the encoder of
            the training features in the local hub cache.
        device: "auto", "cpu", "cuda" or "mps".
        batch_size: segments per batch of the encoder.
        jobs: decoding threads; by default one per core.
        one_speaker: the recordings of each call are all by one speaker, whose statistics scale them. Networks that
            were trained with normalisation per speaker need it; the others ignore it.

    Raises:
        MfhcaError: no encoder where one is needed, another encoder than that of the training features, weights that
            do not fit, normalisation per speaker without `one_speaker`, or a device that does not exist.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        backbone: PathLike | None = None,
        *,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        jobs: int | None = None,
        one_speaker: bool = False,
    ) -> None:
        require_statistics(ensemble, one_speaker)
        from mfhca_cache.features.online import OnlineExtractor  # reads audio: not needed to load networks

        self.ensemble = ensemble
        self._device = hardware.resolve_device(device)
        recipes = ensemble.inputs.recipes
        self._kinds = {side: str(recipe["kind"]) for side, recipe in recipes.items()}
        names = {self._kinds[side]: name for side, name in ensemble.inputs.names.items()}
        encoder = ensemble.card.encoder if isinstance(ensemble.card, BundleCard) else None
        names |= {Ssl.kind: encoder.title} if encoder and encoder.title else {}
        self._extractor = OnlineExtractor(
            recipes.values(),
            None if backbone is None else os.fspath(backbone),
            names,
            device=self._device,
            batch_size=batch_size,
            jobs=jobs or hardware.cores(),
        )
        self._sample_rate = int(next(iter(recipes.values()))["sample_rate"])
        self._models = ensemble.build(self._device)
        self._normalisers = [member.inputs.normalisers for member in ensemble.members]

    def __repr__(self) -> str:
        meaning = (
            "; trained on the synthetic demo: its predictions mean nothing" if self.ensemble.is_demo else ""
        )
        return f"Predictor({self.ensemble.title}; {', '.join(self.ensemble.classes)}{meaning})"

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
            speaker: of the training corpus; only networks that were tested on this speaker are used.
            options: `device`, `batch_size`, `jobs`, `one_speaker`.

        Raises:
            MfhcaError: the folder is neither; see also the class.
        """
        return cls(open_ensemble(Path(path), row, speaker).holding_out(speaker), backbone, **options)

    @classmethod
    def from_pretrained(
        cls, name: PathLike, backbone: PathLike | None = None, *, revision: str | None = None, **options: Any
    ) -> Predictor:
        """As `open`, or a bundle by its name on the Hugging Face hub ("someone/emotions"), which is downloaded once.

        Raises:
            MfhcaError: see `open`; the hub cannot be reached, or has no such bundle or revision.
        """
        return cls.open(find_bundle(os.fspath(name), (CARD, NETWORKS), revision), backbone, **options)

    @classmethod
    def from_run(cls, path: PathLike, backbone: PathLike | None = None, **options: Any) -> Predictor:
        """The networks of a finished run of `cv` or `ablate`, not of a bundle; see `open`."""
        row, speaker = options.pop("row", None), options.pop("speaker", None)
        return cls(read_run(Path(path), row, speaker).holding_out(speaker), backbone, **options)

    @classmethod
    def from_bundle(cls, path: PathLike, backbone: PathLike | None = None, **options: Any) -> Predictor:
        """The networks of a bundle that `export` wrote, not of a run; see `open`."""
        speaker = options.pop("speaker", None)
        return cls(read_bundle(Path(path), speaker).holding_out(speaker), backbone, **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """K names, in the order of all probabilities."""
        return self.ensemble.classes

    def predict(self, paths: Iterable[PathLike], attention: bool = False) -> list[Prediction]:
        """Predicts the classes of audio files.

        Args:
            paths: files in any format that libsndfile reads.
            attention: whether to return attention weights.

        Returns:
            One prediction per file, in order.

        Raises:
            MfhcaError: a file cannot be used (`each` skips it), or the attention is not over time.
        """
        return list(without_failures(self.each(paths, attention)))

    def predict_array(
        self, samples: Array, sample_rate: int, attention: bool = False, name: str = "array"
    ) -> Prediction:
        """Predicts the class of audio in memory; see `predict`.

        Args:
            samples: (n,) or (n, channels), floating point with full scale 1.
            sample_rate: Hz.
            name: for messages.

        Raises:
            MfhcaError: see `predict`.
        """
        from mfhca_cache.features.online import Samples

        (found,) = without_failures(self._run([(name, Samples(samples, sample_rate, name))], attention))
        return found

    def each(self, paths: Iterable[PathLike], attention: bool = False) -> Iterator[Prediction | Failure]:
        """Predicts the classes of audio files one after the other; see `predict`.

        Yields:
            A prediction, or the reason for a failure. Predictions are in order; failures may come earlier.
        """
        from mfhca_cache.features.online import AudioFile

        return self._run([(os.fspath(path), AudioFile(Path(path))) for path in paths], attention)

    def require_attention(self) -> None:
        """Checks that the networks have attention over time; see `prediction.require_attention`."""
        require_attention(self.ensemble)

    def _run(
        self, recordings: Sequence[tuple[str, Readable]], attention: bool
    ) -> Iterator[Prediction | Failure]:
        if attention:
            self.require_attention()
        frames = self.ensemble.inputs.shapes["ssl"][-2] if attention else 0
        queue: deque[tuple[_Pending, int]] = deque()
        extracted = self._extractor.run(recording for _, recording in recordings)
        speaker = []
        if self.ensemble.config.normalises_per(
            "speaker"
        ):  # the statistics of the speaker are over all recordings
            results = list(extracted)
            good = [found.features for _, found in results if not isinstance(found, MfhcaError)]
            speaker = [{side: one[kind] for side, kind in self._kinds.items()} for one in good]
            extracted = iter(results)
        affine = affine_of(self._normalisers, speaker, self._device)
        for index, found in extracted:
            name = recordings[index][0]
            if isinstance(found, MfhcaError):
                yield Failure(name, str(found))
                continue
            count = len(found.starts)
            outputs = np.empty((len(self._models), count, len(self.classes)))
            pending = _Pending(name, found, outputs, np.zeros((count, frames)), count)
            queue.extend((pending, row) for row in range(count))
            while len(queue) >= EVALUATION_BATCH:
                yield from self._process_batch(queue, affine)
        while queue:
            yield from self._process_batch(queue, affine)

    def _process_batch(
        self, queue: deque[tuple[_Pending, int]], networks: Sequence[Affine]
    ) -> Iterator[Prediction]:
        """Applies all networks to one batch; yields the recordings whose last segment was in it."""
        batch_rows = [queue.popleft() for _ in range(min(EVALUATION_BATCH, len(queue)))]
        stored, valid = {}, {}
        for side, kind in self._kinds.items():
            features = [pending.recording.features[kind] for pending, _ in batch_rows]
            rows = [values[row] for (values, _), (_, row) in zip(features, batch_rows, strict=True)]
            valid_frames = [
                int(frames[row]) for (_, frames), (_, row) in zip(features, batch_rows, strict=True)
            ]
            stored[side] = torch.from_numpy(np.stack(rows)).to(self._device)
            valid[side] = torch.tensor(valid_frames).to(self._device)
        label = torch.zeros(len(batch_rows), dtype=torch.int64, device=self._device)
        config = self.ensemble.config
        for m, (model, affine) in enumerate(zip(self._models, networks, strict=True)):
            batch = as_batch(stored, affine, valid, label)
            outputs, attention = predict_batch(model, batch, self._device, config.train.precision)
            for (pending, row), output in zip(batch_rows, outputs, strict=True):
                pending.outputs[m, row] = output
            weights = over_time(config.model, attention, batch.spec_valid)
            if weights is not None and batch_rows[0][0].weights.shape[1]:
                found = normalise_weights(weights.float().cpu().numpy())
                for (pending, row), share in zip(batch_rows, found, strict=True):
                    pending.weights[row] += share
        for pending, _ in batch_rows:
            pending.remaining -= 1
            if not pending.remaining:
                yield self._prediction(pending)

    def _prediction(self, pending: _Pending) -> Prediction:
        recording, (_, count, _) = pending.recording, pending.outputs.shape
        one = np.zeros(count, np.int64)
        return Prediction(
            pending.name,
            recording.seconds,
            count,
            self.classes,
            np.concatenate([mean_over_segments(outputs, one, 1) for outputs in pending.outputs]),
            sum(
                member.inputs.seen_in_training(recording.digest, recording.samples_digest)
                for member in self.ensemble.members
            ),
            self._attention(pending) if pending.weights.shape[1] else None,
        )

    def _attention(self, pending: _Pending) -> Attention:
        """The mean weights over the networks, with their times."""
        recording, weights = pending.recording, pending.weights / len(self._models)
        frames = FrameTimes(*self._extractor.frame_samples, self._sample_rate)
        _, valid = recording.features[self._kinds["ssl"]]
        return attention_of(weights, valid, recording.starts, recording.seconds, frames)
