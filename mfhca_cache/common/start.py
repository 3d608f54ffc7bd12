"""Starting a command so that Ctrl-C is one line even while its modules are still being imported."""

from __future__ import annotations

import importlib
import os
import sys


def start(module: str) -> None:
    """Imports the module of a command and calls its `main`; Ctrl-C ends it with exit code 130."""
    try:
        importlib.import_module(module).main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to resume\n")
        sys.stderr.flush()
        # Libraries that were interrupted while being imported may print tracebacks in their exit handlers.
        os._exit(130)
