"""What a run depends on besides its settings: threads, the memory allocator, the device, versions."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
import platform
import sys
import threading
import time
from collections.abc import Iterable

from mfhca_cache.common import hardware

FOLDS_PER_ACCELERATOR = 3  # a fold's kernels are small; two or three fill the gaps of one another
PACKAGES = ("torch", "numpy", "h5py", "safetensors", "mfhca")
LOGGED = (*PACKAGES, "scipy", "scikit-learn", "joblib", "matplotlib")  # the others cannot change a fold


def prepare_process(threads: int) -> None:
    """Sets torch's threads and tells the allocator to keep freed memory.

    A training step allocates and frees feature maps of tens of megabytes. The GNU C
    library hands each back to the system and takes it again zeroed, page by page, which
    costs more than the arithmetic (2.5 times the time of a step here). Results
    do not depend on it.
    """
    import torch

    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 shall mean it; bfloat16 is a setting
    torch.backends.cuda.matmul.allow_tf32 = False
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(top_pad, 64 << 20)


@functools.cache
def die_with(parent: int) -> None:
    """Ends this worker process soon after its parent, also when that was killed.

    Otherwise an orphan would train on and hold the lock of its unit against the next run.
    Calling it again with the same parent does nothing.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def holds(device: str, size: int, side_by_side: int = 1) -> bool:
    """Whether an accelerator has room for the features of all folds that run there, beside their training.

    On the processor the answer is no: there all folds share one copy in the page cache. No
    result depends on it.

    Args:
        device: where a fold is to be trained.
        size: bytes of its features; each fold has a copy of its own.
        side_by_side: how many folds run there at once; they may all ask before any has taken its part.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        # What this process has reserved and does not use is left of its last fold, and free for this one.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        room = torch.cuda.mem_get_info(device)[0] + unused
    elif kind == "mps":
        room = torch.mps.recommended_max_memory()
    else:
        return False
    return size * side_by_side <= room // 2


def default_jobs(device: str, threads: int) -> int:
    """How many folds side by side: one for every `threads` cores; on an accelerator a few, one would leave gaps."""
    most = max(1, hardware.cores() // threads)
    return most if device == "cpu" else min(most, FOLDS_PER_ACCELERATOR)


def cpu_type() -> str:
    """Instruction set that torch chose; results are bit-identical only where it is the same."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def description() -> str:
    """The machine in a line, for people."""
    memory = hardware.memory_bytes()
    return (
        f"{platform.node()}, {hardware.processor()}, {hardware.cores()} cores"
        + (f", {memory / 2**30:.1f} GiB of memory" if memory else "")
        + f", {platform.platform()}"
    )


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of packages, by default of those that can change a result."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
