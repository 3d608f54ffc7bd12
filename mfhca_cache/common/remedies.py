"""Remedies in error messages: placeholders get what the command knows, and make's variables are named."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, Final

MAKE: Final = "MFHCA_MAKE"  # set in the Makefile
PLACEHOLDERS: Final = {
    "manifest": r"(?:(?<=features )|(?<=import ))MANIFEST\b",
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
        parameters: of the command, by name; None for those that were not given, a tuple for those of several corpora.

    >>> completed("run `mfhca-cache features MANIFEST --root DIR --kind mfcc`", {"manifest": "my table.csv"})
    "run `mfhca-cache features 'my table.csv' --root DIR --kind mfcc`"
    """
    values = _values(message, parameters)
    for name, placeholder in PLACEHOLDERS.items():
        if name in values:
            before = "" if name == "manifest" else f"(?<=--{name} )"
            given = quote(values[name]).replace("\\", r"\\")  # in a replacement a backslash is special
            message = re.sub(f"{before}{placeholder}", given, message)
    if not os.environ.get(MAKE):
        return message
    named = dict.fromkeys(OPTION.findall(message))
    variables = [f"{option} is {VARIABLES[option]}" for option in named if option in VARIABLES]
    if any(option not in VARIABLES for option in named):
        variables.append("other options go into ARGS= (cv, ablations) or FEATURE_ARGS= (features)")
    return f"{message}\nwith make: {'; '.join(variables)}" if variables else message


def _values(message: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """What stands for each placeholder; of several corpora only what belongs to the one that the message names."""
    given: dict[str, list[str]] = {}
    for name in PLACEHOLDERS:
        value = parameters.get(name)
        several = value if isinstance(value, tuple) else (value,)
        given[name] = [os.fspath(one) for one in several if isinstance(one, str | os.PathLike)]
    count = max(map(len, given.values()))
    listed = [texts for texts in given.values() if len(texts) == count > 1]
    named = [n for n in range(count) if any(_names(message, texts[n]) for texts in listed)]
    chosen = named[0] if len(named) == 1 else count
    values = {}
    for name, texts in given.items():
        if len(texts) == 1:
            values[name] = texts[0]
        elif chosen < len(texts):
            values[name] = texts[chosen]
    if "root" not in values and (root := _recorded_root(values)) is not None:
        values["root"] = root
    return values


def _names(message: str, path: str) -> bool:
    return re.search(rf"(?<![\w/.-]){re.escape(path)}(?![\w.-])", message) is not None


def _recorded_root(values: Mapping[str, str]) -> str | None:
    """The root that a manifest had when features of it were stored in the cache (see `store.users`), if it is one."""
    if not {"manifest", "cache"} <= values.keys():
        return None
    manifest, roots = str(Path(values["manifest"]).resolve()), set()
    for file in Path(values["cache"]).glob("*/manifests.json"):
        try:
            roots |= {
                str(user["root"]) for user in json.loads(file.read_bytes()) if user["manifest"] == manifest
            }
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
        ):  # damaged: this is only for a remedy of another error
            continue
    return roots.pop() if len(roots) == 1 else None
