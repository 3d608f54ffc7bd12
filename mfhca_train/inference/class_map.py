"""Mapping from the classes of another corpus to those of the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.files import read_toml
from mfhca_cache.common.typed import decode


@dataclass(frozen=True)
class ClassMap:
    """Classes of another corpus and of the networks.

    Attributes:
        mapping: class of the other corpus -> class of the networks.
        excluded: classes of the other corpus without a counterpart.
        absent: classes of the networks without a counterpart.
    """

    mapping: Mapping[str, str]
    excluded: tuple[str, ...]
    absent: tuple[str, ...]


def class_map(theirs: Sequence[str], ours: Sequence[str], given: Mapping[str, str]) -> ClassMap:
    """Maps classes of equal names to each other, unless a mapping is given.

    Args:
        theirs: classes of the other corpus.
        ours: classes of the networks.
        given: class of theirs -> class of ours, or "" for none.

    Raises:
        MfhcaError: an unknown class, or no class of theirs has a counterpart.

    >>> class_map(["joy", "fear", "neutral"], ["hap", "neutral"], {"joy": "hap"}).excluded
    ('fear',)
    """
    for name, target in given.items():
        if name not in theirs:
            raise MfhcaError(
                f"--map {name}={target}: the corpus has no class {name!r}; {did_you_mean(name, theirs)}"
            )
        if target and target not in ours:
            raise MfhcaError(
                f"--map {name}={target}: the networks have no class {target!r}; {did_you_mean(target, ours)}"
            )
    targets = {name: given.get(name, name if name in ours else "") for name in theirs}
    mapping = {name: target for name, target in targets.items() if target}
    if not mapping:
        raise MfhcaError(
            f"no class of the corpus ({', '.join(theirs)}) is one of the networks' ({', '.join(ours)}); "
            "map them with --map THEIRS=OURS"
        )
    excluded = tuple(name for name in theirs if name not in mapping)
    return ClassMap(mapping, excluded, tuple(name for name in ours if name not in mapping.values()))


def read_map(texts: Sequence[str]) -> dict[str, str]:
    """The mapping given with `--map`.

    Args:
        texts: each "THEIRS=OURS" ("THEIRS=" for none), or a TOML file with lines THEIRS = "OURS".

    Raises:
        MfhcaError: a text is neither, the file cannot be read, or a class is mapped twice.
    """
    mapping: dict[str, str] = {}
    for text in texts:
        pairs = [text.partition("=")[::2]] if "=" in text else list(_file(Path(text)).items())
        for name, target in ((name.strip(), target.strip()) for name, target in pairs):
            if mapping.setdefault(name, target) != target:
                raise MfhcaError(
                    f"--map {text}: class {name!r} is mapped to {mapping[name]!r} and {target!r}; keep one"
                )
    return mapping


def _file(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise MfhcaError(f"--map {path}: neither THEIRS=OURS nor a readable file")
    table = read_toml(path, "correct this class map")
    return decode(path, table, dict[str, str], 'write lines like joy = "happiness"')
