"""The machine: cores, memory, processor, compute devices, and variables that libraries compute by.

Imports torch only where a device is asked for.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
from pathlib import Path
from typing import Final

from mfhca_cache.common.errors import MfhcaError

DEVICES: Final = ("auto", "cpu", "cuda", "mps")
BFLOAT16_FLAGS: Final = ("avx512_bf16", "amx_bf16", "bf16")  # their names in /proc/cpuinfo
CGROUP: Final = Path("/sys/fs/cgroup")
# Environment variables that change the last bits of what a library computes, by library. Not here: those that torch
# or this program overrides or records by their effect (OMP_NUM_THREADS, ATEN_CPU_CAPABILITY, TORCH_ALLOW_TF32_...).
VARIABLES: Final = {
    "numpy": (
        "GLIBC_TUNABLES",
        "NPY_DISABLE_CPU_FEATURES",
        "NPY_ENABLE_CPU_FEATURES",
        "OPENBLAS_BLOCK_FACTOR",
        "OPENBLAS_CORETYPE",
        "OPENBLAS_L2_SIZE",
    ),
    "soxr": (
        "SOXR_COEFS_SIZE",
        "SOXR_COEF_INTERP",
        "SOXR_LARGE_DFT_SIZE",
        "SOXR_MIN_DFT_SIZE",
        "SOXR_NOSMALLINTOPT",
        "SOXR_USE_SIMD",
        "SOXR_USE_SIMD32",
        "SOXR_USE_SIMD64",
    ),
    "torch": (
        *(
            f"{p}_{name}"
            for p in ("DNNL", "ONEDNN")
            for name in ("CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE", "MAX_CPU_ISA")
        ),
        "KMP_DETERMINISTIC_REDUCTION",
        "KMP_FORCE_REDUCTION",
        "MKL_CBWR",
        "MKL_DEBUG_CPU_TYPE",
        "MKL_DISABLE_FAST_MM",
        "MKL_DOMAIN_NUM_THREADS",
        "MKL_DYNAMIC",
        "MKL_ENABLE_INSTRUCTIONS",
        "MKL_NUM_STRIPES",
        "OMP_DYNAMIC",
        "OMP_THREAD_LIMIT",
        "TORCH_LINEAR_FLATTEN_3D",
        "TORCH_MKLDNN_MATMUL_MIN_DIM",
        "TORCH_MKLDNN_MATMUL_MIN_SIZE",
        "CUBLAS_WORKSPACE_CONFIG",
        "DISABLE_ADDMM_CUDA_LT",
        "NVIDIA_TF32_OVERRIDE",
        "TORCH_BLAS_PREFER_CUBLASLT",
        "TORCH_CUDNN_USE_HEURISTIC_MODE_B",
        "TORCH_CUDNN_V8_API_DISABLED",
    ),
    "numba": (
        "NUMBA_CPU_FEATURES",
        "NUMBA_CPU_NAME",
        "NUMBA_ENABLE_AVX",
        "NUMBA_LOOP_VECTORIZE",
        "NUMBA_OPT",
        "NUMBA_SLP_VECTORIZE",
    ),
}


def open_files_limit() -> float:
    """How many files this process may have open at most (the hard limit); infinite if there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return math.inf if hard == resource.RLIM_INFINITY else hard


def cores() -> int:
    """Processor cores this process may use: its CPU affinity and the CPU limit of its container count."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _container_cores() or affinity))


def _container_cores() -> int | None:
    """The CPU limit of this container, rounded up to whole cores; None without a limit."""
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # cgroup v2, then v1
        with contextlib.suppress(OSError, ValueError):  # no such file, or the limit is the word "max"
            quota, period = map(int, " ".join((CGROUP / name).read_text() for name in files).split())
            if quota > 0 and period > 0:
                return -(-quota // period)
    return None


def available_devices() -> tuple[str, ...]:
    """The kinds of devices torch can use here, the fastest first."""
    import torch

    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return tuple(kind for kind, available in usable.items() if available)


def resolve_device(name: str) -> str:
    """The device of a --device option.

    Args:
        name: "auto" for the fastest available one, or a name as torch writes it: "cpu", "cuda", "cuda:1", "mps".

    Returns:
        The name; never "auto".

    Raises:
        MfhcaError: there is no such device here.
    """
    import torch

    available = available_devices()
    if name == "auto":
        return available[0]
    try:
        kind, index = torch.device(name).type, torch.device(name).index or 0
    except RuntimeError:
        kind, index = name, 0
    if kind not in available or (kind == "cuda" and index >= torch.cuda.device_count()):
        raise MfhcaError(f"device {name!r} is not available here; choose one of {', '.join(available)}")
    return name


def _read_field(file: str, *names: str) -> str:
    """The value of the first line `name: value` with one of these names; "" without one."""
    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")


def processor() -> str:
    """The processor's name, or "unknown"."""
    return _read_field("/proc/cpuinfo", "model name") or platform.processor() or "unknown"


def vendor() -> str:
    """The processor's maker, e.g. GenuineIntel, or "" where the system does not say."""
    return _read_field("/proc/cpuinfo", "vendor_id", "CPU implementer")


def flags() -> list[str]:
    """The processor's feature flags as in /proc/cpuinfo; empty where the system does not list them."""
    return _read_field("/proc/cpuinfo", "flags", "Features").split()


def has_bfloat16() -> bool | None:
    """Whether the processor multiplies bfloat16 in hardware; None where the system does not say."""
    names = flags()
    return any(name in BFLOAT16_FLAGS for name in names) if names else None


def fastest_precision(device: str) -> str:
    """bfloat16 where the device multiplies it in hardware, else float32.

    Args:
        device: as `resolve_device` returns it.
    """
    if device.startswith("cuda"):
        import torch

        with torch.cuda.device(device):
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        supported = device == "cpu" and bool(has_bfloat16())
    return "bfloat16" if supported else "float32"


def variables(*libraries: str) -> dict[str, str]:
    """The environment variables that are set here and change the last bits of what these libraries compute.

    Args:
        libraries: keys of VARIABLES.
    """
    names = (name for library in libraries for name in VARIABLES[library])
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def memory_bytes(name: str = "MemTotal") -> int:
    """A field of /proc/meminfo in bytes; 0 where the system has no such file."""
    number = _read_field("/proc/meminfo", f"{name}:").split()
    return 1024 * int(number[0]) if number else 0


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """The folder itself, or its nearest parent that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())
