"""Typed values from JSON and TOML: an instance of a class, or one sentence per field that does not fit.

The classes are msgspec Structs, which check types, ranges and unknown fields. msgspec was chosen over pydantic
because it costs 0.03 s of CPU time with the first class where pydantic costs 0.15 s, it has
no dependencies, and it needs no second definition to write a value back in the order of its fields. Its messages stop
at the first error and quote JSON paths, so the sentences are built here.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from mfhca_cache.common.errors import MfhcaError, did_you_mean, listing

T = TypeVar("T")

LARGEST = 1e300  # no measurement comes near; larger numbers overflow in sums
Text = Annotated[str, msgspec.Meta(pattern=r"\S", description="a text")]
Line = Annotated[str, msgspec.Meta(pattern=r"\A[^\n\t]*\S[^\n\t]*\Z", description="one line of text")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Number = Annotated[float, msgspec.Meta(gt=-LARGEST, lt=LARGEST, description="a finite number")]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]+$", description="a hexadecimal digest")]

NAMES: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "nothing",
}


def decode(path: Path, value: object, kind: type[T], remedy: str) -> T:
    """A value as an instance of a class.

    Args:
        path: the file it comes from, for the message.
        value: plain JSON or TOML data.
        kind: the class.
        remedy: the end of the message.

    Raises:
        MfhcaError: the first field that does not fit, what was found there and what is expected.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        wrong, *_ = problems(value, kind)
        raise MfhcaError(f"{path}: {wrong}; {remedy}") from None


def decode_all(path: Path, value: object, kind: type[T], remedy: str) -> T:
    """As `decode`, with every field that does not fit in the message."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise MfhcaError(f"{path}: {remedy}:\n{listing(problems(value, kind))}") from None


def plain(value: object) -> Any:
    """An instance as JSON values: fields in the order of the class, those that have their default left out."""
    return msgspec.json.decode(msgspec.json.encode(value))


def problems(value: object, kind: Any, where: str = "") -> list[str]:
    """A sentence for each part of a value that does not fit a type; empty if all of it fits.

    Args:
        value: plain JSON or TOML data.
        kind: a Struct class or any annotation that msgspec knows.
        where: names the value in the sentences; "" for a whole file.

    >>> problems({"a": [1, "x"], "b": None}, dict[str, list[int]])
    ["a[1] is 'x', expected a whole number", 'b is nothing, expected a list']
    """
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        inner = list(_inner_problems(value, _part_for(value, kind), where))
        return inner or [_problem(value, kind, where, error)]
    return []


def problem(value: object, kind: Any, where: str = "") -> str | None:
    """The first of `problems`, or None."""
    return next(iter(problems(value, kind, where)), None)


def _inner_problems(value: object, kind: Any, where: str) -> Iterator[str]:
    """Problems of the entries of a table or list; none where the value is neither."""
    arguments = typing.get_args(kind)
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name in value if kind.__struct_config__.forbid_unknown_fields else ():
            if name not in fields:
                yield f"{_under(where, name)} is not a known field; {did_you_mean(name, fields)}"
        for name, field in fields.items():
            if name in value:
                yield from problems(value[name], field.type, _under(where, name))
            elif field.required:
                yield f"{_under(where, name)} is missing"
    elif isinstance(value, dict) and typing.get_origin(kind) is dict:
        for name, entry in value.items():
            yield from problems(entry, arguments[1], _under(where, name))
    elif isinstance(value, list) and typing.get_origin(kind) in (list, tuple):
        for index, entry in enumerate(value):
            name = entry.get("name") if isinstance(entry, dict) else None
            inside = f"{where} {name!r}" if isinstance(name, str) else f"{where}[{index}]"
            yield from problems(entry, arguments[0], inside)


def _problem(value: object, kind: Any, where: str, error: msgspec.ValidationError) -> str:
    """What is wrong with a value that is no table or list, or whose entries fit one by one."""
    struct = _part_for(value, kind)
    if isinstance(value, dict) and isinstance(struct, type) and issubclass(struct, msgspec.Struct):
        message = str(error).partition(" - at `$")[0]  # of the class's own check
        return f"{where}: {message}" if where else message
    return f"{where or 'the file'} is {_shown(value)}, expected {describe(kind)}"


def describe(kind: Any) -> str:
    """What a value of a type is, in words.

    >>> describe(Positive), describe(Literal["a", "b"] | None)
    ('a whole number of at least 1', 'one of a, b, or nothing')
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        meta = next((entry for entry in arguments[1:] if isinstance(entry, msgspec.Meta)), msgspec.Meta())
        return meta.description or describe(arguments[0]) + _bounds(meta)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(map(describe, arguments))
    if origin is tuple and arguments[-1] is not ...:
        return f"a list of {len(arguments)}"
    if origin in (list, tuple):
        return "a list"
    if origin is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return "a table"
    return NAMES.get(kind, str(kind))


def _bounds(meta: msgspec.Meta) -> str:
    """The range of a number in words."""
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge:g} to {meta.le:g}"
    if meta.ge is not None and meta.lt is not None:
        return f" from {meta.ge:g} to below {meta.lt:g}"
    texts = {"of at least": meta.ge, "above": meta.gt, "of at most": meta.le, "below": meta.lt}
    length = f" of at least {meta.min_length}" if meta.min_length else ""
    return length + "".join(f" {text} {bound:g}" for text, bound in texts.items() if bound is not None)


def _part_for(value: object, kind: Any) -> Any:
    """The type inside Annotated, and of a union the part that could hold this value."""
    while typing.get_origin(kind) in (Annotated, typing.Union, types.UnionType):
        if typing.get_origin(kind) is Annotated:
            kind = typing.get_args(kind)[0]
        else:
            parts = [part for part in typing.get_args(kind) if part is not type(None)]
            same = [part for part in parts if describe(part) == _shown(value)]
            kind = (same or parts)[0]
    return kind


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else f"{value!r:.40}"


def _under(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)
