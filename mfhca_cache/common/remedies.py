"""Remedies in error messages: placeholders get what the command was given, and make's variables are named."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from shlex import quote
from typing import Any, Final

MAKE: Final = "MFHCA_MAKE"  # set in the Makefile
PLACEHOLDERS: Final = {
    "manifest": r"(?<=features )MANIFEST\b",
    "root": "DIR",
    "backbone": "ENCODER",
    "cache": "DIR",
}
VARIABLES: Final = {
    "--root": "ROOT=",
    "--backbone": "BACKBONE=",
    "--cache": "CACHE=",
    "--out": "RUN=",
    "--label-set": "LABEL_SET=",
    "--protocol": "PROTOCOL=",
}
OPTION: Final = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")


def completed(message: str, parameters: Mapping[str, Any]) -> str:
    """A message with its placeholders filled, quoted for the shell, and with make's variables if make runs the command.

    Args:
        message: of an error.
        parameters: of the command, by name; None for those that were not given.

    >>> completed("run `mfhca-cache features MANIFEST --root DIR --kind mfcc`", {"manifest": "my table.csv"})
    "run `mfhca-cache features 'my table.csv' --root DIR --kind mfcc`"
    """
    for name, placeholder in PLACEHOLDERS.items():
        value = parameters.get(name)
        if isinstance(value, str | os.PathLike):
            before = "" if name == "manifest" else f"(?<=--{name} )"
            given = quote(os.fspath(value)).replace("\\", r"\\")  # in a replacement a backslash is special
            message = re.sub(f"{before}{placeholder}", given, message)
    if not os.environ.get(MAKE):
        return message
    named = dict.fromkeys(OPTION.findall(message))
    variables = [f"{option} is {VARIABLES[option]}" for option in named if option in VARIABLES]
    if any(option not in VARIABLES for option in named):
        variables.append("other options go into ARGS= (cv, ablations) or FEATURE_ARGS= (features)")
    return f"{message}\nwith make: {'; '.join(variables)}" if variables else message
