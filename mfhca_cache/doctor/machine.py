"""Checks of this machine: packages, processor, device, hub, and the file system of the cache.

Each check is a generator of findings, so that every result is shown as soon as it is
known. The checks of one corpus are in `corpus`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies

from mfhca_cache.common import hardware
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import fsync_folder
from mfhca_cache.common.text import plural
from mfhca_cache.features.hub import one_line

OK, WARN, MISSING = "ok", "warn", "missing"
OTHER_DISK: Final = "choose a --cache on another disk"
OLDEST_PYTHON: Final = (3, 11)
LOADED: Final = ("numpy", "h5py", "soundfile", "torch")  # they need shared libraries, which may be missing
HUB_SECONDS: Final = 2.0
FOLD_BYTES: Final = 1.7e9  # most private memory of a worker that trains a fold
# Run in another process to test whether it sees a lock held by this one.
TRY_LOCK: Final = (
    "import fcntl, sys\n"
    "try: fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    "except BlockingIOError: sys.exit(3)"
)


@dataclass(frozen=True)
class Finding:
    """The result of one check: its state, a summary and a remedy."""

    state: str  # OK; WARN: something will be slow or is not possible; MISSING: something is required
    summary: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.summary}" + (f"; {self.remedy}" if self.remedy else "")


def check_packages() -> Iterator[Finding]:
    """Python and the required packages, against their minimum versions."""
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding(OK, f"Python {platform.python_version()}")
    else:
        minimum = ".".join(map(str, OLDEST_PYTHON))
        remedy = f"create a new environment: make install PYTHON=python{minimum}"
        yield Finding(MISSING, f"Python {platform.python_version()}, at least {minimum} is required", remedy)
    try:
        requirements = _requirements()
    except importlib.metadata.PackageNotFoundError:
        yield Finding(MISSING, "mfhca itself is not installed", "make install, or pip install -e .")
        return
    installed = []
    for requirement in requirements:
        name, _, minimum = requirement.partition(">=")
        problem = _problem(name := name.strip(), minimum.strip())
        if problem:
            yield Finding(MISSING, problem, f"{Path(sys.executable)} -m pip install '{requirement}'")
        else:
            installed.append(f"{name} {importlib.metadata.version(name)}")
    if installed:
        yield Finding(OK, ", ".join(installed))


def _requirements() -> list[str]:
    """The required packages, from pyproject.toml of a repository (which may be newer) or from the installation."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    return [text for text in importlib.metadata.requires("mfhca") or [] if "extra ==" not in text]


def _problem(name: str, minimum: str) -> str | None:
    """The problem with a required package, or None."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"package {name} is not installed"
    if _numbers(version) < _numbers(minimum):
        return f"{name} {version}, at least {minimum} is required"
    if name in LOADED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            return f"{name} {version} cannot be loaded ({one_line(error)})"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version.

    >>> _numbers("2.13.0+cpu") > _numbers("2.6")
    True
    """
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


def check_processor() -> Iterator[Finding]:
    """Cores, memory for parallel folds, and whether bfloat16 is fast."""
    cores, memory = hardware.cores(), hardware.memory_bytes()
    size = f", {memory / 2**30:.1f} GiB of memory" if memory else ""
    yield Finding(OK, f"processor {hardware.processor()}, {plural(cores, 'core')}{size}")
    free, needed = hardware.memory_bytes("MemAvailable"), cores * FOLD_BYTES
    if free and free < needed:
        jobs = max(1, int(free / FOLD_BYTES))
        yield Finding(
            WARN,
            f"{free / 1e9:.1f} GB of memory are free, {cores} parallel folds may need {needed / 1e9:.1f} GB",
            f"mfhca-train cv --jobs {jobs}",
        )
    if (units := hardware.has_bfloat16()) is False:
        yield Finding(
            WARN,
            "this processor has no bfloat16 units: bfloat16 would be many times slower than float32",
            "keep --compute-dtype and train.precision at float32",
        )
    elif units:
        yield Finding(
            OK, "the processor has bfloat16 units, which --compute-dtype and train.precision can use"
        )


def check_device() -> Iterator[Finding]:
    """The device torch uses."""
    try:
        import torch
    except (ImportError, OSError):
        return  # reported with the packages
    if torch.cuda.is_available():
        yield Finding(OK, f"device cuda: {torch.cuda.get_device_name(0)}")
    elif torch.backends.mps.is_available():
        yield Finding(OK, "device mps")
    elif Path("/proc/driver/nvidia").exists():
        yield Finding(
            WARN,
            f"device cpu: an NVIDIA driver is installed, but torch {torch.__version__} cannot use it",
            "install the torch build for your CUDA version (pytorch.org/get-started), or use the CPU",
        )
    else:
        yield Finding(OK, "device cpu: torch finds no accelerator")


def check_hub() -> Iterator[Finding]:
    """Whether encoders can be downloaded from the Hugging Face hub."""
    from huggingface_hub import constants

    remedy = "pass --backbone a folder with config.json, preprocessor_config.json and the weights"
    if constants.HF_HUB_OFFLINE:
        yield Finding(
            OK,
            f"HF_HUB_OFFLINE is set: encoders are read from folders and from {constants.HF_HUB_CACHE} only",
        )
        return
    address = urlsplit(getproxies().get("https") or constants.ENDPOINT)
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    errors: list[BaseException] = [TimeoutError(f"no answer in {HUB_SECONDS:.0f} s")]

    def connect() -> None:
        try:
            socket.create_connection((host, port), HUB_SECONDS).close()
            errors.clear()
        except OSError as error:
            errors[:] = [error]

    # The time-out does not apply to name resolution, so the connection is tried in a thread that can be left running.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    if errors:
        yield Finding(WARN, f"hub {host} cannot be reached ({one_line(errors[0])})", remedy)
    else:
        yield Finding(OK, f"hub {host} can be reached")


def check_file_system(cache: Path) -> Iterator[Finding]:
    """Tests what a cache needs of its file system, in the cache folder or its nearest existing parent."""
    folder = hardware.existing(cache)
    try:
        with tempfile.TemporaryDirectory(prefix=".mfhca-doctor-", dir=folder) as scratch:
            yield Finding(OK, f"{folder} can be written, {hardware.free_bytes(folder) / 1e9:.1f} GB are free")
            yield _check_locks(Path(scratch), folder)
            yield _check_hdf5(Path(scratch), folder)
    except OSError as error:
        yield Finding(MISSING, f"{folder}: cannot be written ({error.strerror})", OTHER_DISK)


def _check_locks(scratch: Path, folder: Path) -> Finding:
    """Whether another process sees a lock held by this one."""
    from mfhca_cache.common.files import lock

    try:
        with lock(scratch / "lock", "the lock of doctor"):
            other = subprocess.run([sys.executable, "-c", TRY_LOCK, str(scratch / "lock")], check=False)
    except MfhcaError as error:
        return Finding(MISSING, str(error), OTHER_DISK)
    if other.returncode == 3:
        return Finding(OK, f"file locks work in {folder}")
    return Finding(
        WARN,
        f"file locks have no effect on other processes in {folder}",
        "never run two `features` commands on one cache at the same time",
    )


def _check_hdf5(scratch: Path, folder: Path) -> Finding:
    """Whether HDF5 can write, lock and read a file, and whether the file can be renamed durably."""
    import h5py

    path, final = scratch / "try.tmp", scratch / "try.h5"
    try:
        with h5py.File(path, "w", locking=False) as file:
            file["x"] = b"shard"
        descriptor = os.open(path, os.O_RDWR)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, 1 << 16)
        os.fsync(descriptor)
        os.close(descriptor)
        path.replace(final)
        fsync_folder(scratch)
        with h5py.File(final, "r", locking=False) as file:
            read = file["x"][()] == b"shard"
    except OSError as error:
        return Finding(
            MISSING,
            f"HDF5 files do not work in {folder} ({one_line(error)})",
            OTHER_DISK,
        )
    if not read:
        return Finding(
            MISSING, f"HDF5 files in {folder} have another content when read back", "check the disk"
        )
    try:
        with h5py.File(final, "r", locking=True):
            pass
    except OSError as error:
        return Finding(
            WARN,
            f"HDF5's own locks fail in {folder} ({one_line(error)}); mfhca does not need them",
            "for other programs that read these files: export HDF5_USE_FILE_LOCKING=FALSE",
        )
    return Finding(OK, f"HDF5 can write, lock and read files in {folder}")


def check_machine(cache: Path, with_hub: bool = True) -> Iterator[Finding]:
    """All checks of this module."""
    for check in (check_packages, check_processor, check_device, *([check_hub] if with_hub else [])):
        yield from check()
    yield from check_file_system(cache)
