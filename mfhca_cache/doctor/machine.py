"""Is this machine ready: packages, processor, device, hub, and the file system of the cache.

Each question is a generator of findings, so that an answer is on the terminal as soon
as it is known. What concerns one corpus is in `readiness`.
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
from mfhca_cache.features.backbone import one_line

OK, WARN, MISSING = "ok", "warn", "missing"
OLDEST_PYTHON: Final = (3, 11)
LOADED: Final = ("numpy", "h5py", "soundfile", "torch")  # with libraries of their own that may be lacking
HUB_SECONDS: Final = 2.0
FOLD_BYTES: Final = 1.7e9  # private memory of a worker that trains a fold, at the most
# Tries in another process whether a lock held here is seen there.
TRY_LOCK: Final = (
    "import fcntl, sys\n"
    "try: fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    "except BlockingIOError: sys.exit(3)"
)


@dataclass(frozen=True)
class Finding:
    """One answer: how it stands, what was found, and what mends it."""

    state: str  # OK; WARN: something will be slow or is not possible here; MISSING: something is needed
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")


def packages() -> Iterator[Finding]:
    """Python and the packages that the project names, against the least versions it names."""
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding(OK, f"Python {platform.python_version()}")
    else:
        least = ".".join(map(str, OLDEST_PYTHON))
        remedy = f"make a new environment: make install PYTHON=python{least}"
        yield Finding(MISSING, f"Python {platform.python_version()}, at least {least} is needed", remedy)
    try:
        wanted = _wanted()
    except importlib.metadata.PackageNotFoundError:
        yield Finding(MISSING, "mfhca itself is not installed", "make install, or pip install -e .")
        return
    sound = []
    for text in wanted:
        name, _, least = text.partition(">=")
        problem = _problem(name := name.strip(), least.strip())
        if problem:
            yield Finding(MISSING, problem, f"{Path(sys.executable)} -m pip install '{text}'")
        else:
            sound.append(f"{name} {importlib.metadata.version(name)}")
    if sound:
        yield Finding(OK, ", ".join(sound))


def _wanted() -> list[str]:
    """What the project needs: by the repository it lies in, which may be newer than its installation, or by that."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    return [text for text in importlib.metadata.requires("mfhca") or [] if "extra ==" not in text]


def _problem(name: str, least: str) -> str | None:
    """What is wrong with a package that is needed."""
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"package {name} is not installed"
    if _numbers(found) < _numbers(least):
        return f"{name} {found}, at least {least} is needed"
    if name in LOADED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            return f"{name} {found} cannot be loaded ({one_line(error)})"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version.

    >>> _numbers("2.13.0+cpu") > _numbers("2.6")
    True
    """
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def processor() -> Iterator[Finding]:
    """Cores, memory for folds side by side, and whether bfloat16 pays."""
    cores, memory = hardware.cores(), hardware.memory_bytes()
    room = f", {memory / 2**30:.1f} GiB of memory" if memory else ""
    yield Finding(OK, f"processor {hardware.processor()}, {cores} cores{room}")
    free, wanted = hardware.memory_bytes("MemAvailable"), cores * FOLD_BYTES
    if free and free < wanted:
        jobs = max(1, int(free / FOLD_BYTES))
        yield Finding(
            WARN,
            f"{free / 1e9:.1f} GB of memory are free, {cores} folds side by side may want {wanted / 1e9:.1f} GB",
            f"mfhca-train cv --jobs {jobs}",
        )
    if (units := hardware.has_bfloat16()) is False:
        yield Finding(
            WARN,
            "this processor has no units for bfloat16, which would be many times slower than float32 on it",
            "leave --compute-dtype and train.precision at float32",
        )
    elif units:
        yield Finding(
            OK, "the processor has bfloat16 units: --compute-dtype and train.precision may use them"
        )


def device() -> Iterator[Finding]:
    """What torch computes on."""
    try:
        import torch
    except (ImportError, OSError):
        return  # told with the packages
    if torch.cuda.is_available():
        yield Finding(OK, f"device cuda: {torch.cuda.get_device_name(0)}")
    elif torch.backends.mps.is_available():
        yield Finding(OK, "device mps")
    elif Path("/proc/driver/nvidia").exists():
        yield Finding(
            WARN,
            f"device cpu: there is an NVIDIA driver, but torch {torch.__version__} cannot use it",
            "install the torch build for your CUDA version (pytorch.org/get-started), or go on without",
        )
    else:
        yield Finding(OK, "device cpu: torch sees no accelerator")


def hub() -> Iterator[Finding]:
    """Whether encoders can be fetched from the Hugging Face hub."""
    from huggingface_hub import constants

    folder = "give --backbone a folder with config.json, preprocessor_config.json and the weights"
    if constants.HF_HUB_OFFLINE:
        yield Finding(
            OK, f"HF_HUB_OFFLINE is set: encoders come from folders and from {constants.HF_HUB_CACHE} alone"
        )
        return
    address = urlsplit(getproxies().get("https") or constants.ENDPOINT)
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    trouble: list[BaseException] = [TimeoutError(f"no answer in {HUB_SECONDS:.0f} s")]

    def knock() -> None:
        try:
            socket.create_connection((host, port), HUB_SECONDS).close()
            trouble.clear()
        except OSError as error:
            trouble[:] = [error]

    # A name server that does not answer heeds no time-out; a daemon is simply left behind.
    caller = threading.Thread(target=knock, daemon=True)
    caller.start()
    caller.join(HUB_SECONDS)
    if trouble:
        yield Finding(WARN, f"hub {host} is not to be reached ({one_line(trouble[0])})", folder)
    else:
        yield Finding(OK, f"hub {host} answers")


def file_system(cache: Path) -> Iterator[Finding]:
    """Tries in the cache's folder, or in the nearest one above it, what the cache needs of its file system."""
    folder = hardware.existing(cache)
    elsewhere = "choose a --cache on another disk"
    try:
        with tempfile.TemporaryDirectory(prefix=".mfhca-doctor-", dir=folder) as scratch:
            yield Finding(OK, f"{folder} can be written, {hardware.free_bytes(folder) / 1e9:.1f} GB are free")
            yield _locks(Path(scratch), folder)
            yield _hdf5(Path(scratch), folder)
    except OSError as error:
        yield Finding(MISSING, f"{folder}: cannot be written ({error.strerror})", elsewhere)


def _locks(scratch: Path, folder: Path) -> Finding:
    """Whether a lock that is held here is seen in another process."""
    from mfhca_cache.common.files import lock

    try:
        with lock(scratch / "lock", "the doctor's lock"):
            other = subprocess.run([sys.executable, "-c", TRY_LOCK, str(scratch / "lock")], check=False)
    except MfhcaError as error:
        return Finding(MISSING, str(error), "choose a --cache on another disk")
    if other.returncode == 3:
        return Finding(OK, f"file locks work in {folder}")
    return Finding(
        WARN,
        f"file locks do not exclude another process in {folder}",
        "never run two `features` on one cache at once",
    )


def _hdf5(scratch: Path, folder: Path) -> Finding:
    """Whether HDF5 writes, locks and reads a file here, and whether it can be renamed safely."""
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
            "choose a --cache on another disk",
        )
    if not read:
        return Finding(MISSING, f"HDF5 files read back otherwise in {folder}", "check the disk")
    try:
        with h5py.File(final, "r", locking=True):
            pass
    except OSError as error:
        return Finding(
            WARN,
            f"HDF5's own locks fail in {folder} ({one_line(error)}); mfhca does not use them",
            "for other programs on these files: export HDF5_USE_FILE_LOCKING=FALSE",
        )
    return Finding(OK, f"HDF5 writes, locks and reads files in {folder}")


def machine(cache: Path, ask_hub: bool = True) -> Iterator[Finding]:
    """All of the above."""
    for question in (packages, processor, device, *([hub] if ask_hub else [])):
        yield from question()
    yield from file_system(cache)
