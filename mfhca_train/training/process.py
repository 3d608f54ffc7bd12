"""The process that trains: threads, memory allocator, device, and the versions that a result depends on."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import multiprocessing
import os
import platform
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mfhca_cache.common import hardware
from mfhca_cache.common.text import plural
from mfhca_cache.store.conditions import code_digest
from mfhca_train.config.variables import plain_equations

SEMAPHORES_PER_WORKER = 8  # of loky's executors; 7 were counted
FOLDS_PER_ACCELERATOR = 3  # one fold alone leaves an accelerator idle between its small kernels
PACKAGES = ("torch", "numpy", "numba", "h5py", "safetensors", "scikit-learn", "scipy", "mfhca")
# The code that decides what a network learns and which epoch is selected.
COMPUTING = ("data/**/*.py", "model/**/*.py", "results/metrics.py", "training/**/*.py")
LOGGED = (*PACKAGES, "joblib", "matplotlib")  # the additional ones change no fold


def prepare_process(threads: int) -> None:
    """Sets torch's threads and tells the memory allocator to keep freed memory. Changes no result."""
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32; bfloat16 is a setting
    torch.backends.cuda.matmul.allow_tf32 = False
    # A training step allocates and frees feature maps of tens of megabytes. The GNU C library returns each to
    # the system and gets it back zeroed, page by page, which costs more than the arithmetic (a step took 2.5
    # times as long). Keeping everything in the heap avoids that.
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 << 20)


def why_no_workers(jobs: int) -> str | None:
    """Why this machine cannot run parallel processes: they need semaphores, which Linux keeps in /dev/shm.

    Args:
        jobs: number of processes.

    Returns:
        The system's error, e.g. that there is no space; None if nothing prevents them.
    """
    context = multiprocessing.get_context("fork")  # whose semaphores have no name that could be left behind
    try:
        _ = [context.Lock() for _ in range(SEMAPHORES_PER_WORKER * jobs)]
    except (OSError, ImportError) as error:  # ImportError: a system without semaphores
        return str(error.strerror or error) if isinstance(error, OSError) else str(error)
    return None


@functools.cache
def exit_with_parent(parent: int) -> None:
    """Ends this worker process soon after its parent, even if that was killed.

    Otherwise an orphan would continue to train and hold the lock of its unit against the next run.
    Further calls with the same parent do nothing.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def has_room(device: str, size: int, concurrent: int = 1) -> bool:
    """Whether an accelerator has memory for the features of all folds trained there, besides the training itself.

    Always false on the CPU: there all folds share one copy in the page cache. Changes no result.

    Args:
        device: where a fold is trained.
        size: bytes of its features; each fold has its own copy.
        concurrent: how many folds run there at the same time; all may ask before any has allocated its part.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        # Memory that torch has reserved and does not use is left from this process's last fold.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    elif kind == "mps":
        free = torch.mps.recommended_max_memory()
    else:
        return False
    return size * concurrent <= free // 2


def default_jobs(device: str, threads: int) -> int:
    """How many folds to train at the same time: one per `threads` cores, on an accelerator at most a few."""
    jobs = max(1, hardware.cores() // threads)
    return jobs if device == "cpu" else min(jobs, FOLDS_PER_ACCELERATOR)


def cpu_type() -> str:
    """What torch's libraries choose their instructions by; results are bit-identical only if it is the same.

    MKL asks for the vendor, and oneDNN multiplies bfloat16 in other ways where there are units for it.
    """
    import torch

    units = [name for name in hardware.BFLOAT16_FLAGS if name in hardware.flags()]
    parts = (platform.machine(), torch.backends.cpu.get_cpu_capability(), hardware.vendor(), *units)
    return " ".join(filter(None, parts))


def description() -> str:
    """The machine in one line, for the log."""
    memory = hardware.memory_bytes()
    return (
        f"{platform.node()}, {hardware.processor()}, {plural(hardware.cores(), 'core')}"
        + (f", {memory / 2**30:.1f} GiB of memory" if memory else "")
        + f", {platform.platform()}"
    )


def environment(device: str) -> dict[str, Any]:
    """Where this process trains: all that can change the last digits of a result besides the identity of its row.

    Args:
        device: cpu, cuda or mps.
    """
    value = {"versions": versions(), "cpu": cpu_type(), "device": device}
    if device.startswith("cuda"):
        import torch

        value["accelerator"] = torch.cuda.get_device_name(device)
    return value


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python, of this code and of packages that can change a result, and variables that they compute by."""
    result = {"python": platform.python_version(), "code": code_digest(Path(__file__).parents[1], *COMPUTING)}
    if plain_equations():
        result["equations"] = "plain"
    for package in packages:
        try:
            result[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            result[package] = "not installed"
    return result | hardware.variables("numpy", "torch", "numba")


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Where two `versions` differ: what, and its value in each; "unset" where one has none.

    >>> differing({"torch": "2.6", "numpy": "2.0"}, {"torch": "2.6", "numpy": "2.1", "MKL_CBWR": "AVX2"})
    [('numpy', '2.0', '2.1'), ('MKL_CBWR', 'unset', 'AVX2')]
    """
    pairs = [(name, one.get(name, "unset"), other.get(name, "unset")) for name in {**one, **other}]
    return [(name, a, b) for name, a, b in pairs if a != b]
