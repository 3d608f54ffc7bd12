"""manifests.json in a recipe's folder: which manifests, with which corpus roots, use its features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_json
from mfhca_cache.common.log import LOG
from mfhca_cache.common.text import plural

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


def note_other_manifests(folder: Path, manifest: Path) -> None:
    """Says so if the features of a recipe were computed for other manifests alone.

    A denoised copy of a corpus has the ids and the paths of the original, so nothing but the audio itself tells their
    caches apart. A manifest may have been copied or renamed since, so this is no error.

    Args:
        folder: of the recipe.
        manifest: whose utterances are read.
    """
    users = recorded_users(folder)
    if users and manifest.resolve() not in {user.manifest for user in users}:
        first, *others = users
        LOG.info(
            "%s: computed for %s (audio in %s)%s, not for %s; `mfhca-cache status` compares features and audio",
            folder,
            first.manifest,
            first.root,
            f" and {plural(len(others), 'other manifest')}" if others else "",
            manifest,
        )
