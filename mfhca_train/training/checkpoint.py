"""What an unfinished unit keeps on disk: the state of its training, and its best weights so far.

Every file is replaced as a whole and carries a digest (or another file carries its digest), so training
either resumes from exactly what was written or reports what is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_file, write_atomically
from mfhca_cache.common.typed import Number, problems
from mfhca_train.results.checksums import DAMAGED, DIGEST, tensors_digest
from mfhca_train.results.schema import BEST
from mfhca_train.training.unit import CHECKPOINT

# What loading a damaged file may raise.
UNUSABLE = (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError)


def save_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    history: Sequence[Mapping[str, float]],
    identity: str,
    environment: Mapping[str, Any],
    best_sha256: str,
    name: str = CHECKPOINT,
) -> None:
    """Writes model, optimiser and history as one file.

    Args:
        folder: the unit's hidden folder.
        model, optimiser: after the last epoch.
        history: one row per epoch, with the columns HISTORY_COLUMNS.
        identity: everything that decides this training.
        environment: see `process.environment`.
        best_sha256: SHA-256 of the file of the best weights.
        name: of the file.

    Raises:
        MfhcaError: it cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    metadata = {
        "history": json.dumps(history),
        "identity": identity,
        "environment": canonical_json(environment),
        "best_sha256": best_sha256,
    }
    _save(folder / name, tensors, metadata | {DIGEST: _digest(metadata, tensors)})


def resume(
    folder: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    identity: str,
    environment: Mapping[str, Any],
    name: str = CHECKPOINT,
) -> tuple[list[dict[str, float]], str]:
    """Restores model and optimiser from the checkpoint of an earlier process, if there is one.

    A checkpoint of another environment is not resumed: no environment would give the result again.

    Args:
        folder: the unit's hidden folder.
        model, optimiser: changed in place; unchanged for a fresh start.
        identity: everything that decides this training.
        environment: see `process.environment`.
        name: of the file.

    Returns:
        The history so far, empty for a fresh start, and the SHA-256 of the file of the best weights.

    Raises:
        MfhcaError: the checkpoint is damaged or belongs to another training.
    """
    path = folder / name
    if not path.exists():
        return [], ""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(
            path
        )  # on the CPU, where Adam keeps its step counts; the rest is moved to the device
        if metadata[DIGEST] != _digest(metadata, tensors):
            raise ValueError(DAMAGED)
        history: list[dict[str, float]] = json.loads(metadata["history"])
        if wrong := problems(history, list[dict[str, Number]], "history"):
            raise ValueError(wrong[0])
        if metadata["identity"] != identity:
            raise ValueError("it belongs to another fold or seed, or to a run with other settings or data")
        if metadata["environment"] != canonical_json(environment):
            log.LOG.warning(
                "%s: begun with other versions, variables, processor or device; the unit is trained from "
                "its first epoch again",
                folder,
            )
            return [], ""
        weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimiser."):
                _, index, field = key.split(".")
                state.setdefault(int(index), {})[field] = tensor
        model.load_state_dict(weights)
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
        return history, metadata["best_sha256"]
    except UNUSABLE as error:
        raise MfhcaError(f"{path}: cannot be resumed ({error}); delete {folder} and run again") from error


def save_best(folder: Path, model: torch.nn.Module, epoch: int) -> str:
    """Writes the best weights; returns the SHA-256 of their file."""
    _save(folder / BEST, model.state_dict(), {"epoch": str(epoch)})
    return sha256_file(folder / BEST)


def load_best(folder: Path, model: torch.nn.Module, epoch: int, best_sha256: str, device: str) -> None:
    """Loads the best weights.

    Args:
        folder: the unit's hidden folder.
        model: changed in place.
        epoch: whose weights are expected.
        best_sha256: from `save_best`.
        device: where the model is.

    Raises:
        MfhcaError: they are damaged, or of another epoch.
    """
    path = folder / BEST
    try:
        if sha256_file(path) != best_sha256:
            raise ValueError(DAMAGED)
        with safe_open(path, "pt") as file:
            if file.metadata()["epoch"] != str(epoch):
                raise ValueError(f"not of epoch {epoch}")
        model.load_state_dict(load_file(path, device=device))
    except UNUSABLE as error:
        raise MfhcaError(f"{path}: cannot be used ({error}); delete {folder} and run again") from error


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a checkpoint; tensors are hashed as bytes because numpy lacks bfloat16."""
    return tensors_digest(
        metadata,
        {name: t.detach().cpu().reshape(-1).view(torch.uint8).numpy() for name, t in tensors.items()},
    )


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    write_atomically(
        path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)
    )
