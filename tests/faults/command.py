"""A command of the project in a forked process group, that may be killed, or given little room for files.

The parent has imported what the commands need and started no thread, so a trial
costs no start-up; from the fork on the child is the command itself, with its own
group, working directory and standard output.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

TIMEOUT_SECONDS: Final = 900.0  # of a command of a few seconds, on a machine with much else to do
BUILD: Final = ("builder", "distribute", "status", "verify", "prune")
BUG: Final = "unexpected error"  # how a command announces what is not an MfhcaError
# What changes files, of all that Python code calls; a kill can be aimed at the n-th of these.
CALLS: Final = (
    "open",
    "mkdir",
    "write",
    "pwrite",
    "fsync",
    "ftruncate",
    "posix_fallocate",
    "fchmod",
    "link",
    "replace",
    "rename",
    "unlink",
    "remove",
    "rmdir",
)
TORN: Final = ("write", "pwrite")  # of which half may have happened

MODULES: Final = (
    "sklearn.manifold",
    "sklearn.svm",
    "transformers.models.hubert.modeling_hubert",
    *(f"mfhca_cache.{name}" for name in ("cli", "corpora.scan", *(f"build.{module}" for module in BUILD))),
    *(
        f"mfhca_train.{name}"
        for name in ("runs.ablation", "cli.main", "runs.crossval", "training.fit", "model.cpu.kernels")
    ),
    *(f"mfhca_train.{name}" for name in ("inference.predictor", "report.page", "results.rescore")),
)


@dataclass(frozen=True)
class Kill:
    """When a group is killed: after so many seconds, or at the n-th system call that changes files."""

    after_seconds: float | None = None
    at_call: int | None = None
    torn: bool = False  # in the middle of that call, where it writes
    alone: bool = False  # the command's own process only: its workers have to notice


@dataclass(frozen=True)
class Member:
    """A user of a group, by numbers."""

    user: int
    group: int


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int  # negative: the signal that killed it
    output: str
    seconds: float
    calls: int = 0  # that changed files, in the command's own process

    @property
    def killed(self) -> bool:
        """Whether it was ended by SIGKILL."""
        return self.code == -signal.SIGKILL

    @property
    def refused(self) -> bool:
        """Whether it ended as a foreseen failure does: exit code 1, one error, no traceback."""
        errors = [line for line in self.output.splitlines() if line.startswith("error: ")]
        return self.code == 1 and len(errors) == 1 and not self.crashed

    @property
    def crashed(self) -> bool:
        """Whether it ended by a bug or by a signal of its own making."""
        return BUG in self.output or "Traceback" in self.output or (self.code < 0 and not self.killed)

    @property
    def error(self) -> str:
        """Its error, or else the last of what it said."""
        lines = self.output.strip().splitlines() or [""]
        return next((line for line in lines if line.startswith("error: ")), lines[-1])


def load() -> None:
    """Imports what the commands would import, so that no child has to; starts no thread."""
    for name in MODULES:
        importlib.import_module(name)


def run(
    arguments: Sequence[str],
    folder: Path,
    kill: Kill | None = None,
    room_bytes: int | None = None,
    count: bool = False,
    plain: bool = False,
    member: Member | None = None,
) -> Finished:
    """Runs a command to its end, or kills its process group.

    Args:
        arguments: the command ("mfhca-cache" or "mfhca-train") and its arguments.
        folder: where it works.
        kill: when to kill it; a command that ends before is not killed.
        room_bytes: no file can grow beyond this (RLIMIT_FSIZE, the signal ignored): EFBIG in place of ENOSPC.
        count: count the calls that change files.
        plain: as a user whom permissions bind, also where that is root.
        member: as another user of a group; only root can.
    """
    return Running(arguments, folder, kill, room_bytes, count, plain, member).wait()


class Running:
    """A command that was started."""

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        kill: Kill | None = None,
        room_bytes: int | None = None,
        count: bool = False,
        plain: bool = False,
        member: Member | None = None,
    ) -> None:
        self._started = time.monotonic()
        self._kill = kill or Kill()
        said, say = os.pipe()
        counted, tell = os.pipe()
        self._counted = counted
        self.pid = os.fork()
        if self.pid == 0:
            os.close(said)
            os.close(counted)
            _child(arguments, folder, say, tell, self._kill, room_bytes, count, plain, member)
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)  # here and in the child: whoever comes first
        os.close(say)
        os.close(tell)
        self._said = said

    def wait(self) -> Finished:
        """Its end; the group is killed when its time has come, or when this process is interrupted."""
        try:
            return self._wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            raise

    def _wait(self) -> Finished:
        after = self._kill.after_seconds
        deadline = self._started + (TIMEOUT_SECONDS if after is None else after)
        output, status = bytearray(), None
        while status is None:
            left = deadline - time.monotonic()
            if left <= 0:
                (os.kill if self._kill.alone else os.killpg)(self.pid, signal.SIGKILL)
                status = os.waitpid(self.pid, 0)[1]
            else:
                _drain(self._said, output, min(left, 0.005))
                pid, found = os.waitpid(self.pid, os.WNOHANG)
                status = found if pid else None
        seconds = time.monotonic() - self._started
        if not self._kill.alone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # workers and helpers of a killed command
        while _drain(self._said, output, 0.0):
            pass
        calls = os.read(self._counted, 64)
        os.close(self._said)
        os.close(self._counted)
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL and after is None and self._kill.at_call is None:
            output += f"\nkilled after {TIMEOUT_SECONDS} s, it hung".encode()
            code = -signal.SIGALRM
        return Finished(code, output.decode(errors="replace"), seconds, int(calls or 0))


def _drain(descriptor: int, output: bytearray, seconds: float) -> bool:
    """Takes what a pipe has, waiting a moment for it; False where there is nothing."""
    ready, _, _ = select.select([descriptor], [], [], seconds)
    data = os.read(descriptor, 1 << 16) if ready else b""
    if ready and not data:
        time.sleep(seconds)
    output += data
    return bool(data)


def _child(
    arguments: Sequence[str],
    folder: Path,
    say: int,
    tell: int,
    kill: Kill,
    room_bytes: int | None,
    count: bool,
    plain: bool,
    member: Member | None,
) -> NoReturn:
    """The command, from the fork to its end."""
    code = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(say, 1)
        os.dup2(say, 2)
        os.chdir(folder)
        if room_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))
        if member is not None:
            _become(member)
        elif plain and os.geteuid() == 0:
            _obey_permissions()
        calls = _watch(kill) if count or kill.at_call is not None else [0]
        code = _invoke(arguments)
        os.write(tell, str(calls[0]).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _invoke(arguments: Sequence[str]) -> int:
    from mfhca_cache.cli import main as cache
    from mfhca_train.cli.main import main as train

    command = {"mfhca-cache": cache, "mfhca-train": train}[arguments[0]]
    try:
        command(list(arguments[1:]), prog_name=arguments[0])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _become(member: Member) -> None:
    """Becomes a user whose new files are for the group; modules that only root may read can still be imported."""
    libc, keep_capabilities, may_read = ctypes.CDLL(None, use_errno=True), 8, 1 << 2  # CAP_DAC_READ_SEARCH
    libc.prctl(keep_capabilities, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(member.group)
    os.setuid(member.user)
    os.umask(0o002)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    if libc.capset(header, (ctypes.c_uint32 * 6)(may_read, may_read, 0, 0, 0, 0)):
        raise OSError(ctypes.get_errno(), "capset")


def _obey_permissions() -> None:
    """Gives up root's rights to pass over the permissions of files (Linux)."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    libc = ctypes.CDLL(None, use_errno=True)
    overriding = 0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), "capget")
    data[0] &= ~overriding
    data[1] &= ~overriding
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


def _watch(kill: Kill) -> list[int]:
    """Counts this process's calls that change files, and kills its group at one of them."""
    calls = [0]

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == kill.at_call:
                if kill.torn and name in TORN:
                    descriptor, data, *offset = arguments
                    call(descriptor, bytes(data)[: len(data) // 2], *offset)
                os.killpg(0, signal.SIGKILL)
            return call(*arguments, **options)

        return one

    for name in CALLS:
        if hasattr(os, name):
            setattr(os, name, watched(name, getattr(os, name)))
    return calls
