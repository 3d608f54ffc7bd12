"""Trials in which something else could be mistaken for the right features: other audio, other corpora, old formats."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from faults.command import run
from faults.edits import _again, _refusal
from faults.scene import COMMANDS, difference, outcome
from faults.trial import Outcome, Trial
from faults.world import World
from mfhca_cache.manifest.manifest import read_manifest, write_manifest
from mfhca_cache.store.shard import read_shard
from mfhca_cache.store.writer import ShardWriter


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """Trials by the name of the fault."""
    return [Trial(fault, n, FAULTS[fault][1]) for fault in FAULTS for n in range(counts.get(fault, 0))]


def _swapped_paths(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    text, rows = scene.manifest.read_text(), list(read_manifest(scene.manifest).utterances)
    speaker = chance.choice(sorted({row.speaker for row in rows}))
    first, second = (row for row in rows if row.speaker == speaker)
    paths = {first.utterance: second.path, second.utterance: first.path}
    write_manifest(scene.manifest, [replace(row, path=paths.get(row.utterance, row.path)) for row in rows])
    _refusal(found, scene.do("cv"), "computed from other files", first.utterance, second.utterance)
    if "2 stale" not in (told := scene.do("status").output):
        found.lose(f"status does not report it: {told}")
    scene.manifest.write_text(text)
    _again(found, scene, world, "features", "cv")
    return found


def _other_corpus(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    shutil.copytree(scene.folder / "data", scene.folder / "denoised")
    shutil.copy(scene.manifest, scene.folder / "denoised.csv")
    other = chance.choice(read_manifest(scene.manifest).utterances)
    shutil.copy(scene.folder / "spare.wav", scene.folder / "denoised" / other.path)
    command = [*COMMANDS["features"]]
    command[command.index("demo.csv")] = "denoised.csv"
    command[command.index("data")] = "denoised"
    _refusal(found, run(command, scene.folder), "demo.csv uses them", other.utterance, "--replace")
    found.lose(difference(outcome(scene, "features"), world.expected("features")))
    _again(found, scene, world, "features", "cv")
    return found


def _unmounted(world: World, folder: Path, _: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    away = scene.folder / "demo.away"
    scene.manifest.rename(away)
    pruned = run(["mfhca-cache", "prune", "--cache", "cache", "--yes"], scene.folder)
    if pruned.code or "nothing to remove" not in pruned.output:
        found.lose(f"prune: {pruned.output[-300:]}")
    away.rename(scene.manifest)
    found.lose(difference(outcome(scene, "features"), world.expected("features")))
    _again(found, scene, world, "features", "cv")
    return found


def _older_format(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    path = chance.choice(sorted(scene.cache.glob("*/*.h5")))
    path.write_bytes(path.read_bytes().replace(b"mfhca-shard 3", b"mfhca-shard 2", 1))
    if "has shard format version 2" not in (told := scene.do("status").output):
        found.lose(f"status does not report it: {told}")
    if path.parent.name.startswith("ssl"):  # the kind that `cv` reads here
        _refusal(found, scene.do("cv"), "has shard format version 2")
    _again(found, scene, world, "features", "cv")
    return found


def _other_bits(world: World, folder: Path, chance: random.Random) -> Outcome:
    """Features of the same audio with another last bit, as of another processor, or with frames in another order."""
    scene, found = world.after("cv").copy(folder), Outcome(tried=1)
    path = chance.choice(sorted(scene.cache.glob("ssl-*/*.h5")))
    whole, shard = path.read_bytes(), read_shard(path)
    origins, spans = shard.origins(), shard.rows()
    values = (
        np.frombuffer(whole, shard.dtype, math.prod(shard.shape), shard.offset).reshape(shard.shape).copy()
    )
    if chance.random() < 0.5:
        values[0, 0, 0] = np.nextafter(values[0, 0, 0], np.float16(100))
    else:
        values[0] = values[0, ::-1]
    with ShardWriter(
        path.parent, shard.key, shard.kind, shard.speaker, shard.shape[1:], shard.dtype.name
    ) as writer:
        for name, (first, count) in spans.items():
            valid = shard.valid_frames[first : first + count]
            writer.append(name, origins[name], values[first : first + count], valid)
        writer.finish(None, (), shard.provenance)
    verified = scene.do("verify")
    if verified.code:
        found.lose(f"the trial's own shard is not valid: {verified.output[-300:]}")
    _refusal(found, scene.do("cv"), "holds another run", "features_digest")
    path.write_bytes(whole)
    _again(found, scene, world, "cv")
    return found


def _copied_unit(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.after("cv").copy(folder), Outcome(tried=1)
    one, other = chance.sample(sorted((scene.folder / "runs/cv/model/seed-0").glob("fold-*")), 2)
    shutil.rmtree(other)
    shutil.copytree(one, other)
    for name in ("rescore", "predict", "cv", "report"):
        _refusal(found, scene.do(name), "copied or renamed", other.name)
    shutil.rmtree(other)
    _again(found, scene, world, "cv")
    return found


def _encoder_files(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    encoder = scene.folder / "data/hubert-demo"
    name, text, told = chance.choice(ENCODER_FILES)
    (encoder / name).write_text(text)
    for command in ("features", "status"):
        _refusal(found, scene.do(command), told)
    found.lose(difference(outcome(scene, "features"), world.expected("features")))
    (encoder / name).unlink()
    _again(found, scene, world, "features", "cv")
    return found


# A file that changes what an encoder computes, or whose code would run; and what the refusal names.
ENCODER_FILES: Final = (
    ("adapter_config.json", '{"peft_type": "LORA"}', "adapter_config.json"),
    (
        "processor_config.json",
        '{"feature_extractor": {"auto_map": {"AutoFeatureExtractor": "x.X"}}}',
        "auto_map",
    ),
    ("processor_config.json", '{"feature_extractor": {"feature_extractor_type": "Other"}}', "Other"),
)
FAULTS: Final = {
    "paths of two utterances swapped in the manifest": (
        "`status` and `cv` name them; the old manifest gives the old results",
        _swapped_paths,
    ),
    "a second corpus with the same ids in one cache": (
        "`features` refuses and names the utterances and the other manifest; nothing is replaced",
        _other_corpus,
    ),
    "`prune --yes` while the manifests are out of reach": ("everything is kept", _unmounted),
    "features of the same audio with other last bits": (
        "a run on the first ones refuses to resume and says which digest differs; the first ones give the old results",
        _other_bits,
    ),
    "a unit's folder copied to another fold": (
        "`report`, `rescore`, `predict` and `cv` say so; without it `cv` trains the fold again, with the same bytes",
        _copied_unit,
    ),
    "a file added to the encoder": (
        "`features` and `status` refuse it by name; nothing is computed",
        _encoder_files,
    ),
    "a shard of an older format": ("`status` and `cv` say so, `features` computes it again", _older_format),
}
PROMISES: Final = {fault: promise for fault, (promise, _) in FAULTS.items()}
