"""The machine that was measured on: what decides speed, and nothing that names it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from mfhca_cache.common import hardware
from mfhca_cache.common.hardware import cores

PACKAGES: Final = ("mfhca", "torch", "transformers", "numpy", "scipy", "h5py", "soundfile", "soxr", "joblib")
# What matters to matrix products and conversions, slowest first.
INSTRUCTIONS: Final = (
    "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16",
    "asimd", "asimdhp", "bf16", "sve",
)  # fmt: skip


def instruction_sets() -> list[str]:
    """Those of INSTRUCTIONS that the processor has; empty where the system does not tell."""
    return [name for name in INSTRUCTIONS if name in hardware.flags()]


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return bool(hardware.has_bfloat16())


def bfloat16_remark() -> str:
    """What to know about a bfloat16 figure of this processor."""
    there = ", ".join(instruction_sets()) or "unknown"
    if has_bfloat16():
        return f"instruction sets: {there}"
    return f"this processor has no bfloat16 units (instruction sets: {there}), so it is emulated"


def description() -> dict[str, str]:
    """The machine, as it stands at the head of the report."""
    import torch

    found = {
        "processor": hardware.processor(),
        "cores": str(cores()),
        "instruction sets": ", ".join(instruction_sets()) or "unknown",
        "bfloat16": "in hardware" if has_bfloat16() else "emulated: no units for it",
        "torch uses": torch.backends.cpu.get_cpu_capability(),
        "memory": f"{hardware.memory_bytes() / 2**30:.1f} GiB",
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
