"""Starting a command so that Ctrl-C, or standard output on a full disk, is one line even before its code runs."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT)


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
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        sys.stderr.write(f"error: the output cannot be written ({error.strerror}); free disk space\n")
        # What is still buffered cannot be written either: Python would try again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
