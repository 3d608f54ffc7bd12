"""Ctrl-C while folds are trained in parallel: the real command, in a process group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from cluster_factory import needs_proc, wait_for
from corpus_factory import SMALL, request

SEMAPHORES = Path("/dev/shm")
LISTENING = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it


def cv_command(folder: Path) -> tuple[list[str], str]:
    """Folds without end, and the file that shows that one has finished an epoch."""
    place = request(folder)
    settings = {**SMALL, "train.epochs": "100000", "train.patience": "100000"}
    command = [
        "mfhca_train",
        "cv",
        str(place.manifest),
        "--cache",
        str(place.cache),
        "--out",
        "run",
        "--no-analysis",
    ]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    return command, "run/model/seed-0/.fold-*.partial/checkpoint.safetensors"


def members(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (process / "stat").read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:  # it has ended
            continue
        if int(its_group) == group and state != "Z":
            found.append(process.name)
    return found


def semaphores(pid: int) -> list[str]:
    """Named semaphores that loky made in a process."""
    return [path.name for path in SEMAPHORES.glob(f"sem.loky-{pid}-*")]


@needs_proc
@pytest.mark.skipif(not SEMAPHORES.is_dir(), reason="named semaphores are listed in /dev/shm")
def test_nothing_is_left_after_ctrl_c(tmp_path: Path) -> None:
    command, started = cv_command(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", *command, "--jobs", "2", "--threads", "1"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        preexec_fn=LISTENING,
    ) as process:
        try:
            wait_for(
                lambda: (
                    process.poll() is not None or (list(tmp_path.glob(started)) and semaphores(process.pid))
                )
            )
            assert process.poll() is None
            assert len(members(process.pid)) > 2
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            _, said = process.communicate(timeout=60)
            assert process.returncode == 130
            assert said.splitlines()[-1] == "interrupted; run the same command again to resume"
            assert "Traceback" not in said
            wait_for(lambda: not members(process.pid) and not semaphores(process.pid))
        finally:
            if members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
