"""doctor: the checks of the machine, and the exit code."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_factory import ask
from huggingface_hub import constants

from mfhca_cache.common import hardware
from mfhca_cache.doctor import machine
from mfhca_cache.doctor.machine import MISSING, OK, WARN, Finding

LINE = re.compile(r"(ok|warn|missing): \S.*")


def test_a_sound_machine_is_told_so_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ask()
    assert result.exit_code == 0, result.output
    *lines, last = result.stdout.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert last == "everything required is available"
    for words in (
        "ok: Python 3.",
        " torch 2",
        "file locks work in",
        "HDF5 can write, lock and read",
        "device ",
    ):
        assert words in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_missing() -> None:
    result = ask("--cache", "/proc/nowhere")
    assert result.exit_code == 1
    assert "missing: /proc: cannot be written" in result.stdout
    assert "choose a --cache on another disk" in result.stdout


def test_old_and_absent_packages_are_missing() -> None:
    assert machine._problem("numpy", "1.26") is None
    assert re.fullmatch(r"numpy \S+, at least 999\.1 is required", machine._problem("numpy", "999.1") or "")
    assert machine._problem("no-such-package", "1") == "package no-such-package is not installed"


def test_the_least_versions_are_those_of_the_project() -> None:
    """All that pyproject.toml names as needed is asked for."""
    import tomllib

    from places import REPOSITORY

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    told = [str(finding) for finding in machine.check_packages()]
    for text in project["dependencies"]:
        assert any(re.search(rf"\b{text.partition('>=')[0]} \d", line) for line in told), text


@pytest.fixture
def port() -> Iterator[int]:
    """One that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_hub_is_asked_unless_told_not_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (told,) = machine.check_hub()
    assert told.state == OK
    assert told.summary.startswith("HF_HUB_OFFLINE is set")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    assert list(machine.check_hub()) == [Finding(OK, "hub 127.0.0.1 can be reached")]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        (told,) = machine.check_hub()
    assert told.state == WARN
    assert "Connection refused" in told.summary
    assert told.remedy.startswith("pass --backbone a folder")


@pytest.mark.parametrize("flags", ["fpu avx2", "fpu avx512_bf16", None])
def test_what_bfloat16_means_here_is_said(flags: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def line_of(file: str, *names: str) -> str:
        return (flags or "") if "flags" in names else real(file, *names)

    real = hardware._read_field
    monkeypatch.setattr(hardware, "_read_field", line_of)
    told = " ".join(str(finding) for finding in machine.check_processor())
    assert ("has no bfloat16 units" in told) == (flags == "fpu avx2")
    assert ("the processor has bfloat16 units" in told) == (flags == "fpu avx512_bf16")


def test_locks_that_exclude_nobody_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine._check_locks(tmp_path, tmp_path).state == OK
    monkeypatch.setattr(machine, "TRY_LOCK", "")  # as on a file system where a second lock succeeds
    assert machine._check_locks(tmp_path, tmp_path).state == WARN


def test_hdf5_on_a_file_system_that_fails_is_missing() -> None:
    assert machine._check_hdf5(Path("/proc"), Path("/proc")).state == MISSING
