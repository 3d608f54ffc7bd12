"""The Hugging Face hub and its local cache. Of a checkpoint, only the files that `checkpoint` reads are downloaded."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import sha256_file
from mfhca_cache.features.checkpoint import (
    CONFIG,
    INDEX,
    PREPROCESSOR,
    PROCESSOR,
    WEIGHTS,
    parts_of,
    weight_files,
    weights_digest,
)

NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
OF_MODELS = "models--"  # begins the folder of a model in the hub's cache; its name follows, with -- for /


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint in the local hub cache: its name on the hub, the commit, and the folder of its files."""

    name: str
    revision: str
    folder: Path


def snapshot_of(folder: Path) -> Snapshot | None:
    """What the place of a folder in the local hub cache says about it; None for a folder elsewhere.

    >>> snapshot_of(Path("hub/models--facebook--hubert-base-ls960/snapshots/dba3bb0")).name
    'facebook/hubert-base-ls960'
    """
    model, snapshots, revision = ("", "", "", *folder.absolute().parts)[-3:]
    if snapshots != "snapshots" or not model.startswith(OF_MODELS):
        return None
    return Snapshot(model.removeprefix(OF_MODELS).replace("--", "/"), revision, folder)


def find_cached(weights_sha256: str, config_sha256: str) -> Snapshot | None:
    """A checkpoint of the local hub cache by its digests, whatever its name. The network is not used."""
    from huggingface_hub import constants

    for config in sorted(Path(constants.HF_HUB_CACHE).glob(f"{OF_MODELS}*/snapshots/*/{CONFIG}")):
        folder = config.parent
        try:
            if sha256_file(config) != config_sha256:
                continue
            if weights_digest(weight_files(folder, folder.name)) == weights_sha256:
                return snapshot_of(folder)
        except (OSError, MfhcaError):  # incomplete: a download was interrupted
            continue
    return None


def download_files(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """The local folder of some files of a model on the hub. Files in the local hub cache are not downloaded again.

    Args:
        name: on the hub.
        files: names of all files.
        revision: a commit, branch or tag; None for the main branch.

    Raises:
        MfhcaError: the hub cannot be reached, or has no such model or file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(file: str) -> Path:
        try:
            return Path(hf_hub_download(name, file, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            _look_up_hub()
            return Path(hf_hub_download(name, file, revision=revision))

    try:
        return {fetch(file).parent for file in files}.pop()
    except (OSError, ValueError) as error:
        raise MfhcaError(
            f"{name}: no such folder, and could not be downloaded from the hub ({one_line(error)}); download it "
            f"elsewhere (`hf download {name} --local-dir FOLDER`) and pass the folder"
        ) from error


def is_cached(name: str) -> bool:
    """Whether the local hub cache has a complete checkpoint of this name. The network is not used."""
    try:
        return _fetch_checkpoint(name, local=True) is not None
    except (OSError, ValueError):  # not a possible name
        return False


def download(name: str) -> Path:
    """The local folder of a hub checkpoint. It is downloaded if necessary; HF_HUB_OFFLINE is respected.

    Args:
        name: on the hub, e.g. "facebook/hubert-base-ls960". The local hub cache is searched first, so that the
            network is used only once.

    Raises:
        MfhcaError: the hub cannot be reached, or its copy lacks a file.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # each retry would print two lines
    try:
        folder = _fetch_checkpoint(name, local=True)
        if folder is None:
            _look_up_hub()
            folder = _fetch_checkpoint(name, local=False)
    except (OSError, ValueError) as error:
        if isinstance(error, MfhcaError):
            raise
        if constants.HF_HUB_OFFLINE:
            reason = f"HF_HUB_OFFLINE is set, and the hub cache {constants.HF_HUB_CACHE} has no copy"
        else:
            reason = one_line(error)
        raise MfhcaError(
            f"backbone {name}: no such folder, and could not be downloaded from the hub ({reason}); download it "
            f"elsewhere (`hf download {name} --local-dir FOLDER`) and pass the folder as --backbone"
        ) from error
    if folder is None:
        raise MfhcaError(
            f"backbone {name}: the hub's copy lacks {CONFIG}, {PREPROCESSOR} or one of {', '.join(WEIGHTS)}; "
            "add the file in a local folder and pass the folder"
        )
    return folder


def _fetch_checkpoint(name: str, local: bool) -> Path | None:
    """Fetches all files of a checkpoint; its folder, or None if one is missing.

    Raises:
        OSError, ValueError: the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def fetch(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(name, file, local_files_only=local))
        except LocalEntryNotFoundError:
            if local:
                return None
            raise
        except EntryNotFoundError:
            return None

    config = fetch(CONFIG)
    preprocessor = fetch(PREPROCESSOR), fetch(PROCESSOR)
    weights = next((path for path in map(fetch, WEIGHTS) if path is not None), None)
    if config is None or not any(preprocessor) or weights is None:
        return None
    parts = parts_of(weights, name) if weights.name.endswith(INDEX) else []
    return config.parent if all(fetch(part) is not None for part in parts) else None


def _look_up_hub() -> None:
    """Fails at once, not after half a minute of retries, on a machine without network.

    Raises:
        OSError: the hub's address cannot be resolved.
    """
    from urllib.request import getproxies  # slow to import

    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not getproxies():  # a proxy resolves addresses itself
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)


def one_line(error: BaseException) -> str:
    """The type of an error and the first sentence of its message."""
    text = re.sub(r"\s+", " ", str(error)).strip().split(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
