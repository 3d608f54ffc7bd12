"""Stage one: the overhead of `features` over the encoder, reduced precision, spectrograms, other audio formats."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import computer
from bench.report import Measurement, Section, Target
from bench.run import Run
from bench.synthetic import RATE, generated_utterances, linked_corpus, speech_like
from bench.timing import Spread, in_turns, ratios
from mfhca_cache.build.builder import Builder
from mfhca_cache.build.plan import make_plan, make_targets
from mfhca_cache.build.sources import read_sources
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.recipe.choices import BATCH_SIZE, Settings
from mfhca_cache.recipe.kinds import Ssl

PIPELINE = "`features`, both kinds, 16 kHz mono"
SPECTRA = "`features --kind logspec`"
SECONDS = 4.5  # IEMOCAP's mean length, two segments
OTHER_RATE = 44_100  # Hz


class Corpus:
    """Audio of one format, whose features are computed repeatedly into a new cache."""

    def __init__(self, folder: Path, utterances: int, rate: int = RATE, channels: int = 1) -> None:
        self.folder = folder
        self.manifest = folder / "corpus.csv"
        self.utterances = generated_utterances(2, utterances // 2, SECONDS)
        linked_corpus(folder / "audio", self.utterances, lambda _: SECONDS, rate, channels)
        write_manifest(self.manifest, self.utterances)

    def features(self, kinds: tuple[str, ...], backbone: Backbone | None, threads: int) -> float:
        """Segments per second of `mfhca-cache features`, after it has read and hashed the audio."""
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        sources = read_sources(self.utterances, self.folder / "audio", threads)
        todo = make_plan(make_targets(cache, Settings(kinds=kinds), backbone), sources)
        builder = Builder(todo.incomplete, sources, backbone, device="cpu", jobs=threads, threads=threads)
        outcome = builder.run(todo.speakers, self.manifest)
        if outcome.failed or outcome.utterances != len(self.utterances):
            raise AssertionError(f"not everything was computed: {outcome.failed}")
        return outcome.segments / outcome.seconds


def bare_forward(folder: Path, batches: int) -> Callable[[], float]:
    """Segments per second of transformers' own HuBERT on inputs in memory."""
    import torch
    from transformers import HubertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = HubertModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    sound = [speech_like(3.0, seed=i)[:, 0] for i in range(BATCH_SIZE)]
    audio = torch.from_numpy(np.stack([(s - s.mean()) / s.std() for s in sound]))

    def measure() -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            for _ in range(batches):
                model(audio)
        return batches * BATCH_SIZE / (time.perf_counter() - start)

    return measure


def precisions(backbone: Backbone, batch: int, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Segments per second of the encoder in float32 and bfloat16, and the lowest cosine between their outputs."""
    samples = np.stack([speech_like(3.0, seed=i)[:, 0] for i in range(batch)])
    real = np.full(batch, samples.shape[1], np.int32)
    states: dict[str, Any] = {}

    def action(dtype: str) -> Callable[[], float]:
        recipe = Ssl(
            weights_sha256=backbone.weights_sha256,
            config_sha256=backbone.config_sha256,
            normalise=backbone.normalise,
            attention_mask=backbone.attention_mask,
            compute_dtype=dtype,
        )
        encoder = Encoder(backbone, recipe, "cpu", batch)
        inputs = encoder.prepare(samples, real)

        def measure() -> float:
            start = time.perf_counter()
            states[dtype] = encoder.forward(inputs, real)
            return batch / (time.perf_counter() - start)

        return measure

    actions = {dtype: action(dtype) for dtype in ("float32", "bfloat16")}
    # An emulated bfloat16 pass takes so long that a warm-up makes no difference.
    rates = in_turns(actions, rounds, warm_up=rounds > 1)
    a, b = (states[dtype].reshape(batch, -1).astype(np.float64) for dtype in ("float32", "bfloat16"))
    cosine = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return rates, float(cosine.min())


def measure(run: Run) -> Section:
    """Runs the section."""
    import torch

    threads, rounds = run.cores, 2 if run.quick else 5
    torch.set_num_threads(threads)
    utterances = 4 if run.quick else 12
    mono = Corpus(run.folder / "mono", utterances)
    stereo = Corpus(run.folder / "stereo", utterances, OTHER_RATE, 2)
    many = Corpus(run.folder / "many", 40 if run.quick else 1500)
    backbone = resolve(str(run.encoder))
    kinds = ("logspec", "ssl")
    rates = in_turns(
        {
            "bare": bare_forward(run.encoder, 2 * utterances // BATCH_SIZE),
            "mono": lambda: mono.features(kinds, backbone, threads),
            "stereo": lambda: stereo.features(kinds, backbone, threads),
        },
        rounds,
    )
    spectra = in_turns({"spectra": lambda: many.features(("logspec",), None, threads)}, 2 if run.quick else 3)
    fast = computer.has_bfloat16() or run.quick
    batch = BATCH_SIZE if fast else 2
    low, cosine = precisions(backbone, batch, 3 if fast else 1)
    extra = [100 * (m / s - 1) for m, s in zip(rates["mono"], rates["stereo"], strict=True)]
    rate, quotient = "segments/s", "x"
    remark = computer.bfloat16_remark()
    return Section(
        "Extraction",
        f"An encoder of {'the demo' if run.quick else 'HuBERT base'}'s size with seeded weights, "
        f"{2 * utterances} segments per turn, batch {BATCH_SIZE}, {threads} threads; the bare forward pass has its "
        "inputs ready in memory, `features` decodes, resamples, computes both features and writes them.",
        [
            Measurement("bare HubertModel forward", Spread.of(rates["bare"]), rate),
            Measurement(PIPELINE, Spread.of(rates["mono"]), rate),
            Measurement(
                "`features` over bare forward",
                Spread.of(ratios(rates["mono"], rates["bare"])),
                quotient,
                Target(">=", 0.95),
            ),
            Measurement("the same speech as 44.1 kHz stereo", Spread.of(rates["stereo"]), rate),
            Measurement("extra time for 44.1 kHz stereo, encoder on", Spread.of(extra), "%", Target("<=", 5)),
            Measurement(SPECTRA, Spread.of(spectra["spectra"]), rate, Target(">=", 300)),
            Measurement("encoder in float32", Spread.of(low["float32"]), rate, note=f"batch {batch}"),
            Measurement(
                "encoder in bfloat16", Spread.of(low["bfloat16"]), rate, note=f"batch {batch}; {remark}"
            ),
            Measurement(
                "encoder: bfloat16 over float32",
                Spread.of(ratios(low["bfloat16"], low["float32"])),
                quotient,
                Target(">=", 1.8),
                remark,
            ),
            Measurement(
                "encoder: lowest cosine of a segment, bfloat16 and float32",
                Spread.of([cosine]),
                "",
                Target(">=", 0.9995),
            ),
        ],
    )
