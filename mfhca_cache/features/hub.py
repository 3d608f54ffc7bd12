"""Downloading checkpoints from the Hugging Face hub. Only the files that `checkpoint` reads are downloaded."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.checkpoint import CONFIG, INDEX, PREPROCESSOR, PROCESSOR, WEIGHTS, parts_of

NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


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
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and not getproxies():  # a proxy resolves addresses itself
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)


def one_line(error: BaseException) -> str:
    """The type of an error and the first sentence of its message."""
    text = re.sub(r"\s+", " ", str(error)).strip().split(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
