"""Generated input: speech-like audio, an encoder of HuBERT base's size, caches of random features. All seeded."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mfhca_cache.build.plan import Target
from mfhca_cache.common.audio_digest import digest_of
from mfhca_cache.common.files import write_json
from mfhca_cache.corpora import demo_encoder
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import folder_for, write_recipe
from mfhca_cache.recipe.kinds import LogSpec, Ssl
from mfhca_cache.store.schema import Origin
from mfhca_cache.store.writer import ShardWriter

Array = np.ndarray[Any, np.dtype[Any]]

RATE = 16_000  # Hz
LABELS = ("ang", "hap", "sad", "neu")
SPEC_SHAPE, SSL_FRAMES, SSL_WIDTH = (300, 200), 149, 768
POOL = 64  # different segments; more would only take longer to generate


def speech_like(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> Array:
    """A voiced buzz with varying pitch and noise, four syllables per second.

    Returns:
        float32 (samples, channels), below full scale.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))  # Hz
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    buzz = np.sum([np.sin(k * phase) / k for k in range(1, 12)], axis=0)
    syllables = np.clip(np.sin(2 * np.pi * 4 * time), 0.02, 1)
    sound = 0.15 * syllables[:, None] * (buzz[:, None] + 0.3 * rng.standard_normal((len(time), channels)))
    clipped: Array = np.clip(sound, -0.99, 0.99)
    return clipped.astype(np.float32)


def linked_corpus(
    root: Path,
    utterances: Sequence[Utterance],
    seconds_of: Callable[[Utterance], float],
    rate: int = RATE,
    channels: int = 1,
    different: int = 32,
) -> dict[str, str]:
    """Writes a few recordings of every length and gives each utterance one of them as a hard link.

    Every file is opened, read and hashed as if it were a separate one, but takes space on disk only once.

    Args:
        root: the corpus root.
        utterances: their `path` is where the audio goes.
        seconds_of: length of each; few different values.
        rate, channels: of the files, 16 bits.
        different: recordings of each length.

    Returns:
        Utterance id -> digest of its audio.
    """
    store = root / ".recordings"
    store.mkdir(parents=True, exist_ok=True)
    recordings: dict[tuple[float, int], tuple[Path, str]] = {}
    digests: dict[str, str] = {}
    folders = set()
    for index, u in enumerate(utterances):
        length, which = seconds_of(u), index % different
        if (length, which) not in recordings:
            path = store / f"{length:g}-{which}.wav"
            soundfile.write(path, speech_like(length, rate, channels, which), rate, subtype="PCM_16")
            recordings[length, which] = path, digest_of(path.read_bytes())
        path, digests[u.utterance] = recordings[length, which]
        target = root / u.path
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.add(target.parent)
        os.link(path, target)
    return digests


def generated_utterances(speakers: int, each: int, seconds: float = 6.0) -> list[Utterance]:
    """`each` utterances of every speaker, labels in turn, genders alternating."""
    digits = len(str(speakers))
    return [
        Utterance(
            f"s{s:0{digits}d}_{i:05d}",
            f"s{s:0{digits}d}/{i:05d}.wav",
            f"s{s:0{digits}d}",
            LABELS[i % len(LABELS)],
            gender="fm"[s % 2],
            samples=round(seconds * RATE),
            sample_rate=RATE,
        )
        for s in range(speakers)
        for i in range(each)
    ]


def write_cache(
    targets: Iterable[Target],
    utterances: Sequence[Utterance],
    digests: dict[str, str],
    segments_of: Callable[[Utterance], int],
) -> None:
    """Shards of random features for every target, written by the project's own writer."""
    of_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for u in utterances:
        of_speaker[u.speaker].append(u)
    for target in targets:
        shape = target.frame_shape
        write_recipe(target.folder, target.recipe, shape)
        pool = np.random.default_rng(0).standard_normal((POOL, *shape), np.float32)
        if target.kind == LogSpec.kind:
            pool = 15 * pool - 60  # about what dB of full scale look like
        pool = pool.astype(np.float16)
        at = 0
        for speaker, rows in of_speaker.items():
            recipe = target.recipe
            with ShardWriter(target.folder, recipe.key, target.kind, speaker, shape, recipe.dtype) as writer:
                for u in rows:
                    count = segments_of(u)
                    at = (at + 1) % (POOL - count)
                    origin = Origin(digests[u.utterance], u.path)
                    writer.append(u.utterance, origin, pool[at : at + count], np.full(count, shape[0]))
                writer.finish(None, (), {})


@dataclass(frozen=True)
class Prepared:
    """A manifest and the cache of its features, without audio."""

    manifest: Path
    cache: Path


def training_corpus(folder: Path, speakers: int, each: int) -> Prepared:
    """Both features at full size (300 x 200, 149 x 768), two segments per utterance, four classes."""
    utterances = generated_utterances(speakers, each)
    ssl = Ssl(weights_sha256="0" * 64, config_sha256="0" * 64, normalise=True, attention_mask=False)
    spec = LogSpec()
    cache = folder / "cache"
    targets = (
        Target(spec, folder_for(cache, spec), SPEC_SHAPE),
        Target(ssl, folder_for(cache, ssl), (SSL_FRAMES, SSL_WIDTH)),
    )
    write_cache(targets, utterances, {u.utterance: "0" * 64 for u in utterances}, lambda _: 2)
    manifest = folder / "generated.csv"
    write_manifest(manifest, utterances)
    return Prepared(manifest, cache)


def encoder(folder: Path, quick: bool) -> Path:
    """A HuBERT with seeded weights in the transformers format: base's size, or the demo's for quick runs."""
    folder.mkdir(parents=True, exist_ok=True)
    if quick:
        demo_encoder.write(folder)
        return folder
    import torch
    from transformers import HubertConfig, HubertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    HubertModel(HubertConfig()).save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", demo_encoder.PREPROCESSOR)
    return folder
