"""What can change features besides their recipe: processor, device, threads, versions, variables, edits of the code.

It is recorded in each shard, outside its key and digest.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import soundfile
import soxr

from mfhca_cache import features
from mfhca_cache.common.hardware import processor, variables
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.recipe.kinds import LogMel, Mfcc, Ssl
from mfhca_cache.store.conditions import code_digest

PACKAGES = ("numpy", "scipy", "soundfile", "soxr")
MEL_PACKAGES = ("librosa",)
ENCODER_PACKAGES = ("torch", "transformers")


def provenance(kind: str, encoder: Encoder | None, batch_size: int, rate: float | None) -> dict[str, Any]:
    """The provenance of features that this process computes.

    Args:
        kind: of the recipe.
        encoder: for kind "ssl".
        batch_size: segments per forward pass.
        rate: segments per second, for later estimates; None if unknown.
    """
    value: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "packages": {name: version(name) for name in PACKAGES}
        | {
            "code": code_digest(Path(features.__file__).parent, "*.py"),
            # A package may use the library of the system.
            "libsndfile": soundfile.__libsndfile_version__,
            "libsoxr": soxr.__libsoxr_version__,
        },
    }
    if rate is not None:
        value["segments_per_second"] = round(rate, 3)
    if kind in (LogMel.kind, Mfcc.kind):
        value["packages"] |= {name: version(name) for name in MEL_PACKAGES}
    if kind == Ssl.kind and encoder is not None:
        import torch

        value["packages"] |= {name: version(name) for name in ENCODER_PACKAGES}
        value |= {
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "device": encoder.device,
            "threads": torch.get_num_threads(),
            "batch_size": batch_size,
        }
        if encoder.device.startswith("cuda"):
            value["accelerator"] = torch.cuda.get_device_name(encoder.device)
    if found := variables("numpy", "soxr", *(["torch"] if kind == Ssl.kind else [])):
        value["variables"] = found
    return value
