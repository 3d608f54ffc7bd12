"""Figures that others published: manifests/published.toml, the one place where they are typed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import mfhca_cache
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_toml
from mfhca_train.results.schema import problem

# What an entry of each list must have; see shape.py.
FIGURE = {
    "system": str,
    "corpus": str,
    "label_set": str,
    "wa": float,
    "ua?": float,
    "score": str,
    "protocol": str,
    "source": str,
    "variant?": bool,
    "key?": str,
}
CLAIM = {"what": str, "value": float, "source": str}
PUBLISHED = {"figure": FIGURE, "claim": CLAIM}


def read_published(owner: Path) -> dict[str, list[dict[str, Any]]]:
    """The published.toml that belongs to a grid or manifest: the one beside it, above it, or the project's.

    Args:
        owner: path of the grid or manifest.

    Returns:
        Its lists `figure` and `claim`; empty where there is no such file.

    Raises:
        MfhcaError: the file is damaged.
    """
    for folder in (owner.parent, owner.parent.parent, *manifest_folders()):
        path = folder / "published.toml"
        if path.is_file():
            read = read_toml(path)
            found = {name: read.get(name, []) for name in PUBLISHED}
            wrong = problem(found, {name: [shape] for name, shape in PUBLISHED.items()}, "")
            if wrong:
                raise MfhcaError(f"{path}: {wrong}; mend the entry")
            return found
    return {name: [] for name in PUBLISHED}


def yardsticks(
    figures: Iterable[Mapping[str, Any]], corpus: str, label_set: str, named: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The figures to hold beside a run: of its corpus and label set, and of whole systems.

    Args:
        figures: of published.toml.
        corpus, label_set: of the run.
        named: keys of figures that stand beside a row already.
    """
    return [
        dict(figure)
        for figure in figures
        if (figure["corpus"], figure["label_set"]) == (corpus, label_set)
        and figure.get("key") not in named
        and not figure.get("variant")
    ]


def manifest_folders() -> tuple[Path, ...]:
    """Where the project's own files may be: in an installed package, or at the top of the repository."""
    package = Path(mfhca_cache.__file__).parent
    return package / "manifests", package.parent / "manifests"
