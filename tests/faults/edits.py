"""What else may happen to a cache and to runs between two commands, or while two of them work at once."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from faults.command import Finished, Running, run
from faults.flips import flip
from faults.kills import do_or_replace, kill_once, unlike
from faults.scene import COMMANDS, Scene, difference, outcome
from faults.trial import Outcome, Trial
from faults.world import World, edit_audio, edit_label, edit_name
from mfhca_cache.manifest.manifest import read_manifest, write_manifest


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """Trials by the name of the fault."""
    return [Trial(fault, n, FAULTS[fault][1]) for fault in FAULTS for n in range(counts.get(fault, 0))]


def _refusal(found: Outcome, finished: Finished, *named: str) -> None:
    """A command must have refused in one line, or one with a list, that names these."""
    found.refusals += finished.refused
    if not finished.refused:
        found.lose(f"did not refuse: exit code {finished.code}: {finished.output[-600:]}")
    for name in named:
        if name not in finished.output:
            found.lose(f"does not name {name}: {finished.output[-600:]}")


def _again(found: Outcome, scene: Scene, world: World, *names: str, edit: str = "") -> None:
    """Commands, one after the other, must make what undisturbed ones make."""
    for name in names:
        found.lose(unlike(scene.do(name), scene, name, world, edit))


def _shard(scene: Scene, chance: random.Random, kind: str = "ssl") -> Path:
    return chance.choice(sorted(scene.cache.glob(f"{kind}-*/*.h5")))


def _cut(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    path = _shard(scene, chance)
    running = Running(COMMANDS["cv"], scene.folder)
    time.sleep(chance.uniform(0, 0.8 * world.references["cv"].seconds))
    os.truncate(path, chance.randrange(path.stat().st_size))
    finished = running.wait()
    if finished.code:
        _refusal(found, finished, path.name)
    else:
        found.lose(difference(outcome(scene, "cv"), world.expected("cv")))
    _again(found, scene, world, "features", "cv")
    return found


def _read_only(world: World, folder: Path, chance: random.Random) -> Outcome:
    name = chance.choice(("features", "cv", "ablate", "report"))
    scene, found = world.before(name).copy(folder), Outcome(tried=1)
    for part in ("cache", "runs"):
        (scene.folder / part).mkdir(exist_ok=True)
    closed = scene.folder / {"features": "cache", "report": "runs/cv"}.get(name, "runs")
    _allow(closed, False)
    _refusal(found, run(COMMANDS[name], scene.folder, plain=True), str(closed.relative_to(scene.folder)))
    _allow(closed, True)
    if name != "features":  # a finished cache may be read-only
        _allow(scene.cache, False)
        for command in ("status", "verify", "features", name):
            finished = run(COMMANDS[command], scene.folder, plain=True)
            if finished.code:
                found.lose(f"{command} on a read-only cache: {finished.output[-300:]}")
        _allow(scene.cache, True)
    _again(found, scene, world, name)
    return found


def _allow(folder: Path, writing: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o755 if path.is_dir() else 0o644) if writing else (0o555 if path.is_dir() else 0o444))


def _at_once(name: str, world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before(name).copy(folder), Outcome(tried=1)
    first = Running(COMMANDS[name], scene.folder)
    time.sleep(chance.uniform(0, 0.9 * world.references[name].seconds))
    second = Running(COMMANDS[name], scene.folder)
    ends = [first.wait(), second.wait()]
    for end in ends:
        if end.code:
            _refusal(found, end, "in use by another process")
    if name == "features":  # what one of them passes over, the other makes
        found.lose(difference(outcome(scene, name), world.expected(name)))
    elif all(end.code for end in ends):
        found.lose("both gave up")
    _again(found, scene, world, name)
    return found


def _two_extractions(world: World, folder: Path, chance: random.Random) -> Outcome:
    return _at_once("features", world, folder, chance)


def _two_runs(world: World, folder: Path, chance: random.Random) -> Outcome:
    return _at_once("cv", world, folder, chance)


def _clock(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    kill_once(world, scene, "cv", chance, Outcome())
    for path in scene.folder.rglob("*"):
        when = chance.uniform(0, 2**32)  # from 1970 to 2106
        os.utime(path, (when, when))
    computed = scene.do("features")
    if "nothing to compute" not in computed.output:
        found.lose(f"features computed something: {computed.output}")
    _again(found, scene, world, "cv", "cv")
    return found


def _older_shard(world: World, folder: Path, chance: random.Random) -> Outcome:
    number = chance.choice(world.edited)
    scene = Scene(world.folder / f"edited-audio-{number}").copy(folder)
    edit, found = edit_name("audio", number), Outcome(tried=1)
    edited = read_manifest(scene.manifest).utterances[number]
    for old in world.before("cv").cache.glob(f"*/{edited.speaker}.h5"):
        shutil.copy2(old, scene.cache / old.parent.name / old.name)
    told = scene.do("status").output
    if not ("stale" in told and edited.path in told):
        found.lose(f"status does not tell: {told}")
    _refusal(found, scene.do("cv"), "not that of the features", edited.utterance)
    found.lose(unlike(do_or_replace(scene, "features", found), scene, "features", world, edit))
    _again(found, scene, world, "cv", edit=edit)
    return found


def _deleted_shard(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    path = _shard(scene, chance)
    if "8 present of 8" not in scene.do("status").output:
        found.lose("status does not find all there")
    path.unlink()
    _refusal(found, scene.do("cv"), path.stem)
    _again(found, scene, world, "features", "cv")
    return found


def _manifest(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.after("cv").copy(folder), Outcome(tried=1)
    text, number = scene.manifest.read_text(), chance.choice(world.edited)
    rows = read_manifest(scene.manifest).utterances
    edited = rows[number]
    edit_label(scene, number)
    _refusal(found, scene.do("cv"), "holds another run", edited.utterance, edited.emotion)
    write_manifest(scene.manifest, [row for row in rows if row != edited])
    _refusal(found, scene.do("cv"), "holds another run", f"{edited.utterance}: only in that run")
    other = next(row.speaker for row in rows if row.speaker != edited.speaker)
    write_manifest(scene.manifest, [replace(r, speaker=other) if r == edited else r for r in rows])
    _refusal(found, scene.do("cv"))
    write_manifest(scene.manifest, [*rows, replace(edited, utterance="another")])
    _refusal(found, scene.do("cv"), "no features", "another")
    scene.manifest.write_text(text)
    _again(found, scene, world, "cv")
    edit_label(scene, number)
    shutil.rmtree(scene.folder / "runs")
    _again(found, scene, world, "features", "cv", edit=edit_name("label", number))
    return found


def _audio(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.after("cv").copy(folder), Outcome(tried=1)
    number = chance.choice(world.edited)
    edited = read_manifest(scene.manifest).utterances[number]
    edit_audio(scene, number)
    told = scene.do("status").output
    if not ("1 stale" in told and edited.path in told):
        found.lose(f"status does not tell: {told}")
    _refusal(found, scene.do("cv"), "not that of the features", edited.utterance)
    # The trial is a copy of a corpus that still exists, so its other audio replaces the features on request only.
    _refusal(found, scene.do("features"), "--replace", edited.utterance)
    replaced = run([*COMMANDS["features"], "--replace"], scene.folder)
    found.lose(unlike(replaced, scene, "features", world, edit_name("audio", number)))
    _refusal(found, scene.do("cv"), "holds another run", edited.utterance, "audio SHA-256")
    shutil.rmtree(scene.folder / "runs")
    _again(found, scene, world, "cv", edit=edit_name("audio", number))
    return found


def _weights(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.after("cv").copy(folder), Outcome(tried=1)
    path = scene.folder / "data/hubert-demo/model.safetensors"
    whole, where = path.read_bytes(), chance.randrange(path.stat().st_size // 2, path.stat().st_size)
    flip(path, where, 0)
    told = scene.do("status").output
    if "another recipe" not in told or "weights_sha256" not in told:
        found.lose(f"status does not tell: {told}")
    _refusal(found, scene.do("predict"), "data/hubert-demo")
    scene.done("features")
    made, before = outcome(scene, "features"), world.expected("features")
    if any(made[name] != digest for name, digest in before.items()) or len(made) == len(before):
        found.lose("features of other weights are not in a folder of their own")
    _refusal(found, scene.do("cv"), "2 recipes of ssl features")
    path.write_bytes(whole)
    key = next(name.split("/")[0] for name in before if name.startswith("ssl"))
    finished = run([*COMMANDS["cv"], "--ssl", key], scene.folder)
    found.lose(unlike(finished, scene, "cv", world))
    return found


def _renamed_shard(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    one = _shard(scene, chance)
    other = chance.choice([path for path in sorted(one.parent.glob("*.h5")) if path != one])
    spare = one.with_suffix(".spare")
    for source, target in ((one, spare), (other, one), (spare, other)):
        source.rename(target)
    _refusal(found, scene.do("verify"), one.name, other.name, "it was renamed")
    _refusal(found, scene.do("cv"), "cache/ssl-")
    _again(found, scene, world, "features", "cv")
    return found


def _deleted_file(world: World, folder: Path, chance: random.Random) -> Outcome:
    scene, found = world.after("cv").copy(folder), Outcome(tried=1)
    path = scene.folder / "runs/cv" / chance.choice(sorted(world.expected("cv")))
    path.unlink()
    for name in ("report", "rescore", "predict"):
        finished = scene.do(name)
        found.refusals += finished.refused
        if finished.code and not finished.refused:
            found.lose(f"{path.name}: {name}: {finished.output[-300:]}")
        elif finished.code == 0 and name != "report" and finished.output != world.references[name].output:
            found.lose(f"{path.name}: {name} says something else: {finished.output[-300:]}")
    finished = scene.do("cv")
    if finished.refused:
        found.refusals += 1
        shutil.rmtree(path.parent)  # as the message says
        finished = scene.do("cv")
    found.lose(unlike(finished, scene, "cv", world))
    return found


FAULTS: Final = {
    "a shard cut short while `cv` reads it": ("`cv` ends as usual, or names the shard in one line", _cut),
    "folders that cannot be written": (
        "one line that names the folder; a finished cache may be read-only",
        _read_only,
    ),
    "two extractions at once": ("each shard is computed by one of them, the same bytes", _two_extractions),
    "two `cv` of one run at once": (
        "one of them trains, the other ends with one line that says so; the same bytes",
        _two_runs,
    ),
    "the clock set back or forward during a run": ("time stamps of files decide nothing", _clock),
    "a shard replaced by an older one": (
        "`status` names the audio, a run based on the newer one refuses to resume",
        _older_shard,
    ),
    "a shard deleted between `status` and `cv`": ("`cv` names the speaker in one line", _deleted_shard),
    "a manifest edited between the stages": (
        "a new run uses the new manifest; an old one refuses and names utterance and class",
        _manifest,
    ),
    "audio edited after extraction": (
        "`status` names it, `features` computes only this utterance, an old run refuses and names it",
        _audio,
    ),
    "an encoder's weights edited in place": (
        "other features in another folder; `cv` asks which, `predict` refuses",
        _weights,
    ),
    "two shards whose names were swapped": (
        "`verify` and `cv` name them, `features` repairs them",
        _renamed_shard,
    ),
    "a file of a finished run deleted": (
        "every command prints the same as before or refuses; `cv` computes it again",
        _deleted_file,
    ),
}
PROMISES: Final = {fault: promise for fault, (promise, _) in FAULTS.items()}
