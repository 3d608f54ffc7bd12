"""manifests.json in a recipe's folder: which manifests, with which corpus roots, use its features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_json

MANIFESTS = "manifests.json"


@dataclass(frozen=True, order=True)
class User:
    """A manifest that uses a recipe's features, and the root of its corpus; absolute paths."""

    manifest: Path
    root: Path


def recorded_users(folder: Path) -> tuple[User, ...]:
    """The manifests recorded in a recipe's folder, whether they still exist or not.

    Raises:
        MfhcaError: manifests.json is damaged.
    """
    file = folder / MANIFESTS
    if not file.exists():
        return ()
    entries = read_json(file)
    try:
        users = tuple(User(Path(entry["manifest"]), Path(entry["root"])) for entry in entries)
    except (TypeError, KeyError) as error:
        raise MfhcaError(
            f"{file}: not a list of objects with manifest and root; delete it and run `mfhca-cache features` again"
        ) from error
    return users
