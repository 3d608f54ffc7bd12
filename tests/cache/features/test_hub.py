"""mfhca_cache.features.hub: checkpoints from the Hugging Face hub and its local cache."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from backbone_factory import save_model

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.backbone import resolve
from mfhca_cache.features.hub import is_cached


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("backbone") / "hubert", "HubertModel")


def test_hub_name_out_of_reach_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MfhcaError,
        match=r"backbone nobody/nothing: .*HF_HUB_OFFLINE is set.*; download it elsewhere .* and pass the fold",
    ):
        resolve("nobody/nothing")


def test_machine_without_network_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        MfhcaError, match=r"could not be downloaded from the hub \(gaierror: .*Name or service not known"
    ):
        resolve("nobody/nothing")


def test_hub_name_is_found_in_the_local_cache_without_the_network(
    hubert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: Any, local_files_only: bool, **options: Any) -> str:
        assert local_files_only, "the network was asked for what is there"
        return str(download(*args, local_files_only=True, **options))

    download = huggingface_hub.hf_hub_download
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--hubert-tiny"
    shutil.copytree(hubert, repository / "snapshots/0123")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123")
    found = resolve("someone/hubert-tiny")
    assert found.name == "hubert-tiny"
    assert found.weights_sha256 == resolve(str(hubert)).weights_sha256
    assert is_cached("someone/hubert-tiny")
    (repository / "snapshots/0123/preprocessor_config.json").unlink()
    assert not is_cached("someone/hubert-tiny")
    assert not is_cached("not--a/name..")
