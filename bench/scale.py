"""The cost of a segment in small and large corpora, extrapolated to a very large one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench import extraction
from bench.report import Measurement, Section, Table, Target, number
from bench.run import Run
from bench.synthetic import SPEC_SHAPE, SSL_FRAMES, SSL_WIDTH, generated_utterances, linked_corpus
from bench.timing import Spread, private_bytes
from bench.worker import once
from mfhca_cache.build import status as inventory
from mfhca_cache.build.builder import Builder
from mfhca_cache.build.plan import Plan, make_plan, make_targets
from mfhca_cache.build.sources import read_sources
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.recipe.choices import Settings
from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.folds import make_folds

T = TypeVar("T")

MANIFEST = "corpus.csv"
SECONDS = 6.0  # of an utterance, two whole segments
EACH = 50  # utterances per speaker
SIZES = (1_000, 10_000, 100_000)  # segments
TIME = 300.0  # seconds for all sizes together
LARGE_UTTERANCES, LARGE_SPEAKERS = 250_000, 2_000
SEGMENTS_PER_UTTERANCE = 10_993 / 5_531  # IEMOCAP's
SPEC_BYTES = 2 * SPEC_SHAPE[0] * SPEC_SHAPE[1]
SSL_BYTES = 2 * SSL_FRAMES * SSL_WIDTH
FLAT = Target("<=", 1.2)  # how much more a segment of the largest corpus may cost


def timed(measured: dict[str, float], name: str, action: Callable[[], T]) -> T:
    """Returns the result of the action and stores its seconds under `name`."""
    start = time.perf_counter()
    value = action()
    measured[name] = time.perf_counter() - start
    return value


def stage_one(folder: Path, threads: int, segments: int, each: int) -> dict[str, float]:
    """Makes a corpus with two segments per utterance, computes its spectrograms and its status.

    Args:
        folder: an empty folder.
        threads: for decoding and hashing.
        segments: of the corpus.
        each: utterances per speaker.

    Returns:
        Seconds of every phase, and counts.
    """
    utterances = segments // 2
    speakers = max(5, utterances // each)
    root, cache, path = folder / "audio", folder / "cache", folder / MANIFEST
    rows = generated_utterances(speakers, utterances // speakers, SECONDS)
    measured: dict[str, float] = {"utterances": len(rows), "segments": 2 * len(rows), "speakers": speakers}
    linked_corpus(root, rows, lambda _: SECONDS)
    write_manifest(path, rows)

    def plan() -> Plan:
        chosen = read_manifest(path).select()
        sources = read_sources(chosen, root, threads)
        return make_plan(make_targets(cache, Settings(kinds=("logspec",)), None), sources)

    todo = plan()
    builder = Builder(todo.incomplete, todo.sources, jobs=threads)
    timed(measured, "extraction", lambda: builder.run(todo.speakers, path))
    timed(measured, "status", lambda: list(inventory.describe(cache, plan())))
    return measured


def stage_two(folder: Path, reads: int) -> dict[str, float]:
    """Makes folds of the corpus of `stage_one`, opens one, and reads random batches.

    Args:
        folder: `stage_one`'s.
        reads: batches of 32 to gather.

    Returns:
        Seconds of every phase (for reading: per segment), and bytes of memory of the open corpus.
    """
    from mfhca_train.data.corpus import Corpus
    from mfhca_train.data.inputs import choose_recipes

    measured: dict[str, float] = {}
    table = read_manifest(folder / MANIFEST)
    rows, label_set = table.utterances, table.label_set()
    folds = timed(measured, "group-k", lambda: make_folds(rows, "group-k", TrainConfig()))
    timed(measured, "strict", lambda: make_folds(rows, "strict", TrainConfig()))
    before = private_bytes()
    corpus = timed(
        measured, "opening", lambda: Corpus(choose_recipes(folder / "cache", "spec"), rows, label_set)
    )
    measured["corpus bytes"] = private_bytes() - before
    train = corpus.of_speakers(folds[0].train)
    timed(measured, "normaliser", lambda: corpus.normaliser("spec", "standard", train))
    chosen = timed(measured, "listing", lambda: corpus.segments(train))
    order = np.resize(np.random.default_rng(0).permutation(len(chosen)), (reads, 32))

    def read() -> None:
        for pick in order:
            at = chosen.rows["spec"][pick]
            corpus.features["spec"].gather(at[:, 0], at[:, 1])

    read()
    timed(measured, "reading", read)
    measured["reading"] /= order.size
    corpus.close()
    return measured


def fitting(
    wanted: int, before: dict[str, float] | None, seconds_left: float, folder: Path
) -> tuple[int, str]:
    """The size that time and disk allow, at most `wanted`, and the reason if it is smaller."""
    by_disk = int(0.5 * shutil.disk_usage(folder).free / SPEC_BYTES)
    size, why = (wanted, "") if by_disk >= wanted else (by_disk, "half the free disk")
    if before is not None:
        per_segment = 1.2 * before["total"] / before["segments"]
        if (by_time := int(seconds_left / per_segment)) < size:
            size, why = by_time, f"the {TIME:.0f} s of this section"
    return (size if size == wanted else size // 1000 * 1000), why


def measure(run: Run) -> Section:
    """Runs the section."""
    sizes, each, reads = ((20, 80), 2, 2) if run.quick else (SIZES, EACH, 100)
    measured: list[dict[str, float]] = []
    notes = []
    start = time.perf_counter()
    for wanted in sizes:
        last = measured[-1] if measured else None
        size, why = fitting(wanted, last, TIME - (time.perf_counter() - start), run.folder)
        if why:
            notes.append(f"{wanted:,} segments were not measured: {why} allow about {max(size, 0):,}.")
            if last is not None and size < 2 * last["segments"]:
                break
        folder = run.folder / "scale"
        folder.mkdir()
        begun = time.perf_counter()
        try:
            one = once("scale_first", run.cores, folder=str(folder), segments=size, each=each)
            one |= once("scale_second", 1, folder=str(folder), reads=reads)
        finally:
            shutil.rmtree(folder)
        measured.append({**one, "total": time.perf_counter() - begun})
    large = _large(10 if run.quick else 1)
    rows = [
        [
            f"{f['segments']:,.0f}",
            f"{f['speakers']:,.0f}",
            number(1e3 * f["extraction"] / f["segments"]),
            number(1e3 * f["status"] / f["segments"]),
            number(1e6 * f["group-k"] / f["segments"]),
            number(1e6 * f["strict"] / f["segments"]) if "strict" in f else "-",
            number(1e6 * (f["opening"] + f["normaliser"] + f["listing"]) / f["segments"]),
            number(1e6 * f["reading"]),
            number(f["corpus bytes"] / f["segments"]),
        ]
        for f in measured
    ]
    columns = (
        "segments", "speakers", "extraction, ms", "`status`, ms", "folds (group-k), µs", "folds (strict), µs",
        "opening a fold, µs", "reading, µs", "fold's memory, bytes",
    )  # fmt: skip
    first, last = measured[0], measured[-1]
    growth = [
        Measurement(
            f"cost of a segment, largest corpus over smallest: {name}",
            Spread.of([(last[key] / last["segments"]) / (first[key] / first["segments"])]),
            "x",
            FLAT,
        )
        for name, key in (("extraction", "extraction"), ("`status`", "status"))
    ]
    figures = [
        *growth,
        Measurement(
            "cost of a segment, largest corpus over smallest: reading",
            Spread.of([last["reading"] / first["reading"]]),
            "x",
            FLAT,
        ),
        Measurement(
            f"group-k folds of {large['utterances']:,.0f} utterances, {large['speakers']:,.0f} speakers",
            Spread.of([large["seconds"]]),
            "s",
        ),
    ]
    return Section(
        "Scale",
        f"Spectrograms only, two segments per utterance, {each} utterances per speaker, {run.cores} threads, audio and "
        "cache in the page cache as far as they fit; one process per size. Opening a fold is opening all shards, "
        "normalising and listing the training segments.",
        figures,
        [Table("Cost of one segment", columns, rows)],
        [*notes, computed(run, first, last, large)],
    )


def _large(divisor: int) -> dict[str, float]:
    """Makes folds of a corpus as large as the largest public ones, in memory only."""
    speakers = LARGE_SPEAKERS // divisor
    rows = generated_utterances(speakers, LARGE_UTTERANCES // LARGE_SPEAKERS)
    start = time.perf_counter()
    folds = make_folds(rows, "group-k", TrainConfig())
    seconds = time.perf_counter() - start
    tested = sorted(speaker for fold in folds for speaker in fold.test)
    if tested != sorted({u.speaker for u in rows}):
        raise AssertionError("not every speaker is tested exactly once")
    return {"utterances": len(rows), "speakers": speakers, "seconds": seconds}


def computed(run: Run, first: dict[str, float], last: dict[str, float], large: dict[str, float]) -> str:
    """The cost of 250,000 utterances, extrapolated from this run."""
    segments = LARGE_UTTERANCES * SEGMENTS_PER_UTTERANCE
    stored = segments * (SPEC_BYTES + SSL_BYTES)
    spec_hours = segments * last["extraction"] / last["segments"] / 3600
    rate = run.figure("extraction", extraction.PIPELINE)
    hours = (
        f"{number(segments / rate / 3600)} hours for both kinds of features"
        if rate and not run.quick
        else "an unknown time for the encoder (not measured in this run)"
    )
    # The slope excludes what every process needs, whatever the size of the corpus.
    slope = (last["corpus bytes"] - first["corpus bytes"]) / max(
        1.0, last["utterances"] - first["utterances"]
    )
    memory = LARGE_UTTERANCES * 2 * max(slope, 0.0)  # two kinds; an upper bound, they share the manifest
    status = LARGE_UTTERANCES * last["status"] / last["utterances"]
    return (
        "Extrapolated from the largest corpus measured: "
        f"{LARGE_UTTERANCES:,} utterances of {LARGE_SPEAKERS:,} speakers ({segments:,.0f} segments at IEMOCAP's "
        f"{SEGMENTS_PER_UTTERANCE:.2f} each) would take "
        f"{number(spec_hours)} hours for spectrograms alone and {hours} on these {run.cores} cores, "
        f"{number(stored / 1e9)} GB of cache in float16, {number(status)} s for `status` (spectrograms), "
        f"{number(large['seconds'])} s for making group-k folds, and about {number(memory / 1e9)} GB of memory in "
        "every process that opens both kinds."
    )
