"""What all trials begin with and are compared with: scenes before each command, and what undisturbed commands made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Final

from faults.command import run
from faults.scene import COMMANDS, NEEDS, Digests, Scene, make, outcome
from mfhca_cache.manifest.manifest import read_manifest, write_manifest

EDITED: Final = (0, 5)  # numbers of the utterances whose audio or label is edited
REFERENCES: Final = "references.json"


@dataclass(frozen=True)
class Reference:
    """An undisturbed command."""

    made: Digests
    seconds: float
    calls: int  # that changed files
    output: str
    size: int  # bytes that the scene grew by


@dataclass(frozen=True)
class World:
    """Scenes, by what has been done in them, and references, by command and edit."""

    folder: Path
    references: dict[str, Reference]
    edited: tuple[int, ...] = EDITED

    def before(self, name: str) -> Scene:
        """The scene in which everything but the command itself was done; not to be written to."""
        return Scene(self.folder / _state(NEEDS[name]))

    def after(self, name: str) -> Scene:
        """The scene in which the command was done as well; not to be written to."""
        return Scene(self.folder / _state((*NEEDS[name], name)))

    def expected(self, name: str, edit: str = "") -> Digests:
        """What the command makes, of edited input."""
        return self.references[f"{name}{edit}"].made


def edit_audio(scene: Scene, number: int) -> None:
    """Other speech in an utterance's file."""
    path = scene.audio(number)
    path.write_bytes((scene.folder / "spare.wav").read_bytes())


def edit_label(scene: Scene, number: int) -> None:
    """The other emotion for an utterance."""
    from dataclasses import replace

    rows = list(read_manifest(scene.manifest).utterances)
    labels = sorted({row.emotion for row in rows})
    rows[number] = replace(rows[number], emotion=labels[labels[0] == rows[number].emotion])
    write_manifest(scene.manifest, rows)


EDITS: Final[dict[str, Callable[[Scene, int], None]]] = {"audio": edit_audio, "label": edit_label}


def edit_name(what: str, number: int) -> str:
    """How an edit is called in `World.references`."""
    return f", {what} of {number} edited"


def _state(done: tuple[str, ...]) -> str:
    return "+".join(("scene", *done)).replace(" ", "-").replace(",", "")


def prepare(
    folder: Path,
    names: Collection[str] = tuple(NEEDS),
    edited: tuple[int, ...] = EDITED,
    edits: Collection[str] = tuple(EDITS),
) -> World:
    """Makes scenes and references in a folder, or finds them there.

    Args:
        folder: where.
        names: of the commands that are wanted.
        edited: numbers of utterances that an edit may choose.
        edits: those of EDITS that are wanted.

    Raises:
        RuntimeError: an undisturbed command failed.
    """
    stored = folder / REFERENCES
    if stored.exists():
        text = json.loads(stored.read_text())
        return World(folder, {name: Reference(**value) for name, value in text.items()}, edited)
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was interrupted
    references: dict[str, Reference] = {}
    world = World(folder, references, edited)
    make(folder / _state(()))
    for name in (name for name in NEEDS if name in names):
        references[name] = _reference(world.before(name).copy(world.after(name).folder), name)
    for name in ("rescore", "predict"):
        references[name] = _reference(world.after("cv"), name)
    for what, number in product(edits, edited):
        scene = world.before("features").copy(folder / f"edited-{what}-{number}")
        EDITS[what](scene, number)
        for name in ("features", "cv"):
            references[f"{name}{edit_name(what, number)}"] = _reference(scene, name)
    text = {name: asdict(reference) for name, reference in references.items()}
    stored.with_suffix(".tmp").write_text(json.dumps(text))
    stored.with_suffix(".tmp").replace(stored)
    return world


def _reference(scene: Scene, name: str) -> Reference:
    before = _size(scene.folder)
    finished = run(COMMANDS[name], scene.folder, count=True)
    if finished.code:
        raise RuntimeError(f"{name}: {finished.output}")
    grown = _size(scene.folder) - before
    return Reference(outcome(scene, name), finished.seconds, finished.calls, finished.output, grown)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
