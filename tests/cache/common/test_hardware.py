"""Cores, memory, processor flags and devices of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mfhca_cache.common import hardware
from mfhca_cache.common.errors import MfhcaError


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of /sys/fs/cgroup, on a machine with 16 cores."""
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


def test_without_a_container_all_cores_of_the_affinity_count(cgroup: Path) -> None:
    assert hardware.cores() == 16
    (cgroup / "cpu.max").write_text("max 100000\n")
    assert hardware.cores() == 16


@pytest.mark.parametrize(("quota", "cores"), [(250_000, 3), (50_000, 1), (6_400_000, 16), (0, 16), (-1, 16)])
def test_the_limit_of_a_container_counts_in_both_versions_of_cgroups(
    cgroup: Path, quota: int, cores: int
) -> None:
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (cgroup / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert hardware.cores() == cores
    (cgroup / "cpu/cpu.cfs_quota_us").unlink()
    (cgroup / "cpu.max").write_text(f"{quota} 100000\n")
    assert hardware.cores() == cores


def test_auto_is_the_first_available_device() -> None:
    assert hardware.resolve_device("auto") == hardware.available_devices()[0]
    assert hardware.resolve_device("cpu") == "cpu"
    assert hardware.available_devices()[-1] == "cpu"


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "meta"])
def test_a_device_that_is_not_available_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(MfhcaError, match=f"device '{name}' is not available here; choose one of .*cpu"):
        hardware.resolve_device(name)


def test_several_gpus_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert hardware.resolve_device("auto") == "cuda"
    assert hardware.resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(MfhcaError, match="device 'cuda:2' is not available here; choose one of cuda"):
        hardware.resolve_device("cuda:2")


def test_free_space_of_a_folder_that_does_not_exist_is_that_of_its_parent(tmp_path: Path) -> None:
    assert hardware.existing(tmp_path / "a/b/c") == tmp_path
    assert hardware.free_bytes(tmp_path / "a/b") > 0


def test_memory_is_read_in_bytes() -> None:
    assert hardware.memory_bytes() >= hardware.memory_bytes("MemFree") > 1 << 20
    assert hardware.memory_bytes("NoSuchField") == 0


@pytest.mark.parametrize(
    ("flags", "precision"),
    [(["avx2", "avx512_bf16"], "bfloat16"), (["avx2"], "float32"), ([], "float32")],
)
def test_the_fastest_precision_is_bfloat16_where_the_processor_multiplies_it(
    flags: list[str], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "flags", lambda: flags)
    assert hardware.fastest_precision("cpu") == precision
    assert hardware.fastest_precision("mps") == "float32"  # says nothing of its units
