"""Is a corpus ready: its manifest, its audio, its encoder, room for its features, and what the cache lacks.

A quick look, for `mfhca-cache doctor`: nothing is decoded or hashed but the encoder,
and the cache is looked at speaker by speaker. `mfhca-cache status` compares in full.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mfhca_cache.build.plan import Target, targets_of
from mfhca_cache.common import hardware
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.doctor.machine import MISSING, OK, WARN, Finding, hub
from mfhca_cache.features.backbone import CONFIG, PREPROCESSOR, WEIGHTS, Backbone, one_line, resolve
from mfhca_cache.manifest.manifest import Manifest, Utterance, read_manifest, resolve_audio
from mfhca_cache.recipe.choices import Settings
from mfhca_cache.store.reader import list_recipes

LOOK_SECONDS: Final = 1.5  # for all files of a corpus; a network file system may be slow
HEADERS: Final = 40  # read to estimate lengths that the manifest does not tell
DEFAULTS: Final = Settings()
SPARE: Final = 1.1  # what is written besides features


@dataclass(frozen=True)
class Corpus:
    """What the doctor was told of a corpus; all of it may be wanting."""

    manifest: Path | None
    root: Path | None
    cache: Path | None
    backbone: str | None
    settings: Settings
    label_set: str | None

    def command(self) -> str:
        """The command that computes what is missing."""
        parts = ["mfhca-cache features", str(self.manifest or "MANIFEST")]
        parts += ["--root", str(self.root or "DIR"), "--cache", str(self.cache or "cache")]
        if "ssl" in self.settings.kinds:
            parts += ["--backbone", self.backbone or "ENCODER"]
        parts += [f"--kind {kind}" for kind in self.settings.kinds]
        for name, value in vars(self.settings).items():
            if name != "kinds" and value != getattr(DEFAULTS, name):
                parts.append(f"--{name.removesuffix('_samples').replace('_', '-')} {value}")
        parts += ["--label-set", self.label_set] if self.label_set else []
        return " ".join(parts)


def corpus(told: Corpus) -> Iterator[Finding]:
    """Looks at all that was told."""
    chosen: tuple[Utterance, ...] = ()
    if told.manifest is not None:
        try:
            table = read_manifest(told.manifest)
            chosen = table.select(told.label_set)
            yield _manifest(table, chosen, told.label_set)
        except MfhcaError as error:
            yield Finding(MISSING, str(error))
    if told.root is not None:
        yield from _audio(told.root, chosen)
    found = None
    if told.backbone is not None:
        finding, found = _encoder(told.backbone)
        yield finding
    if told.cache is not None:
        yield from _features(told, chosen, found)


def _manifest(table: Manifest, chosen: Sequence[Utterance], name: str | None) -> Finding:
    label_set = table.label_set(name)
    speakers = {u.speaker for u in chosen}
    told = (
        f"{table.path}: {len(table.utterances)} utterances, {len(chosen)} of label set {label_set.name} "
        f"({', '.join(label_set.classes)}), {len(speakers)} speakers"
    )
    if len(label_set.classes) < 2 or not chosen:
        return Finding(
            MISSING, told, "at least two classes are needed; correct the column emotion or --label-set"
        )
    if len(speakers) < 4:
        return Finding(
            WARN, told, "the protocol strict wants four speakers or more; see `mfhca-train cv --help`"
        )
    return Finding(OK, told)


def _audio(root: Path, chosen: Sequence[Utterance]) -> Iterator[Finding]:
    """Whether the files are there, as far as the time goes, and whether the first can be decoded."""
    import soundfile

    if not root.is_dir():
        yield Finding(MISSING, f"{root}: no such folder", "give the corpus folder as --root")
        return
    absent, first, looked, start = [], None, 0, time.monotonic()
    for utterance in chosen:
        looked += 1
        try:
            first = first or resolve_audio(root, utterance, allow_outside=True)
            if not (root / utterance.path).is_file():
                absent.append(utterance.path)
        except MfhcaError:
            absent.append(utterance.path)
        if time.monotonic() - start > LOOK_SECONDS:
            break
    part = f"{looked}" if looked == len(chosen) else f"the first {looked} (of {len(chosen)})"
    if absent:
        remedy = "check --root, or complete the corpus" if len(absent) == looked else "complete the corpus"
        yield Finding(
            MISSING, f"{root}: {len(absent)} of {part} audio files are not there, first {absent[0]}", remedy
        )
    elif chosen:
        yield Finding(OK, f"{root}: the audio of {part} utterances is there")
    if first is not None:
        try:
            header = soundfile.info(first)
            yield Finding(
                OK, f"{first.name} can be read: {header.samplerate} Hz, {header.channels} channel(s)"
            )
        except (soundfile.SoundFileError, RuntimeError) as error:
            yield Finding(
                MISSING,
                f"{first}: cannot be decoded ({one_line(error)})",
                "convert the corpus to WAV or FLAC",
            )


def _encoder(name: str) -> tuple[Finding, Backbone | None]:
    """The encoder, where it is here already; it is not fetched."""
    from huggingface_hub import constants, try_to_load_from_cache

    is_hub_name = not Path(name).exists() and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name)
    if is_hub_name:
        there = {
            file: isinstance(try_to_load_from_cache(name, file), str)
            for file in (*WEIGHTS, CONFIG, PREPROCESSOR)
        }
        if not (there[CONFIG] and there[PREPROCESSOR] and any(there[file] for file in WEIGHTS)):
            what = f"encoder {name}: neither a folder nor in the hub's cache {constants.HF_HUB_CACHE}"
            asked = next(hub())
            if asked.state == OK and not constants.HF_HUB_OFFLINE:
                return Finding(WARN, f"{what}; {asked.what}", "`mfhca-cache features` will download it"), None
            return Finding(
                MISSING, f"{what}; {asked.what}", "download it elsewhere and pass the folder"
            ), None
    try:
        found = resolve(name)
    except MfhcaError as error:
        return Finding(MISSING, str(error)), None
    return Finding(
        OK, f"encoder {found.name}: {found.model_type}, {found.layers} layers of {found.width}"
    ), found


def _features(told: Corpus, chosen: Sequence[Utterance], encoder: Backbone | None) -> Iterator[Finding]:
    """Which speakers have no features yet, and whether there is room for them."""
    cache = told.cache or Path()
    kinds = tuple(kind for kind in told.settings.kinds if kind != "ssl" or encoder is not None)
    if not chosen:
        return
    try:
        targets = targets_of(cache, replace(told.settings, kinds=kinds), encoder)
        others = list_recipes(cache) if cache.is_dir() else []
    except MfhcaError as error:
        yield Finding(MISSING, str(error))
        return
    speakers, needed = sorted({u.speaker for u in chosen}), 0.0
    for target in targets:
        lacking = {speaker for speaker in speakers if not target.shard(speaker).exists()}
        what = (
            f"{cache}: {len(speakers) - len(lacking)} of {len(speakers)} speakers have {target.kind} features"
        )
        same = [
            other.path.name for other in others if other.kind == target.kind and other.path != target.folder
        ]
        if same:
            what += f" ({', '.join(same)} is of another recipe)"
        if lacking:
            needed += SPARE * target.bytes_of(
                _segments(told.root, [u for u in chosen if u.speaker in lacking], target)
            )
            yield Finding(MISSING, what, told.command())
        else:
            yield Finding(OK, what)
    if "ssl" in told.settings.kinds and encoder is None and told.backbone is None:
        ssl = [other.path.name for other in others if other.kind == "ssl"]
        there = f": there are {', '.join(ssl)}" if ssl else ""
        yield Finding(WARN, f"{cache}: features of kind ssl are not looked at{there}", "pass --backbone")
    free = hardware.free_bytes(cache)
    if needed > free:
        yield Finding(
            MISSING,
            f"{needed / 1e9:.1f} GB would be written, {free / 1e9:.1f} GB are free",
            "free space, or choose a --cache on another disk",
        )
    elif needed:
        yield Finding(OK, f"about {needed / 1e9:.2f} GB would be written, {free / 1e9:.1f} GB are free")


def _segments(root: Path | None, chosen: Sequence[Utterance], target: Target) -> int:
    """How many segments some utterances make; where the manifest is silent, by the headers of a few files."""
    import soundfile

    from mfhca_cache.features.audio import segment_count

    recipe, counts = target.recipe, []
    told = [u for u in chosen if u.samples is not None and u.sample_rate]
    silent = [u for u in chosen if u.samples is None or not u.sample_rate]
    for u in told + (silent[:: max(1, len(silent) // HEADERS)] if root is not None else []):
        if u.samples is not None and u.sample_rate:
            seconds = u.samples / u.sample_rate
        else:
            try:
                seconds = soundfile.info((root or Path()) / u.path).duration
            except (soundfile.SoundFileError, RuntimeError):
                continue
        seconds = min(seconds, u.end_s or seconds) - (u.start_s or 0.0)
        samples = round(max(0.0, seconds) * recipe.sample_rate)
        counts.append(
            segment_count(samples, recipe.segment_samples, recipe.tail, recipe.minimum_tail_samples)
        )
    return round(len(chosen) * sum(counts) / len(counts)) if counts else len(chosen)
