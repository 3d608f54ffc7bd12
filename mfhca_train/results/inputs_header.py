"""Shape and recipe of the features that a network read, from the header of its inputs.safetensors; without torch."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.typed import Positive
from mfhca_train.results.schema import File

HEADER_LIMIT = 1 << 24  # bytes of a safetensors header; ours have some thousands, and a history of any length
# What reading a file of another format raises.
UNREADABLE = (OSError, struct.error, ValueError, KeyError, TypeError, RecursionError)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, from its header: its length in eight bytes, then JSON.

    Raises:
        OSError, struct.error, ValueError, KeyError, RecursionError: the file is absent or damaged.
    """
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(HEADER_LIMIT, path.stat().st_size - 8):
            raise ValueError(f"a header of {length} bytes")
        metadata: dict[str, str] = json.loads(file.read(length))["__metadata__"]
    return metadata


class Side(File, frozen=True):
    """What inputs.safetensors says of one side of the inputs ("spec", "ssl", "mfcc")."""

    # Of a segment: frames and bins, after layers where a sum over them is learned.
    shape: tuple[Positive, ...]
    recipe: dict[str, Any]  # see `mfhca_cache.recipe.folder.from_dict`
    name: str = ""  # of the recipe's folder
    corpora: tuple[str, ...] = ()  # of the scaling, if each of several corpora has its own


def read_inputs_header(path: Path, keys: Mapping[str, str], command: str) -> dict[str, Side]:
    """Side -> what was stored of it.

    Args:
        path: of inputs.safetensors.
        keys: side -> key of its recipe; other sides are left out.
        command: which trains the unit again, for the message.

    Returns:
        Nothing where there is no such file.

    Raises:
        MfhcaError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        sides = json.loads(read_metadata(path)["sides"])
        stored = {side: msgspec.convert(sides[side], Side) for side in sides if side in keys}
        if any(len(one.shape) not in ((2, 3) if side == "ssl" else (2,)) for side, one in stored.items()):
            raise ValueError("a shape has another number of sizes")
    except UNREADABLE as error:
        remedy = f"delete {path.parent} and run `mfhca-train {command}` again"
        raise MfhcaError(f"{path}: cannot be read ({error}); {remedy}") from error
    return stored
