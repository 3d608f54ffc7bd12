"""Libraries that only some users need: the extras of pyproject.toml, imported when used."""

from __future__ import annotations

import importlib
from typing import Any

from mfhca_cache.common.errors import MfhcaError


def optional(module: str, extra: str) -> Any:
    """Imports a module of an extra.

    Args:
        module: e.g. "pyarrow.parquet".
        extra: its name in pyproject.toml.

    Raises:
        MfhcaError: it is not installed.

    >>> optional("nonesuch.part", "hf")
    Traceback (most recent call last):
    ...
    mfhca_cache.common.errors.MfhcaError: nonesuch is not installed; run `pip install 'mfhca[hf]'`
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # the library itself is broken
        raise MfhcaError(
            f"{module.partition('.')[0]} is not installed; run `pip install 'mfhca[{extra}]'`"
        ) from error
