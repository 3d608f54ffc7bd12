"""From the classes of one corpus to those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_toml


@dataclass(frozen=True)
class ClassMap:
    """What becomes of each class.

    Attributes:
        mapping: class of the other corpus -> class of the networks.
        excluded: classes of the other corpus that become none.
        unmet: classes of the networks that none becomes.
    """

    mapping: Mapping[str, str]
    excluded: tuple[str, ...]
    unmet: tuple[str, ...]


def class_map(theirs: Sequence[str], ours: Sequence[str], given: Mapping[str, str]) -> ClassMap:
    """Classes of equal names are the same, unless something else is given.

    Args:
        theirs: classes of the other corpus.
        ours: classes of the networks.
        given: class of theirs -> class of ours, or "" for none.

    Raises:
        MfhcaError: a name is not one of theirs or ours, or no class of theirs becomes one of ours.

    >>> class_map(["joy", "fear", "neutral"], ["hap", "neutral"], {"joy": "hap"}).excluded
    ('fear',)
    """
    for name, target in given.items():
        if name not in theirs:
            raise MfhcaError(f"--map {name}={target}: the corpus has no class {name!r}: {', '.join(theirs)}")
        if target and target not in ours:
            raise MfhcaError(
                f"--map {name}={target}: the networks have no class {target!r}: {', '.join(ours)}"
            )
    wanted = {name: given.get(name, name if name in ours else "") for name in theirs}
    mapping = {name: target for name, target in wanted.items() if target}
    if not mapping:
        raise MfhcaError(
            f"no class of the corpus ({', '.join(theirs)}) is one of the networks' ({', '.join(ours)}); "
            "say which is which with --map THEIRS=OURS"
        )
    excluded = tuple(name for name in theirs if name not in mapping)
    return ClassMap(mapping, excluded, tuple(name for name in ours if name not in mapping.values()))


def read_map(texts: Sequence[str]) -> dict[str, str]:
    """What `--map` says.

    Args:
        texts: each "THEIRS=OURS" ("THEIRS=" for none), or a TOML file with lines THEIRS = "OURS".

    Raises:
        MfhcaError: it is neither, the file cannot be read, or a class is given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        pairs = [text.partition("=")[::2]] if "=" in text else list(_file(Path(text)).items())
        for name, target in ((name.strip(), target.strip()) for name, target in pairs):
            if found.setdefault(name, target) != target:
                raise MfhcaError(
                    f"--map {text}: class {name!r} becomes {found[name]!r} and {target!r}; keep one"
                )
    return found


def _file(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise MfhcaError(f"--map {path}: neither THEIRS=OURS nor a file that can be read")
    table = read_toml(path, "correct this class map")
    wrong = [name for name, target in table.items() if not isinstance(target, str)]
    if wrong:
        raise MfhcaError(f'{path}: {wrong[0]} is not a text; write lines like joy = "happiness"')
    return table
