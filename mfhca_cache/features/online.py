"""The features of recordings that belong to no corpus: computed as for a cache, rounded as in one, and kept nowhere.

Whatever predicts from audio starts here, so that a file gives the same numbers
on this way and through a cache. How they are computed is in `extract`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.audio import Audio, read_audio, segment_starts, to_mono
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.extract import Extracted, Extractor
from mfhca_cache.features.extract import Readable as Readable
from mfhca_cache.recipe.choices import BATCH_SIZE
from mfhca_cache.recipe.folder import from_dict
from mfhca_cache.recipe.kinds import Recipe, Ssl
from mfhca_cache.store.schema import DTYPES, as_stored

SHOWN_DIGITS = 12  # of a digest, in messages
OF_THE_CHECKPOINT = ("weights_sha256", "config_sha256", "normalise", "attention_mask", "attention")


@dataclass(frozen=True)
class AudioFile:
    """A file in any format that libsndfile reads."""

    path: Path

    def read(self, sample_rate: int, pre_emphasis: float) -> Audio:
        """Reads and decodes it; see `audio.decode`."""
        return read_audio(self.path, sample_rate, pre_emphasis=pre_emphasis)


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

    def read(self, sample_rate: int, pre_emphasis: float) -> Audio:
        """The same as `audio.decode` gives for a file that holds these samples."""
        values = np.asarray(self.values)
        if values.dtype.kind != "f" or values.ndim not in (1, 2) or 0 in values.shape[1:] or self.rate <= 0:
            raise MfhcaError(
                f"{self.name}: {values.dtype} of shape {values.shape} at {self.rate} Hz, expected floating "
                "point (n,) or (n, channels) with full scale 1 at a rate above 0"
            )
        values = values.astype(np.float32)
        columns = values[:, None] if values.ndim == 1 else values
        mono = to_mono(columns, self.rate, sample_rate, pre_emphasis, self.name)
        return Audio(mono, hashlib.sha256(values.tobytes()).hexdigest(), len(values), self.rate)


@dataclass(frozen=True)
class Recording:
    """What was made of one recording. S segments.

    Attributes:
        digest: of its audio; see `audio.digest_of`.
        seconds: its length.
        starts: (S,) where each segment begins, in seconds.
        features: by kind, (S, T, F) as a cache stores them, and (S,) valid frames.
    """

    digest: str
    seconds: float
    starts: np.ndarray
    features: Mapping[str, tuple[np.ndarray, np.ndarray]]


class Stream:
    """Computes features of recordings one after the other.

    Args:
        recipes: the fields of each recipe wanted; they cut segments alike.
        backbone: folder or hub name of the encoder, if a recipe is of hidden states.
        names: cosmetic names of recipes by kind, for messages.
        device: "auto", "cpu", "cuda" or "mps", for the encoder.
        batch_size: segments of a forward pass, rounded up to a multiple of 8.
        jobs: decoding threads.

    Attributes:
        backbone: the checkpoint, or None without hidden states.

    Raises:
        MfhcaError: a recipe of another version of this program; no encoder where one is needed, or another
            one than the recipe's.
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
        self.backbone: Backbone | None = None
        wanted = self._recipes.get(Ssl.kind)
        if isinstance(wanted, Ssl):
            self.backbone = _expect(backbone, wanted, (names or {}).get(Ssl.kind, ""))
        elif backbone is not None:
            raise MfhcaError(
                f"backbone {backbone}: would be ignored, the networks read no hidden states; leave it out"
            )

    @property
    def frame_samples(self) -> tuple[int, int]:
        """The encoder's step from one frame to the next, and how much audio a frame sees (320 and 400 for HuBERT)."""
        if self.backbone is None:
            raise ValueError("no recipe is of hidden states")
        return math.prod(self.backbone.strides), self.backbone.receptive_samples

    def run(self, recordings: Iterable[Readable]) -> Iterator[tuple[int, Recording | MfhcaError]]:
        """Computes what the recipes ask for; reads only a little ahead of the results.

        Args:
            recordings: `AudioFile`, `Samples`, or anything that is read like them.

        Yields:
            The position of a recording, and its features or why there are none. Those that can be used come in
            order.

        Raises:
            MfhcaError: the encoder cannot be loaded.
        """
        wanted = self._recipes.get(Ssl.kind)
        if self._encoder is None and self.backbone is not None and isinstance(wanted, Ssl):
            self._encoder = Encoder(self.backbone, wanted, self._device, self._batch_size)
        extractor: Extractor[tuple[int, Readable]] = Extractor(self._recipes, self._encoder, self._jobs)
        kinds = tuple(self._recipes)
        requests = (((index, recording), recording, kinds) for index, recording in enumerate(recordings))
        for (index, recording), result in extractor.run(requests):
            try:
                yield index, result if isinstance(result, MfhcaError) else self._as_stored(recording, result)
            except MfhcaError as error:
                yield index, error

    def _as_stored(self, recording: Readable, extracted: Extracted) -> Recording:
        shared = next(iter(self._recipes.values()))
        name = str(getattr(recording, "path", None) or getattr(recording, "name", recording))
        starts = segment_starts(extracted.samples, extracted.segments, shared.segment_samples, shared.tail)
        return Recording(
            extracted.digest,
            extracted.samples / shared.sample_rate,
            starts / shared.sample_rate,
            {
                kind: (as_stored(values, DTYPES[self._recipes[kind].dtype], name), valid)
                for kind, (values, valid) in extracted.features.items()
            },
        )


def _expect(backbone: str | None, recipe: Ssl, name: str) -> Backbone:
    """The encoder that a recipe was made with.

    Raises:
        MfhcaError: none was named, or another one.
    """
    called = name or "the encoder"
    weights = recipe.weights_sha256[:SHOWN_DIGITS]
    if backbone is None:
        raise MfhcaError(
            f"the networks read hidden states of a speech encoder ({called}, weights {weights}...), and no run "
            "says where that lies; pass --backbone FOLDER or its name on the hub"
        )
    found = resolve(backbone)
    different = [field for field in OF_THE_CHECKPOINT if getattr(found, field) != getattr(recipe, field)]
    if different:
        field = different[0]
        here, there = (str(getattr(of, field))[:SHOWN_DIGITS] for of in (found, recipe))
        raise MfhcaError(
            f"backbone {backbone}: not the encoder of the training features ({called}): {field} is {here} "
            f"here, {there} there; pass the one with weights {weights}..."
        )
    return found
