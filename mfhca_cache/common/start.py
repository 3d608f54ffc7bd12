"""Starting a command so that Ctrl-C is one line even while its modules are still being imported."""

from __future__ import annotations

import importlib
import os
import sys


def start(module: str, arguments: list[str] | None = None) -> None:
    """Imports the module of a command and calls its `main`; Ctrl-C ends it with exit code 130.

    Args:
        module: full name of the module.
        arguments: of the command; None for those of this process.
    """
    try:
        importlib.import_module(module).main(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to resume\n")
        sys.stderr.flush()
        # Libraries that were interrupted while being imported may print tracebacks in their exit handlers.
        os._exit(130)
