"""A bundle: a run's networks in two files that predict without the run and its cache.

    DIR/networks.safetensors   weights, scaling, and which audio was heard, of every network
    DIR/card.json              what they are: classes, settings, recipes, speakers, scores with their protocol

Equal runs give equal bytes: no time, path or name of a machine is in it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import write_atomically
from mfhca_train.config.parse import from_dict
from mfhca_train.inference.ensemble import Ensemble, Member, checked, read_run
from mfhca_train.model.saved import pack_inputs, unpack_inputs
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.training.unit import publish_folder

FORMAT, VERSION = "mfhca-bundle", 1
CARD, NETWORKS = "card.json", "networks.safetensors"
WEIGHTS, INPUTS = (
    "weights.",
    "inputs.",
)  # what the names of a network's tensors begin with, after its own name
TITLE = "Networks that tell emotions from speech: MFHCA on features of a frozen encoder"
USE = "mfhca-train predict DIR AUDIO..."
ENCODER = " --backbone ENCODER"
WARNING = "ORACLE: epochs were selected on the test speakers, so the scores are too good"


def write_bundle(ensemble: Ensemble, out: Path) -> None:
    """Writes a bundle; the folder appears whole or not at all.

    Args:
        ensemble: the networks.
        out: the folder, which must not exist.

    Raises:
        MfhcaError: something is there already, or it cannot be written.
    """
    if out.exists() or out.is_symlink():
        raise MfhcaError(f"{out}: is there already; remove it or choose another --out")
    tensors: dict[str, Tensor] = {}
    sides: dict[str, Any] = {}
    for member in ensemble.members:
        packed, own = pack_inputs(member.inputs)
        sides = sides or own
        prefix = _prefix(member.about)
        tensors |= {f"{prefix}{WEIGHTS}{name}": tensor.contiguous() for name, tensor in member.state.items()}
        tensors |= {f"{prefix}{INPUTS}{name}": tensor for name, tensor in packed.items()}
    payload = save(tensors)
    card = {
        "format": FORMAT,
        "version": VERSION,
        "title": TITLE,
        "use": USE + (ENCODER if "ssl" in sides else ""),
        **({"warning": WARNING} if ensemble.card["oracle"] else {}),
        **ensemble.card,
        "inputs": sides,
        "networks": [dict(member.about) for member in ensemble.members],
        "networks_sha256": hashlib.sha256(payload).hexdigest(),
    }
    work = None
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.absolute().parent))
        work.chmod(0o755)
        write_atomically(work / NETWORKS, payload)
        write_sealed(work / CARD, card)
        publish_folder(work, out.absolute())
    except OSError as error:
        raise MfhcaError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def is_bundle(path: Path) -> bool:
    """Whether a folder has a bundle's card."""
    return (path / CARD).is_file()


def read_bundle(path: Path) -> Ensemble:
    """The networks of a bundle.

    Args:
        path: its folder.

    Raises:
        MfhcaError: it is none, or of a later version, or a byte of the weights differs.
    """
    card = read_sealed(path / CARD, "export it again")
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise MfhcaError(f"{path / CARD}: not of a bundle; `mfhca-train export RUN --out DIR` makes one")
    if card.get("version") != VERSION:
        raise MfhcaError(
            f"{path}: a bundle of version {card.get('version')}, this program reads {VERSION}; "
            "export it again, or install the version that made it"
        )
    try:
        payload = (path / NETWORKS).read_bytes()
    except OSError as error:
        raise MfhcaError(f"{path / NETWORKS}: cannot be read ({error.strerror}); export it again") from error
    if hashlib.sha256(payload).hexdigest() != card.get("networks_sha256"):
        raise MfhcaError(f"{path / NETWORKS}: not the file that {CARD} was written with; export it again")
    try:
        tensors = load(payload)
        members = [_member(about, tensors, card["inputs"]) for about in card["networks"]]
        config = from_dict(card["config"])
        used = [card[key] for key in ("corpus", "label_set", "protocol", "oracle", "scores", "threads")]
        if not all(isinstance(name, str) for name in card["classes"]) or None in used:
            raise ValueError("classes, corpus or protocol are not what they should be")
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MfhcaError(f"{path / CARD}: damaged ({_reason(error)}); export it again") from error
    return checked(Ensemble(path, card, config, tuple(members)))


def open_ensemble(path: Path, row: str | None = None) -> Ensemble:
    """The networks of a run or a bundle, whichever a folder holds.

    Args:
        path: the folder.
        row: of an ablation's run.

    Raises:
        MfhcaError: it is neither, or see `read_run` and `read_bundle`.
    """
    if not path.is_dir():
        raise MfhcaError(f"{path}: no such folder; pass a run's or a bundle's")
    if not is_bundle(path):
        return read_run(path, row)
    if row is not None:
        raise MfhcaError(f"{path}: a bundle has no rows; leave --row out")
    return read_bundle(path)


def _prefix(about: Any) -> str:
    return f"seed-{about['seed']}/fold-{quote(about['fold'], safe='')}/"


def _member(about: Any, tensors: dict[str, Tensor], sides: Any) -> Member:
    prefix = _prefix(about)
    own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    state = {name.removeprefix(WEIGHTS): t for name, t in own.items() if name.startswith(WEIGHTS)}
    packed = {name.removeprefix(INPUTS): t for name, t in own.items() if name.startswith(INPUTS)}
    for key in ("test_speakers", "validation_speakers", "train_speakers"):
        if not isinstance(about[key], list):
            raise TypeError(f"{key} is not a list")
    return Member(about, unpack_inputs(packed, sides), state)


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
