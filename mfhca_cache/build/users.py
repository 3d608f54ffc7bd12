"""manifests.json in a recipe's folder: which manifests use its features, so that `prune` keeps them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from mfhca_cache.build.plan import Target
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock, read_json, write_json

MANIFESTS = "manifests.json"


def record_manifest(targets: Iterable[Target], manifest: Path) -> None:
    """Adds a manifest to manifests.json of each recipe's folder.

    Raises:
        MfhcaError: the folder cannot be written.
    """
    path = manifest.resolve()
    for target in targets:
        while path not in recorded_manifests(target.folder):
            try:
                # Two runs with two manifests may record them at the same time: without the lock one would be lost.
                with lock(target.folder / f".{MANIFESTS}.lock", str(target.folder / MANIFESTS)):
                    known = {*recorded_manifests(target.folder), path}
                    write_json(target.folder / MANIFESTS, sorted(map(str, known)))
            except MfhcaError as error:
                if not isinstance(error.__cause__, BlockingIOError):
                    raise
                time.sleep(0.05)


def recorded_manifests(folder: Path) -> tuple[Path, ...]:
    """The manifests recorded in a recipe's folder, whether they still exist or not.

    Raises:
        MfhcaError: manifests.json is damaged.
    """
    file = folder / MANIFESTS
    if not file.exists():
        return ()
    value = read_json(file)
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise MfhcaError(f"{file}: not a list of manifests; delete it and run `mfhca-cache features` again")
    return tuple(Path(path) for path in value)
