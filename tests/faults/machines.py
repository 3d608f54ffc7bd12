"""Trials on machines and corpora as they are: a shared cache, inherited variables, bad files among good ones."""

from __future__ import annotations

import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from cluster_factory import Place

from faults.command import Finished, Member, run
from faults.edits import _again, _refusal
from faults.kills import unlike
from faults.scene import COMMANDS, SPEAKERS, Scene, difference, outcome
from faults.trial import Outcome, Trial
from faults.world import World
from mfhca_cache.manifest.manifest import read_manifest, write_manifest

GROUP: Final = 50_000  # of users that need not exist
NO_SPACE: Final = "mount -t tmpfs -o size=4k,nr_inodes=1 none /dev/shm && exec "


def trials(counts: Mapping[str, int]) -> list[Trial]:
    """Trials by the name of the fault."""
    return [Trial(fault, n, FAULTS[fault][1]) for fault in FAULTS for n in range(counts.get(fault, 0))]


def _two_users(world: World, _: Path, chance: random.Random) -> Outcome:
    if os.geteuid():
        return Outcome(skipped="only root can become two other users")
    found = Outcome(tried=1)
    shared = Path(
        tempfile.mkdtemp(prefix="mfhca-group-")
    )  # the folders above a scratch folder may be private
    try:
        shared.chmod(0o755)
        scene = world.before("features").copy(shared / "group")
        for path in (scene.folder, *scene.folder.rglob("*")):
            os.chown(path, -1, GROUP)
            path.chmod(0o2775 if path.is_dir() else 0o664)
        users = [Member(GROUP + number, GROUP) for number in (1, 2)]
        chance.shuffle(users)
        part = scene.manifest.read_text()
        rows = read_manifest(scene.manifest).utterances
        write_manifest(
            scene.manifest, rows[: len(rows) // 2 + 1]
        )  # the second user completes the first one's shard
        for number, (name, user) in enumerate(
            zip(("features", "features", "cv"), [*users, users[0]], strict=True)
        ):
            if number == 1:
                scene.manifest.write_text(part)
            finished = run(COMMANDS[name], scene.folder, member=user)
            if finished.code:
                found.lose(f"{name} of user {user.user}: {finished.output[-600:]}")
        for name in ("features", "cv"):
            found.lose(difference(outcome(scene, name), world.expected(name)))
        for top in (scene.cache, scene.folder / "runs"):
            for path in (top, *top.rglob("*")):
                status = path.stat()
                if status.st_gid != GROUP or status.st_mode & 0o060 != 0o060:
                    found.lose(
                        f"{path.relative_to(scene.folder)}: group {status.st_gid}, mode {status.st_mode:o}"
                    )
    finally:
        shutil.rmtree(shared)
    return found


def _fresh(scene: Scene, name: str, before: str = "", more: Sequence[str] = (), **variables: str) -> Finished:
    """A command in a process of its own: what it inherits is read while libraries are imported."""
    program, *arguments = [*COMMANDS[name], *more]
    command = [sys.executable, "-m", program.replace("-", "_"), *arguments]
    if before:
        command = ["unshare", "--mount", "sh", "-c", f'{before} "$@"', "sh", *command]
    done = subprocess.run(
        command,
        cwd=scene.folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Finished(done.returncode, done.stdout, 0.0)


def _inherited_backend(world: World, folder: Path, _: random.Random) -> Outcome:
    scene, found = world.before("report").copy(folder), Outcome(tried=1)
    finished = _fresh(scene, "report", MPLBACKEND="no_such_backend")
    found.lose(unlike(finished, scene, "report", world))
    return found


def _no_semaphores(world: World, folder: Path, _: random.Random) -> Outcome:
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return Outcome(skipped="mounting is not allowed")
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    finished = _fresh(scene, "cv, two jobs", NO_SPACE)
    found.lose(unlike(finished, scene, "cv", world))
    if "trained one after the other" not in finished.output:
        found.lose(f"does not say so: {finished.output[-600:]}")
    return found


def _machine_code(world: World, folder: Path, chance: random.Random) -> Outcome:
    compiled = str(folder.with_name(f"{folder.name}-numba"))
    scene, found = world.before("cv").copy(folder), Outcome(tried=1)
    # Only the network over spectrograms runs compiled loops; one small fold of it is enough.
    more = [
        "--set",
        "model.inputs=spec",
        "--set",
        "model.grf_channels=4,4",
        "--fold",
        SPEAKERS[0],
        "--no-analysis",
    ]
    first = _fresh(scene, "cv", more=more, NUMBA_CACHE_DIR=compiled)
    if first.code:
        found.lose(f"cv: {first.output[-600:]}")
    expected = outcome(scene, "cv")
    files = [path for path in sorted(Path(compiled).rglob("*")) if path.is_file()]
    if not files:
        found.lose("nothing was compiled")
    for path in files:
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data[: chance.choice((0, len(data) // 2, len(data), len(data)))])
    shutil.rmtree(scene.folder / "runs")
    again = _fresh(scene, "cv", more=more, NUMBA_CACHE_DIR=compiled)
    found.lose(
        f"cv again: {again.output[-600:]}" if again.code else difference(outcome(scene, "cv"), expected)
    )
    shutil.rmtree(compiled)
    return found


def _bad_files(folder: Path, good: Path) -> list[Path]:
    """One file of each kind that cannot be used, in a folder."""
    folder.mkdir()
    samples, rate = soundfile.read(good)
    whole = good.read_bytes()
    contents = {
        "empty.wav": b"",
        "text.wav": b"no audio\n" * 40,
        "pointer.wav": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
        "cut.wav": whole[: len(whole) // 2],
        "no-rate.wav": whole[:24] + bytes(8) + whole[32:],
        "header.wav": whole[:44],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    soundfile.write(folder / "cut.flac", samples, rate)
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:-2000])
    soundfile.write(
        folder / "nan.wav", np.where(np.arange(len(samples)) == 99, np.nan, samples), rate, "FLOAT"
    )
    soundfile.write(folder / "scale.wav", samples * 32768 * 4, rate, "FLOAT")
    (folder / "folder.wav").mkdir()
    (folder / "gone.wav").symlink_to("nowhere")
    (folder / "circle.wav").symlink_to("circle.wav")
    return sorted(folder.iterdir())


def _with_bad_files(scene: Scene) -> list[str]:
    """Adds the bad files to audio and manifest of a scene; their names."""
    rows = list(read_manifest(scene.manifest).utterances)
    bad = [path.name for path in _bad_files(scene.folder / "data/wav/bad", scene.audio(0))]
    for number, name in enumerate(bad):
        like = rows[number % len(rows)]
        rows.append(
            replace(like, utterance=f"bad-{name}", path=f"wav/bad/{name}", samples=None, sample_rate=None)
        )
    write_manifest(scene.manifest, sorted(rows, key=lambda row: row.utterance))
    return bad


def _features_of(world: World, folder: Path, compute: Callable[[Scene], Finished]) -> Outcome:
    scene = world.before("features").copy(folder)
    text, bad = scene.manifest.read_text(), _with_bad_files(scene)
    found = Outcome(tried=len(bad))
    _refusal(found, compute(scene), *bad)
    found.lose(difference(outcome(scene, "features"), world.expected("features")))
    scene.manifest.write_text(text)
    _again(found, scene, world, "features", "cv")
    return found


def _bad_locally(world: World, folder: Path, _: random.Random) -> Outcome:
    return _features_of(world, folder, lambda scene: scene.do("features"))


def _bad_on_a_cluster(world: World, folder: Path, _: random.Random) -> Outcome:
    place = Place(Path(tempfile.mkdtemp(prefix="mfhca-dask-", dir=folder.parent)))
    try:
        place.ensure(2)
        cluster = ["--backend", "dask", "--scheduler", place.address]
        command = [word for word in COMMANDS["features"] if word != "--jobs"]
        command.remove("1")
        return _features_of(world, folder, lambda scene: run([*command, *cluster], scene.folder))
    finally:
        place.stop()


def _bad_to_predict(world: World, folder: Path, _: random.Random) -> Outcome:
    scene = world.before("report").copy(folder)
    bad = [path.name for path in _bad_files(scene.folder / "bad", scene.audio(0))]
    found = Outcome(tried=len(bad))
    command = list(COMMANDS["predict"])
    command[3:3] = [f"bad/{name}" for name in bad[:3]]  # before the good files
    command += [f"bad/{name}" for name in bad[3:]]
    finished = run(command, scene.folder)
    if finished.code != 1 or finished.crashed:
        found.lose(f"exit code {finished.code}: {finished.output[-600:]}")
    found.lose(", ".join(name for name in bad if f"bad/{name}" not in finished.output) or None)
    for row in csv.reader(world.references["predict"].output.splitlines()):
        if row and row[0].endswith(".wav") and ",".join(row) not in finished.output:
            found.lose(f"no line {row}")
    return found


FAULTS: Final = {
    "two users of a group share cache and run": (
        "each completes what the other began; every file stays the group's",
        _two_users,
    ),
    "an inherited MPLBACKEND that does not exist": ("the report is written as ever", _inherited_backend),
    "no space for semaphores in /dev/shm": ("folds follow one another, with the same bytes", _no_semaphores),
    "damaged machine code in Numba's cache": ("it is compiled again; the same bytes", _machine_code),
    "bad audio files among good ones: `features`": (
        "each is named; the others are computed, with the same bytes",
        _bad_locally,
    ),
    "bad audio files among good ones: `features` on a Dask cluster": (
        "each is named; the others are computed, with the same bytes",
        _bad_on_a_cluster,
    ),
    "bad audio files among good ones: `predict`": (
        "each is named; the others are predicted",
        _bad_to_predict,
    ),
}
PROMISES: Final = {fault: promise for fault, (promise, _) in FAULTS.items()}
