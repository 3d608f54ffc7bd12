"""The machine of the measurements: what decides speed, without anything that identifies it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from mfhca_cache.common import hardware
from mfhca_cache.common.hardware import cores

PACKAGES: Final = ("mfhca", "torch", "transformers", "numpy", "scipy", "h5py", "soundfile", "soxr", "joblib")
# Instruction sets that speed up matrix products and conversions, slowest first.
INSTRUCTIONS: Final = (
    "avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16",
    "asimd", "asimdhp", "bf16", "sve",
)  # fmt: skip


def instruction_sets() -> list[str]:
    """Those of INSTRUCTIONS that the processor has; empty if the system does not list them."""
    return [name for name in INSTRUCTIONS if name in hardware.flags()]


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware."""
    return bool(hardware.has_bfloat16())


def bfloat16_remark() -> str:
    """A note on bfloat16 measurements on this processor."""
    available = ", ".join(instruction_sets()) or "unknown"
    if has_bfloat16():
        return f"instruction sets: {available}"
    return f"this processor has no bfloat16 units (instruction sets: {available}), so it is emulated"


def description() -> dict[str, str]:
    """The table of the machine at the top of the report."""
    import torch

    machine = {
        "processor": hardware.processor(),
        "cores": str(cores()),
        "instruction sets": ", ".join(instruction_sets()) or "unknown",
        "bfloat16": "in hardware" if has_bfloat16() else "emulated: the processor has no units for it",
        "torch uses": torch.backends.cpu.get_cpu_capability(),
        "memory": f"{hardware.memory_bytes() / 2**30:.1f} GiB",
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".strip(", "),
        "load before the run": f"{os.getloadavg()[0]:.1f} (mean of one minute; quiet is below 0.3)",
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            machine[package] = "not installed"
    return machine
