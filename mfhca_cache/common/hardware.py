"""The machine: what decides how fast things go here, and what there is room for. Standard library only."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Final

BFLOAT16_UNITS: Final = ("avx512_bf16", "amx_bf16", "bf16")  # as /proc/cpuinfo calls them


def _line_of(file: str, *names: str) -> str:
    """What stands after the colon in the first line that begins with one of the names; "" where none does."""
    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")


def processor() -> str:
    """The processor's name, as far as the system tells."""
    return _line_of("/proc/cpuinfo", "model name") or platform.processor() or "unknown"


def flags() -> list[str]:
    """The processor's features by the names of /proc/cpuinfo; empty where the system does not tell."""
    return _line_of("/proc/cpuinfo", "flags", "Features").split()


def has_bfloat16() -> bool | None:
    """Whether the processor multiplies bfloat16 in hardware; None where the system does not tell."""
    found = flags()
    return any(name in BFLOAT16_UNITS for name in found) if found else None


def memory_bytes(name: str = "MemTotal") -> int:
    """A line of /proc/meminfo, in bytes; 0 where the system has none."""
    number = _line_of("/proc/meminfo", f"{name}:").split()
    return 1024 * int(number[0]) if number else 0


def free_bytes(folder: Path) -> int:
    """What a user may still write to the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())
