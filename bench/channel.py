"""The pipe between a worker process of `variants` and the parent that tells it what to do."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


class Channel:
    """The pipe to the parent. Nothing else may print on it, so standard output is turned to standard error."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, message: Mapping[str, Any]) -> None:
        """One line of JSON."""
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def hear(self) -> dict[str, Any]:
        """The next order; ends the process, wherever it is, when the parent has closed the pipe."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        order: dict[str, Any] = json.loads(line)
        return order

    def serve(self, step: Callable[[], object], **info: Any) -> None:
        """Does as many steps as it is told, and says how long they took."""
        self.say(info)
        while True:
            steps = self.hear()["do"]
            start = time.perf_counter()
            for _ in range(steps):
                step()
            self.say({"seconds": time.perf_counter() - start})
