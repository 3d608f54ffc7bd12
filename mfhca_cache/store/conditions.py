"""The part of a shard's provenance that can change the last bits of its features, and digests of code that can."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfhca_cache.store.shard import Shard

GROUPS = ("packages", "variables")  # names and their values
COMPARED = ("processor", "instructions", "device", "accelerator", "threads", *GROUPS)


@functools.cache
def code_digest(package: Path, *patterns: str) -> str:
    """A digest of some sources of a package: its version stays the same while code is edited.

    Args:
        package: its folder.
        patterns: of `Path.glob`, relative to it.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in package.glob(pattern)}):
        digest.update(
            f"{path.relative_to(package)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()[:16]


def conditions(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The compared part of a provenance.

    >>> conditions({"threads": 1, "python": "3.11"})
    {'threads': 1}
    """
    return {name: provenance[name] for name in COMPARED if name in provenance}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In what two provenances differ that can change the last bits.

    >>> old = {"threads": 1, "packages": {"torch": "2.6", "numpy": "2.0"}, "python": "3.11"}
    >>> differences(old, {"threads": 2, "packages": {"torch": "2.7", "numpy": "2.0"}, "python": "3.12"})
    ['threads 1 and 2', 'torch 2.6 and 2.7']
    >>> differences({}, {"variables": {"MKL_CBWR": "AVX2"}})
    ['MKL_CBWR unset and AVX2']
    """
    pairs = {name: (old.get(name), new.get(name)) for name in COMPARED if name not in GROUPS}
    for group, absent in zip(GROUPS, (None, "unset"), strict=True):
        before, now = old.get(group, {}), new.get(group, {})
        pairs |= {name: (before.get(name, absent), now.get(name, absent)) for name in sorted({*before, *now})}
    return [f"{name} {a} and {b}" for name, (a, b) in pairs.items() if a != b]


def mixture(shards: Sequence[Shard]) -> list[str]:
    """In what the provenances of shards differ, those of rows inside one shard included."""
    first = shards[0].provenance
    found = [text for shard in shards for text in shard.provenance.get("mixed_with", [])]
    return list(
        dict.fromkeys([*found, *(text for shard in shards for text in differences(first, shard.provenance))])
    )
