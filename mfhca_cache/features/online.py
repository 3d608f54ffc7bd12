"""Features of single recordings, computed and rounded as for a cache but not stored.

Prediction from audio uses this module, so that a file has the same features as
through a cache. `extract` computes them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features import hub
from mfhca_cache.features.audio import Blocks, Properties, stream_audio
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.decode import BLOCK, CANCELLED, CONSTANT, SILENT, Channels
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.extract import Extractor, Piece, name_of
from mfhca_cache.features.extract import Readable as Readable
from mfhca_cache.features.segments import segment_starts
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.folder import from_dict
from mfhca_cache.recipe.kinds import Recipe, Ssl
from mfhca_cache.store.schema import DTYPES, as_stored

DIGEST_DIGITS = 12  # in messages
CHECKPOINT_FIELDS = ("weights_sha256", "config_sha256", "normalise", "attention_mask", "attention")


@dataclass(frozen=True)
class AudioFile:
    """An audio file in any format that libsndfile reads."""

    path: Path

    def blocks(self, sample_rate: int, pre_emphasis: float) -> Blocks:
        """Decodes the file; see `audio.stream_audio`."""
        return stream_audio(self.path, sample_rate, pre_emphasis=pre_emphasis)


@dataclass(frozen=True)
class Samples:
    """Audio in memory.

    Attributes:
        values: (n,) or (n, channels), floating point with full scale 1.
        rate: Hz.
        name: for messages.
    """

    values: np.ndarray
    rate: int
    name: str

    def blocks(self, sample_rate: int, pre_emphasis: float) -> Blocks:
        """Equal to what `audio.stream_audio` yields for a file with these samples."""
        values = np.asarray(self.values)
        if values.dtype.kind != "f" or values.ndim not in (1, 2) or 0 in values.shape[1:] or self.rate <= 0:
            raise MfhcaError(
                f"{self.name}: {values.dtype} of shape {values.shape} at {self.rate} Hz, expected floating "
                "point (n,) or (n, channels) with full scale 1 at a rate above 0"
            )
        if values.ndim == 2 and values.shape[1] > values.shape[0] > 0:
            raise MfhcaError(
                f"{self.name}: shape {values.shape} has more channels than samples, expected (n, channels); "
                "transpose it"
            )
        channels = Channels(self.name, self.rate, sample_rate, pre_emphasis)
        digest = hashlib.sha256()
        for start in range(0, len(values), BLOCK):
            block = values[start : start + BLOCK].astype(np.float32)
            digest.update(block.tobytes())
            yield channels.append(block[:, None] if block.ndim == 1 else block)
        yield channels.finish()
        return Properties(
            digest=digest.hexdigest(),
            samples_digest=channels.samples_digest,
            length=channels.resampled,
            native_samples=len(values),
            native_rate=self.rate,
            warnings=channels.warnings(),
        )


@dataclass(frozen=True)
class Recording:
    """The features of one recording. S segments.

    Attributes:
        digest, samples_digest: identities of its audio; see `audio.Audio`.
        seconds: its duration.
        starts: (S,) start of each segment, in seconds.
        features: by kind, (S, T, F) as a cache stores them, and (S,) valid frames.
    """

    digest: str
    samples_digest: str
    seconds: float
    starts: np.ndarray
    features: Mapping[str, tuple[np.ndarray, np.ndarray]]


class OnlineExtractor:
    """Computes the features of recordings one after the other.

    Args:
        recipes: the fields of each recipe, with the same segmentation.
        backbone: folder or hub name of the encoder, if a recipe has hidden states; by default the one with the
            recipe's digests in the local hub cache.
        names: cosmetic names of recipes by kind, for messages.
        device: "auto", "cpu", "cuda" or "mps", for the encoder.
        batch_size: segments per forward pass, rounded up to a multiple of 8.
        jobs: decoding threads.

    Attributes:
        backbone: the checkpoint, or None without hidden states.

    Raises:
        MfhcaError: a recipe of another version of this program, or the encoder is missing, not the recipe's, or
            not needed.
    """

    def __init__(
        self,
        recipes: Iterable[Mapping[str, Any]],
        backbone: str | None = None,
        names: Mapping[str, str] | None = None,
        *,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        jobs: int = 1,
    ) -> None:
        self._recipes: dict[str, Recipe] = {recipe.kind: recipe for recipe in map(from_dict, recipes)}
        self._device, self._jobs = device, jobs
        self._batch_size = -(-batch_size // BATCH_SIZE) * BATCH_SIZE
        self._encoder: Encoder | None = None
        self._reported: set[str] = set()  # warnings, each reported once
        self.backbone: Backbone | None = None
        ssl = self._recipes.get(Ssl.kind)
        if isinstance(ssl, Ssl):
            self.backbone = _checked_backbone(backbone, ssl, (names or {}).get(Ssl.kind, ""))
        elif backbone is not None:
            raise MfhcaError(
                f"backbone {backbone}: would be ignored, because the networks read no hidden states; leave it out"
            )

    @property
    def frame_samples(self) -> tuple[int, int]:
        """Hop and receptive field of the encoder's frames, in samples (320 and 400 for HuBERT)."""
        if self.backbone is None:
            raise ValueError("no recipe has hidden states")
        return math.prod(self.backbone.strides), self.backbone.receptive_samples

    def run(self, recordings: Iterable[Readable]) -> Iterator[tuple[int, Recording | MfhcaError]]:
        """Computes the features of recordings; reads only slightly ahead of the results.

        Args:
            recordings: `AudioFile`, `Samples`, or another `Readable`.

        Yields:
            The index of a recording, and its features or the error. Features come in order.

        Raises:
            MfhcaError: the encoder cannot be loaded.
        """
        ssl = self._recipes.get(Ssl.kind)
        if self._encoder is None and self.backbone is not None and isinstance(ssl, Ssl):
            self._encoder = Encoder(self.backbone, ssl, self._device, self._batch_size)
        extractor: Extractor[tuple[int, str]] = Extractor(self._recipes, self._encoder, self._jobs)
        kinds = tuple(self._recipes)
        requests = (
            ((index, name_of(recording)), recording, kinds) for index, recording in enumerate(recordings)
        )
        for (index, name), results in itertools.groupby(extractor.run(requests), lambda result: result[0]):
            pieces = [self._as_stored(name, result) for _, result in results]
            try:
                yield index, self._recording(name, pieces)
            except MfhcaError as error:
                yield index, error

    def _as_stored(self, name: str, result: Piece | MfhcaError) -> Piece | MfhcaError:
        if isinstance(result, MfhcaError):
            return result
        try:
            features = {
                kind: (as_stored(values, DTYPES[self._recipes[kind].dtype], name, result.first), valid)
                for kind, (values, valid) in result.features.items()
            }
        except MfhcaError as error:
            return error
        return replace(result, features=features)

    def _recording(self, name: str, pieces: list[Piece | MfhcaError]) -> Recording:
        """Joins the pieces of one recording; raises the error among them if there is one."""
        computed = []
        for piece in pieces:
            if isinstance(piece, MfhcaError):
                raise piece
            computed.append(piece)
        audio, segments = computed[-1].audio, sum(piece.segments for piece in computed)
        if audio is None:
            raise ValueError(f"{name}: its last piece is missing")
        for warning in (SILENT, CANCELLED, CONSTANT):
            if warning in audio.warnings:
                raise MfhcaError(f"{name}: a recording {warning}; there is nothing to predict from")
        for warning in set(audio.warnings) - self._reported:
            self._reported.add(warning)
            log.LOG.warning("%s: a recording %s; others like it are not reported", name, warning)
        recipe = next(iter(self._recipes.values()))
        starts = segment_starts(audio.length, segments, recipe.segment_samples, recipe.tail)
        return Recording(
            audio.digest,
            audio.samples_digest,
            audio.length / recipe.sample_rate,
            starts / recipe.sample_rate,
            {
                kind: (
                    np.concatenate([piece.features[kind][0] for piece in computed]),
                    np.concatenate([piece.features[kind][1] for piece in computed]),
                )
                for kind in self._recipes
            },
        )


def _checked_backbone(backbone: str | None, recipe: Ssl, name: str) -> Backbone:
    """The encoder of a recipe.

    Raises:
        MfhcaError: no encoder is given, or it is another one.
    """
    name = name or "the encoder"
    weights = recipe.weights_sha256[:DIGEST_DIGITS]
    if backbone is None:
        cached = hub.find_cached(recipe.weights_sha256, recipe.config_sha256)
        if cached is None:
            raise MfhcaError(
                f"the networks read hidden states of a speech encoder ({name}, weights {weights}...), which is not in "
                "the local hub cache; pass --backbone FOLDER or its name on the hub"
            )
        log.LOG.info("encoder: %s, revision %s, from the local hub cache", cached.name, cached.revision)
        backbone = str(cached.folder)
    resolved = resolve(backbone)
    for field in CHECKPOINT_FIELDS:
        actual, expected = (str(getattr(of, field))[:DIGEST_DIGITS] for of in (resolved, recipe))
        if getattr(resolved, field) != getattr(recipe, field):
            raise MfhcaError(
                f"backbone {backbone}: not the encoder of the training features ({name}): its {field} is {actual}, "
                f"expected {expected}; pass the one with weights {weights}..."
            )
    return resolved
