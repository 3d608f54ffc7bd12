"""The pipe between the parent process and a worker process that runs a variant."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


class Channel:
    """The pipe to the parent. Standard output goes to standard error, so that nothing else is written to the pipe."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends one line of JSON."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def receive(self) -> dict[str, Any]:
        """Receives the next order; ends the process at once if the parent has closed the pipe."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        order: dict[str, Any] = json.loads(line)
        return order

    def serve(self, step: Callable[[], object], **info: Any) -> None:
        """Executes as many steps as the parent asks for, and reports how long they took."""
        self.send(info)
        while True:
            steps = self.receive()["do"]
            start = time.perf_counter()
            for _ in range(steps):
                step()
            self.send({"seconds": time.perf_counter() - start})
