"""The disk cache of compiled loops: never stale, never required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mfhca_train.model.cpu as package
from mfhca_train.model.cpu import machine_code

# Calls a compiled loop that uses a helper of another module of the folder; prints its result and how it came about.
SCRIPT = """
import sys, types
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from loops import scale, twice
import numpy as np
x = np.ones(3)
scale(0, 3, x)
stats = getattr(scale, "stats", None)
print(int(x[0]), sum(stats.cache_hits.values()) if stats else "-", sum(stats.cache_misses.values()) if stats else "-")
"""
LOOPS = """
from machine_code import compiled
from helper import twice

@compiled
def scale(first, last, x):
    for i in range(first, last):
        x[i] = twice(x[i])
"""
HELPER = "import numba\n\n@numba.njit(inline='always')\ndef twice(x):\n    return x * {factor}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package folder with the module under test, a loop and a helper."""
    shutil.copy(Path(package.__file__).with_name("machine_code.py"), tmp_path)
    (tmp_path / "loops.py").write_text(LOOPS)
    (tmp_path / "helper.py").write_text(HELPER.format(factor=2))
    return tmp_path


def run(folder: Path, **environment: str) -> str:
    """Result, cache hits and misses of a call in a new process."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.rglob(f"*.{suffix}"))


def test_the_second_process_loads_what_the_first_compiled(folder: Path) -> None:
    assert run(folder) == "2 0 1"
    assert run(folder) == "2 1 0"
    # Numba's own cache would load it: of code that is optimised otherwise, the last bits of sums are others.
    assert run(folder, NUMBA_OPT="0") == "2 0 1"


@pytest.mark.parametrize("module", ["numba", "llvmlite", "numpy"])
def test_the_stamp_of_the_cache_changes_with_the_versions(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = machine_code.source_stamp.__wrapped__()
    assert machine_code.source_stamp.__wrapped__() == before
    monkeypatch.setattr(f"{module}.__version__", "0.0.1")
    assert machine_code.source_stamp.__wrapped__() != before


def test_an_edit_of_a_helper_compiles_again(folder: Path) -> None:
    assert run(folder) == "2 0 1"
    times = (folder / "loops.py").stat()
    (folder / "helper.py").write_text(HELPER.format(factor=3))
    os.utime(folder / "loops.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(folder) == "3 0 1"
    assert run(folder) == "3 1 0"


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_cache_is_replaced(folder: Path, suffix: str, damage: str) -> None:
    run(folder)
    (path,) = files(folder, suffix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    content = {
        "flip": bytes(data),
        "cut": bytes(data[: len(data) // 3]),
        "empty": b"",
        "text": b"not a cache",
    }
    path.write_bytes(content[damage])
    value, loaded, _ = run(folder).split()
    assert value == "2"
    assert suffix == "nbi" or loaded == "0"  # damaged code must not be loaded, even if it happens to run
    assert run(folder) == "2 1 0"


def test_a_cache_that_cannot_be_written_is_not_needed(folder: Path) -> None:
    nowhere = {"NUMBA_CACHE_DIR": "/proc/nowhere", "HOME": "/proc/nowhere"}
    (folder / "__pycache__").touch()  # no folder can be made next to the sources either
    assert run(folder, **nowhere).split()[0] == "2"
    (folder / "__pycache__").unlink()
    run(folder)
    for path in files(folder, "nb?"):
        path.unlink()
        path.mkdir()  # neither readable nor replaceable
    assert run(folder).split()[0] == "2"


def test_without_the_compiler_the_python_function_runs(folder: Path) -> None:
    assert run(folder, NUMBA_DISABLE_JIT="1") == "2 - -"
