"""What an unfinished unit keeps on disk: where its training stands, and its best weights so far.

Every file is replaced whole and holds, or is followed by, a digest of its content, so
that a unit goes on from what was written or says what is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import sha256_file, write_atomically
from mfhca_cache.common.typed import Number, problems
from mfhca_train.results.checksums import DAMAGED, DIGEST, tensors_digest
from mfhca_train.results.schema import BEST

HISTORY = ("epoch", "train_loss", "validation_loss", "validation_wa", "validation_ua")
CHECKPOINT = "checkpoint.safetensors"
UNUSABLE = (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError)  # what damage leads to


def save_checkpoint(
    work: Path,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    history: list[dict[str, float]],
    identity: str,
    best_sha256: str,
) -> None:
    """Writes model, optimiser and history as one file.

    Args:
        work: the unit's hidden folder.
        model, optimiser: as they are after the last epoch.
        history: a row an epoch, with the fields HISTORY.
        identity: digest of all that decides the run.
        best_sha256: digest of the file of the selected weights.

    Raises:
        MfhcaError: it cannot be written.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in state.items()}
    about = {"history": json.dumps(history), "identity": identity, "best_sha256": best_sha256}
    _save(work / CHECKPOINT, tensors, about | {DIGEST: _digest(about, tensors)})


def resume(
    work: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, identity: str
) -> tuple[list[dict[str, float]], str]:
    """Brings model and optimiser to where an earlier process left them, if one did.

    Args:
        work: the unit's hidden folder.
        model, optimiser: changed in place; left as they are for a fresh start.
        identity: digest of all that decides the run.

    Returns:
        The history so far, empty for a fresh start, and the digest of the selected weights' file ("" if unknown).

    Raises:
        MfhcaError: the checkpoint is damaged, or of another run.
    """
    path = work / CHECKPOINT
    if not path.exists():
        return [], ""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)  # on the CPU, where Adam wants its counts of steps; the rest is moved
        # An earlier version wrote the first two entries alone.
        if set(metadata) != {"history", "identity"} and metadata[DIGEST] != _digest(metadata, tensors):
            raise ValueError(DAMAGED)
        history: list[dict[str, float]] = json.loads(metadata["history"])
        if wrong := problems(history, list[dict[str, Number]], "history"):
            raise ValueError(wrong[0])
        if metadata["identity"] != identity:
            raise ValueError("it is of a run with other settings or data")
        weights = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, field = name.split(".")
                state.setdefault(int(index), {})[field] = tensor
        model.load_state_dict(weights)
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    except UNUSABLE as error:
        raise MfhcaError(f"{path}: cannot be resumed ({error}); delete {work} and run again") from error
    return history, metadata.get("best_sha256", "")


def save_best(work: Path, model: torch.nn.Module, epoch: int) -> str:
    """Writes the selected weights; the digest of their file."""
    _save(work / BEST, model.state_dict(), {"epoch": str(epoch)})
    return sha256_file(work / BEST)


def load_best(work: Path, model: torch.nn.Module, epoch: str, best_sha256: str, device: str) -> None:
    """Takes the selected weights.

    Args:
        work: the unit's hidden folder.
        model: changed in place.
        epoch: at which they must have been written.
        best_sha256: what `save_best` gave; "" where an earlier version kept none.
        device: where the model is.

    Raises:
        MfhcaError: they are damaged, or of another epoch.
    """
    path = work / BEST
    try:
        if best_sha256 and sha256_file(path) != best_sha256:
            raise ValueError(DAMAGED)
        with safe_open(path, "pt") as file:
            if file.metadata()["epoch"] != epoch:
                raise ValueError(f"not of epoch {epoch}")
        model.load_state_dict(load_file(path, device=device))
    except UNUSABLE as error:
        raise MfhcaError(f"{path}: cannot be used ({error}); delete {work} and run again") from error


def _digest(about: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Of a checkpoint; types that numpy does not know are taken as bytes."""
    return tensors_digest(
        about,
        {name: t.detach().cpu().reshape(-1).view(torch.uint8).numpy() for name, t in tensors.items()},
    )


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    write_atomically(
        path, save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, metadata)
    )
