"""The machine that was measured on: what decides speed, and nothing that names it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from mfhca_train.machine import cores

PACKAGES: Final = ("mfhca", "torch", "transformers", "numpy", "scipy", "h5py", "soundfile", "soxr", "joblib")
# What matters to matrix products and conversions, slowest first.
INSTRUCTIONS: Final = (
    "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16",
    "asimd", "asimdhp", "bf16", "sve",
)  # fmt: skip
BFLOAT16_UNITS: Final = ("avx512_bf16", "amx_bf16", "bf16")


def _cpuinfo(*names: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")


def instruction_sets() -> list[str]:
    """Those of INSTRUCTIONS that the processor has; empty where the system does not tell."""
    flags = set(_cpuinfo("flags", "Features").split())
    return [name for name in INSTRUCTIONS if name in flags]


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return any(name in BFLOAT16_UNITS for name in instruction_sets())


def bfloat16_remark() -> str:
    """What to know about a bfloat16 figure of this processor."""
    there = ", ".join(instruction_sets()) or "unknown"
    if has_bfloat16():
        return f"instruction sets: {there}"
    return f"this processor has no bfloat16 units (instruction sets: {there}), so it is emulated"


def memory_bytes(name: str = "MemTotal") -> int:
    """A line of /proc/meminfo, in bytes; 0 where the system has none."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


def description() -> dict[str, str]:
    """The machine, as it stands at the head of the report."""
    import torch

    found = {
        "processor": _cpuinfo("model name") or platform.processor() or "unknown",
        "cores": str(cores()),
        "instruction sets": ", ".join(instruction_sets()) or "unknown",
        "bfloat16": "in hardware" if has_bfloat16() else "emulated: no units for it",
        "torch uses": torch.backends.cpu.get_cpu_capability(),
        "memory": f"{memory_bytes() / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".strip(", "),
        "load before the run": f"{os.getloadavg()[0]:.1f} (mean of one minute; quiet is below 0.3)",
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
