"""A unit of work, one fold with one seed, and the folder that it is made in.

The folder is locked, hidden while the unit is trained, and published by a rename, so a kill leaves it absent or
complete. `checkpoint` resumes an interrupted unit after its last epoch; `queue` restarts a killed worker.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import fsync_folder, lock
from mfhca_cache.recipe.folder import read_recipe
from mfhca_train.config.settings import Config
from mfhca_train.data.class_map import ClassMap
from mfhca_train.data.corpus import Corpus, open_labelled
from mfhca_train.data.folds import Fold
from mfhca_train.data.inputs import SSL_KIND, with_layer
from mfhca_train.data.labelled import Source, read_corpora
from mfhca_train.results.schema import CV_ROW, RESULT_FILE
from mfhca_train.training import process

CHECKPOINT = "checkpoint.safetensors"  # in the hidden folder of an unfinished unit
REFIT_CHECKPOINT = "refit-checkpoint.safetensors"  # of the second training, on the validation speakers too
LOCK_PATIENCE_SECONDS = 5.0  # workers of a killed run end within about a second


@dataclass(frozen=True)
class Unit:
    """All that a worker needs to train one fold with one seed, without the features themselves.

    Attributes:
        manifest: its labels and speakers.
        recipes: recipe folder of each input.
        label_set: as asked for; None for the default.
        config: all settings.
        fold: the speakers for training, validation and test.
        seed: the run's; the seeds of initial weights and epochs are derived from it.
        folder: where the finished unit appears.
        threads: of torch.
        device: as asked for, "auto" included.
        identity: SHA-256 of everything that decides the row's results.
        label_digest: SHA-256 of labels and speakers, see `Corpus.label_digest`.
        shard_stats: inode, size and modification time of each shard when its digest was verified.
        row: name of the row that the unit belongs to.
        concurrent: how many units share the device, to divide an accelerator's memory; changes no result.
        others, class_map: of several corpora, see `data.labelled`.
    """

    manifest: Path
    recipes: Mapping[str, Path]
    label_set: str | None
    config: Config
    fold: Fold
    seed: int
    folder: Path
    threads: int
    device: str
    identity: str
    label_digest: str
    shard_stats: Mapping[str, tuple[int, int, int]]
    row: str = CV_ROW
    concurrent: int = process.FOLDS_PER_ACCELERATOR
    others: tuple[Source, ...] = ()
    class_map: ClassMap = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For messages."""
        name = f"fold {self.fold.id} seed {self.seed}"
        return name if self.row == CV_ROW else f"{self.row}, {name}"

    @property
    def finished(self) -> bool:
        """Whether its result exists."""
        return (self.folder / RESULT_FILE).exists()

    def absolute(self) -> Unit:
        """The same unit with absolute paths, for a process with another working directory."""
        return replace(
            self,
            manifest=self.manifest.absolute(),
            others=tuple(source.absolute() for source in self.others),
            recipes={side: path.absolute() for side, path in self.recipes.items()},
            folder=self.folder.absolute(),
            shard_stats={str(Path(path).absolute()): stat for path, stat in self.shard_stats.items()},
        )


@contextlib.contextmanager
def open_corpus(unit: Unit) -> Iterator[Corpus]:
    """The features that a unit reads.

    Raises:
        MfhcaError: features or labels have changed since the unit was planned.
    """
    recipes = {side: read_recipe(path) for side, path in unit.recipes.items()}
    first = Source(unit.manifest, next(iter(unit.recipes.values())).parent)
    labelled = read_corpora((first, *unit.others), unit.label_set, unit.class_map)
    if SSL_KIND in recipes:
        recipes[SSL_KIND] = with_layer(recipes[SSL_KIND], unit.config.model.ssl_layer)
    with open_labelled(labelled, recipes) as corpus:
        corpus.expect_unchanged(unit.shard_stats)
        if corpus.label_digest() != unit.label_digest:
            raise MfhcaError(f"{labelled.manifests}: changed during the run; run the command again")
        yield corpus


def hidden_folder(folder: Path) -> Path:
    """Where a unit is made before it is renamed to its final folder."""
    return folder.with_name(f".{folder.name}.partial")


@contextlib.contextmanager
def working_folder(folder: Path, resume: bool = False) -> Iterator[Path | None]:
    """The hidden folder that a unit is made in; when the block ends, it is renamed to its final name.

    A reader therefore sees the whole unit or nothing, and a lock keeps two processes from making the same one.

    Args:
        folder: the unit's final folder.
        resume: keep what an interrupted process left in the hidden folder, and what this one leaves on an error;
            otherwise the block starts and fails with an empty one.

    Yields:
        The hidden folder, or None if the unit is finished already.

    Raises:
        MfhcaError: another process makes this unit, or the folder cannot be written.
    """
    hidden = hidden_folder(folder)
    with lock(folder.with_name(f".{folder.name}.lock"), f"{folder}: this fold", LOCK_PATIENCE_SECONDS):
        if (folder / RESULT_FILE).exists():
            yield None
            return
        if not resume:
            shutil.rmtree(hidden, ignore_errors=True)
        try:
            hidden.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MfhcaError(
                f"{hidden}: cannot be written ({error.strerror}); choose another --out"
            ) from error
        try:
            yield hidden
        except BaseException:
            if not resume:
                shutil.rmtree(hidden, ignore_errors=True)
            raise
        publish_folder(hidden, folder)


def publish_folder(hidden: Path, folder: Path) -> None:
    """Renames a complete folder to its final name.

    Raises:
        MfhcaError: something else has that name.
    """
    try:
        os.replace(hidden, folder)
    except OSError as error:
        raise MfhcaError(f"{folder}: is in the way ({error.strerror}); remove it and run again") from error
    fsync_folder(folder.parent)
