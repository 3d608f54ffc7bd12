"""What a JSON file must hold, written as a value of its shape, and the first way in which it does not.

A type is itself (float: any finite number), (x,) is x or null, [x] a list of x, {"": x} a table of x
under any names, {"name": x} a table with at least these names, but for those that end in "?".
"""

from __future__ import annotations

from typing import Any

LARGEST = 1e300  # nothing that is measured comes near


def problem(value: Any, shape: Any, where: str) -> str | None:
    """The first way in which a value does not fit a shape, or None.

    Args:
        value: from a JSON file.
        shape: see the module.
        where: names the value in the answer; "" for a whole file.

    >>> problem({"a": [1, "x"]}, {"a": [int]}, "")
    "a[1] is 'x', not of type int"
    """
    if isinstance(shape, tuple):
        return None if value is None else problem(value, shape[0], where)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is not a list"
        found = (problem(item, shape[0], f"{where}[{i}]") for i, item in enumerate(value))
        return next((wrong for wrong in found if wrong), None)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where or 'the file'} is not a table"
        shapes = dict.fromkeys(value, shape[""]) if "" in shape else shape
        for name, inner in shapes.items():
            key = name.removesuffix("?") if name not in value else name
            inside = f"{where}.{key}" if where else key
            if key in value:
                wrong = problem(value[key], inner, inside)
            else:
                wrong = f"{inside} is missing" if key == name else None
            if wrong:
                return wrong
        return None
    if shape is float:
        # A whole number of TOML may be too large for a float.
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST
        return None if fits else f"{where} is {value!r:.40}, not a finite number"
    fits = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    return None if fits else f"{where} is {value!r:.40}, not of type {shape.__name__}"
