"""Checks of one corpus: manifest, audio, encoder, disk space, and which features the cache lacks.

These checks are quick: only the encoder is hashed and nothing is decoded; of the
cache, only the existence of each speaker's shard is checked. `mfhca-cache status`
compares everything.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Final

from mfhca_cache.build.plan import Target, make_targets, with_card
from mfhca_cache.build.sources import Source
from mfhca_cache.common import hardware
from mfhca_cache.common.audio_digest import file_digest
from mfhca_cache.common.audio_length import header_length
from mfhca_cache.common.errors import MfhcaError, no_folder
from mfhca_cache.common.text import plural
from mfhca_cache.doctor.machine import MISSING, OK, WARN, Finding, check_hub
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.hub import NAME, is_cached, one_line
from mfhca_cache.manifest.copies import (
    IDENTICAL,
    OVERLAP_REMEDY,
    OVERLAPPING,
    REMEDY,
    find_copies,
    find_overlaps,
)
from mfhca_cache.manifest.manifest import Manifest, read_manifest, resolve_audio
from mfhca_cache.manifest.speakers import speaker_warnings
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.choices import Settings
from mfhca_cache.store.reader import OTHER_FILES, list_recipes

FILE_CHECK_SECONDS: Final = 1.5  # for all files of a corpus; a network file system may be slow
HEADERS_READ: Final = 40  # to estimate lengths that the manifest does not state
DEFAULTS: Final = Settings()
OVERHEAD: Final = 1.1  # shard size relative to its features


@dataclass(frozen=True)
class Request:
    """The options of `mfhca-cache doctor` about a corpus; each may be missing."""

    manifest: Path | None
    root: Path | None
    cache: Path | None
    backbone: str | None
    settings: Settings
    label_set: str | None
    accept_copies: bool = False

    def command(self) -> str:
        """The `features` command that computes what is missing."""
        parts = ["mfhca-cache features", quote(str(self.manifest or "MANIFEST"))]
        parts += ["--root", quote(str(self.root or "DIR")), "--cache", quote(str(self.cache or "cache"))]
        if "ssl" in self.settings.kinds:
            parts += ["--backbone", quote(self.backbone or "ENCODER")]
        parts += [f"--kind {kind}" for kind in self.settings.kinds]
        for name, value in vars(self.settings).items():
            if name != "kinds" and value != getattr(DEFAULTS, name):
                parts.append(f"--{name.removesuffix('_samples').replace('_', '-')} {value}")
        parts += ["--label-set", quote(self.label_set)] if self.label_set else []
        return " ".join(parts)


def check_corpus(request: Request) -> Iterator[Finding]:
    """Checks everything that the request names."""
    utterances: tuple[Utterance, ...] = ()
    if request.manifest is not None:
        try:
            table = read_manifest(request.manifest)
            table.warn()
            utterances = table.select(request.label_set)
            yield _check_manifest(table, utterances, request.label_set)
            others = table.card.label_sets.values() if table.card else ()
            for text in speaker_warnings(table.utterances, table.label_set(request.label_set), others):
                problem, _, remedy = text.partition("; ")
                yield Finding(WARN, f"{table.path}: {problem}", remedy)
            yield from _check_overlaps(table.path, utterances, request.accept_copies)
        except MfhcaError as error:
            yield Finding(MISSING, str(error))
    if request.root is not None:
        yield from _check_audio(request.root, utterances)
        yield from _check_copies(request.root, utterances, request.accept_copies)
    encoder = None
    if request.backbone is not None:
        finding, encoder = _check_encoder(request.backbone)
        yield finding
    if request.cache is not None:
        yield from _check_features(request, request.cache, utterances, encoder)


def _check_manifest(table: Manifest, utterances: Sequence[Utterance], name: str | None) -> Finding:
    label_set = table.label_set(name)
    speakers = {row.speaker for row in utterances}
    summary = (
        f"{table.path}: {plural(len(table.utterances), 'utterance')}, {len(utterances):,} in label set "
        f"{label_set.name} ({', '.join(label_set.classes)}), {plural(len(speakers), 'speaker')}"
    )
    if len(label_set.classes) < 2 or not utterances:
        return Finding(
            MISSING, summary, "at least two classes are required; correct the column emotion or --label-set"
        )
    return Finding(OK, summary)


def _check_audio(root: Path, utterances: Sequence[Utterance]) -> Iterator[Finding]:
    """Whether the files exist, as many as time allows, and whether the first can be read."""
    if not root.is_dir():
        yield Finding(MISSING, no_folder(root), "pass the corpus folder as --root")
        return
    absent, first, checked, start = [], None, 0, time.monotonic()
    for utterance in utterances:
        checked += 1
        try:
            first = first or resolve_audio(root, utterance, allow_outside=True)
            if not (root / utterance.path).is_file():
                absent.append(utterance.path)
        except MfhcaError:
            absent.append(utterance.path)
        if time.monotonic() - start > FILE_CHECK_SECONDS:
            break
    files = plural(checked, "audio file")
    part = files if checked == len(utterances) else f"{files} (the first of {len(utterances):,})"
    if absent:
        remedy = "check --root, or complete the corpus" if len(absent) == checked else "complete the corpus"
        yield Finding(
            MISSING,
            f"{root}: {len(absent):,} of {part} missing, the first is {absent[0]}",
            remedy,
        )
    elif utterances:
        yield Finding(OK, f"{root}: {part} found, by name")
    if first is not None:
        try:
            _, rate = header_length(first)
            yield Finding(OK, f"{first.name} can be read: {rate} Hz")
        except (OSError, RuntimeError) as error:
            yield Finding(
                MISSING,
                f"{first}: cannot be decoded ({one_line(error)})",
                "convert the corpus to WAV or FLAC",
            )


def _check_copies(root: Path, utterances: Sequence[Utterance], accept: bool) -> Iterator[Finding]:
    """Files with equal bytes under two speakers, as many as time allows; only files of equal size are hashed."""
    same_size: dict[int, dict[str, Path]] = defaultdict(dict)
    speakers: dict[int, set[str]] = defaultdict(set)
    for row in utterances:
        file = root / row.path
        if file.is_file() and row.start_s is None and row.end_s is None:
            size = file.stat().st_size
            same_size[size][row.utterance] = file
            speakers[size].add(row.speaker)
    candidates = [
        (name, file)
        for size, files in same_size.items()
        if len(speakers[size]) > 1
        for name, file in files.items()
    ]
    digests, start = {}, time.monotonic()
    for name, file in candidates:
        if time.monotonic() - start > FILE_CHECK_SECONDS:
            break
        with contextlib.suppress(MfhcaError):  # `_check_audio` reports unreadable files
            digests[name] = file_digest(file)
    pairs = find_copies(utterances, digests).across_speakers
    yield from _refused(str(root), pairs, IDENTICAL, REMEDY, accept)
    unchecked = len(candidates) - len(digests)
    if utterances and (unchecked or not pairs):
        part = (
            f"; {unchecked} of {plural(len(candidates), 'file')} of equal size were not" if unchecked else ""
        )
        yield Finding(
            OK,
            f"{root}: {'no other' if pairs else 'no'} identical files under two speakers, compared byte by byte{part} "
            "(`features` compares all files, and the samples of different formats)",
        )


def _check_overlaps(manifest: Path, utterances: Sequence[Utterance], accept: bool) -> Iterator[Finding]:
    """Utterances that overlap in their file."""
    overlaps = find_overlaps(utterances)
    yield from _refused(str(manifest), overlaps.across_speakers, OVERLAPPING, OVERLAP_REMEDY, accept)
    for text in overlaps.warnings():
        yield Finding(WARN, f"{manifest}: {text}", "check the columns start_s and end_s")


def _refused(where: str, pairs: Sequence[str], what: str, remedy: str, accept: bool) -> Iterator[Finding]:
    """One recording under two speakers, unless it is accepted."""
    if pairs:
        problem = f"{where}: {plural(len(pairs), 'pair')} of {what}"
        if accept:
            yield Finding(
                WARN, f"{problem}, accepted: {pairs[0]}", "a test recording may also be in training"
            )
        else:
            yield Finding(MISSING, f"{problem}, the first is {pairs[0]}", remedy)


def _check_encoder(name: str) -> tuple[Finding, Backbone | None]:
    """The encoder, if it is already on this machine; it is not downloaded."""
    from huggingface_hub import constants

    if not Path(name).exists() and NAME.fullmatch(name) and not is_cached(name):
        problem = f"encoder {name}: neither a folder nor in the hub's cache {constants.HF_HUB_CACHE}"
        hub = next(check_hub())
        problem = f"{problem}; {hub.summary}"
        if hub.state == OK and not constants.HF_HUB_OFFLINE:
            return Finding(WARN, problem, "`mfhca-cache features` will download it"), None
        return Finding(MISSING, problem, "download it on another machine and pass its folder"), None
    try:
        encoder = resolve(name)
    except MfhcaError as error:
        return Finding(MISSING, str(error)), None
    summary = f"encoder {encoder.name}: {encoder.model_type}, {encoder.layers} layers of {encoder.width}"
    return Finding(OK, summary), encoder


def _check_features(
    request: Request, cache: Path, utterances: Sequence[Utterance], encoder: Backbone | None
) -> Iterator[Finding]:
    """Which speakers have no features yet, and whether there is disk space for them."""
    kinds = tuple(kind for kind in request.settings.kinds if kind != "ssl" or encoder is not None)
    if not utterances:
        return
    try:
        settings = (
            request.settings if request.manifest is None else with_card(request.settings, request.manifest)
        )
        targets = make_targets(cache, replace(settings, kinds=kinds), encoder)
        recipes = list_recipes(cache) if cache.is_dir() else []
    except MfhcaError as error:
        yield Finding(MISSING, str(error))
        return
    speakers, needed = sorted({row.speaker for row in utterances}), 0.0
    for target in targets:
        missing = {speaker for speaker in speakers if not target.shard(speaker).exists()}
        present = f"{len(speakers) - len(missing):,} of {plural(len(speakers), 'speaker')}"
        summary = f"{cache}: {present} have {target.kind} features"
        others = [r.path.name for r in recipes if r.kind == target.kind and r.path != target.folder]
        if others:
            summary += f" ({', '.join(others)} has another recipe)"
        if missing:
            rows = [row for row in utterances if row.speaker in missing]
            needed += OVERHEAD * target.bytes_of(_estimate_segments(request.root, rows, target))
            yield Finding(MISSING, summary, request.command())
        else:
            yield Finding(OK, summary)
    if "ssl" in request.settings.kinds and encoder is None and request.backbone is None:
        ssl = [recipe.path.name for recipe in recipes if recipe.kind == "ssl"]
        existing = f"; the cache has {', '.join(ssl)}" if ssl else ""
        yield Finding(WARN, f"{cache}: features of kind ssl were not checked{existing}", "pass --backbone")
    files, limit = len(speakers) * max(1, len(targets)) + OTHER_FILES, hardware.open_files_limit()
    if files > limit:
        yield Finding(
            MISSING,
            f"training opens {files} files, one per speaker and kind of features; this system allows {limit:.0f}",
            f"raise the hard limit of open files (`ulimit -Hn {files}` as root, or /etc/security/limits.conf)",
        )
    free = hardware.free_bytes(cache)
    if needed > free:
        yield Finding(
            MISSING,
            f"{needed / 1e9:.1f} GB would be written, {free / 1e9:.1f} GB are free",
            "free disk space, or choose a --cache on another disk",
        )
    elif needed:
        yield Finding(OK, f"about {needed / 1e9:.2f} GB would be written, {free / 1e9:.1f} GB are free")


def _estimate_segments(root: Path | None, utterances: Sequence[Utterance], target: Target) -> int:
    """The number of segments of some utterances; without lengths in the manifest, from the headers of a few files."""
    counts = []
    stated = [row for row in utterances if row.samples is not None and row.sample_rate]
    others = [row for row in utterances if row.samples is None or not row.sample_rate]
    for row in stated + (others[:: max(1, len(others) // HEADERS_READ)] if root is not None else []):
        source = Source(row, (root or Path()) / row.path, "")
        if source.seconds() is not None:
            counts.append(source.segments(target.recipe))
    return round(len(utterances) * sum(counts) / len(counts)) if counts else len(utterances)
