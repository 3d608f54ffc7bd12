"""A process per variant, which waits on a pipe between its turns.

Threads, the allocator's settings and torch's caches belong to a process, so variants that differ in
them need a process each. `variants` has what they run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


class Worker:
    """A running variant. A context manager; the process ends with it.

    Args:
        variant: a key of `variants.VARIANTS`.
        threads: of PyTorch.
        options: JSON values for the variant.

    Attributes:
        info: what the variant sent when it was ready.

    Raises:
        RuntimeError: the process failed; the message has the end of its output.
    """

    def __init__(self, variant: str, threads: int = 1, **options: Any) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by `close`
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.variants"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._variant = variant
        try:
            self._send({"variant": variant, "threads": threads, "options": options})
            self.info = self._receive()
        except BaseException:
            self.close()
            raise

    def begin(self, steps: int) -> None:
        """Starts some steps; `end` waits for them."""
        self._send({"do": steps})

    def end(self) -> float:
        """Waits; returns wall-clock seconds of the steps."""
        return float(self._receive()["seconds"])

    def run(self, steps: int) -> float:
        """Runs some steps; returns their seconds."""
        self.begin(steps)
        return self.end()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `_receive` reports the reason

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            tail = self._errors.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"variant {self._variant}: exit code {self._process.returncode}:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process, after at most five seconds for the step that it is computing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=5)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()
            self._errors.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def once(variant: str, threads: int = 1, **options: Any) -> dict[str, Any]:
    """Runs a variant that answers once, and returns its answer."""
    with Worker(variant, threads, **options) as worker:
        return worker.info
