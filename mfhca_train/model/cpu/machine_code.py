"""The disk cache of the compiled loops: machine code is compiled once and then loaded.

Numba's own cache has three weaknesses. It depends on the source file of the loop only,
so after an edit of a helper it runs old machine code; it loads damaged files, which can
crash the process; and a file that cannot be read or written is an error, although the
loop could simply be compiled again. Here the cache depends on all sources of this folder
and on the versions and variables of the compiler, every file has a checksum, and any failure of the
cache only costs the time to compile.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile

from mfhca_cache.common.hardware import variables

# The compiler may reorder sums and fuse multiplications with additions, which vector instructions need. It may
# not assume that there are no NaNs: a diverging training must show.
FASTMATH = {"reassoc", "contract", "nsz"}


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """`function`, compiled or loaded from the disk cache at its first call."""
    dispatcher: Any = numba.njit(function, nogil=True, fastmath=FASTMATH, error_model="numpy")
    if hasattr(
        dispatcher, "enable_caching"
    ):  # not with NUMBA_DISABLE_JIT=1, which leaves the Python function
        # An error here: neither the package's folder nor the user's cache folder is writable.
        with contextlib.suppress(RuntimeError, OSError):
            dispatcher._cache = _Cache(function)
    code: Callable[..., None] = dispatcher
    return code


def is_cached(code: Any) -> bool:
    """Whether the disk cache has machine code of a function from `compiled`."""
    try:
        return bool(code._cache._cache_file._load_index())
    except Exception:  # no cache, or a damaged one
        return False


@functools.cache
def source_stamp() -> str:
    """A digest of the sources in this folder and of the versions and variables that determine the machine code."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(" ".join([*versions, *map("=".join, variables("numba").items())]).encode())
    return digest.hexdigest()


class _CheckedFile(IndexDataCacheFile):
    """Numba's index and data files, with the checksum of each data file in a file next to it."""

    def _save_data(self, name: str, data: Any) -> None:
        super()._save_data(name, data)  # type: ignore[no-untyped-call]
        with self._open_for_write(self._checksum_path(name)) as file:
            file.write(self._checksum(name))

    def _load_data(self, name: str) -> Any:
        if Path(self._checksum_path(name)).read_bytes() != self._checksum(name):
            raise ValueError(f"{name}: damaged")
        return super()._load_data(name)  # type: ignore[no-untyped-call]

    def _checksum(self, name: str) -> bytes:
        return hashlib.sha256(Path(self._data_path(name)).read_bytes()).digest()

    def _checksum_path(self, name: str) -> str:
        return f"{self._data_path(name)}.sha256"


class _Cache(FunctionCache):
    """A cache whose failures lead to compilation, never to an error."""

    def __init__(self, function: Callable[..., None]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file = _CheckedFile(self._cache_path, self._impl.filename_base, source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception:  # whatever unpickling a damaged file raises
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except Exception:  # a damaged index, a full disk, a read-only folder
            try:
                self.flush()  # replaces a damaged index by an empty one
                super().save_overload(sig, data)  # type: ignore[no-untyped-call]
            except Exception:
                self.disable()
