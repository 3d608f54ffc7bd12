"""One fold with one seed, as it is handed to whoever trains it: another process, or another machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mfhca_cache.common import hardware, log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, fsync_folder, sha256_text
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.recipe.folder import read_recipe
from mfhca_train.config.settings import Config
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.data.inputs import SSL_KIND, with_layer
from mfhca_train.results.schema import RESULT_FILE
from mfhca_train.training import process


@dataclass(frozen=True)
class Unit:
    """One fold with one seed: all that a worker needs, and nothing that is large."""

    manifest: Path
    recipes: Mapping[str, Path]
    label_set: str
    config: Config
    fold: Fold
    seed: int
    folder: Path
    threads: int
    device: str
    identity: str  # digest of run.json's deciding part
    label_digest: str
    stats: Mapping[str, tuple[int, int, int]]  # shards as the parent verified them
    # On one accelerator, for its memory alone; a cluster's workers may share one.
    side_by_side: int = process.FOLDS_PER_ACCELERATOR

    @property
    def name(self) -> str:
        """For messages."""
        return f"fold {self.fold.id} seed {self.seed}"

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return (self.folder / RESULT_FILE).exists()

    def absolute(self) -> Unit:
        """The same, for a process that works in another folder."""
        return replace(
            self,
            manifest=self.manifest.absolute(),
            recipes={side: path.absolute() for side, path in self.recipes.items()},
            folder=self.folder.absolute(),
            stats={str(Path(path).absolute()): stat for path, stat in self.stats.items()},
        )


def run_unit(unit: Unit, on_epoch: Callable[[dict[str, float]], Any] | None = None) -> None:
    """Trains one unit in this process; does nothing if its result is there.

    Args:
        unit: what to train.
        on_epoch: called with each row of the history.

    Raises:
        MfhcaError: what it was made for has changed since, or see `fit.fit`.
    """
    process.prepare_process(unit.threads)
    from mfhca_train.training.fit import fit

    manifest = read_manifest(unit.manifest)
    label_set = manifest.label_set(unit.label_set)
    recipes = {side: read_recipe(path) for side, path in unit.recipes.items()}
    if SSL_KIND in recipes:
        recipes[SSL_KIND] = with_layer(recipes[SSL_KIND], unit.config.model.ssl_layer)
    log.LOG.debug("%s: started", unit.name)
    start = time.monotonic()
    with Corpus(recipes, manifest.select(label_set), label_set) as corpus:
        corpus.expect_unchanged(unit.stats)
        if label_digest(corpus) != unit.label_digest:
            raise MfhcaError(f"{unit.manifest}: changed while the run was going on; run the command again")
        device = hardware.resolve_device(unit.device)
        fit(
            corpus,
            unit.fold,
            unit.seed,
            unit.config,
            unit.folder,
            device,
            on_epoch,
            unit.identity,
            unit.side_by_side,
        )
    log.LOG.debug("%s: done in %.1f s", unit.name, time.monotonic() - start)


def begin_folder(work: Path) -> None:
    """Makes the hidden folder a unit works in, or finds it.

    Raises:
        MfhcaError: it cannot be made.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MfhcaError(f"{work}: cannot be written ({error.strerror}); choose another --out") from error


def publish_folder(work: Path, folder: Path) -> None:
    """Shows a whole unit under its final name.

    Raises:
        MfhcaError: something else has that name.
    """
    try:
        os.replace(work, folder)
    except OSError as error:
        raise MfhcaError(f"{folder}: is in the way ({error.strerror}); remove it and run again") from error
    fsync_folder(folder.parent)


def label_digest(corpus: Corpus) -> str:
    """Identity of who says what with which label, in the order of the manifest."""
    rows = [
        [u.utterance, u.speaker, u.session, corpus.classes[label]]
        for u, label in zip(corpus.utterances, corpus.labels, strict=True)
    ]
    return sha256_text(canonical_json(rows))
