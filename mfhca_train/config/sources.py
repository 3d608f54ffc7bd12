"""The sources of a run's settings, and how settings are shown. The settings themselves are in `settings`.

Later ones win: the defaults, the corpus card, a grid's base, the file of --config, --set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_toml
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_train.config.parse import FIELDS, describe_values, unused_settings, value_of, with_settings
from mfhca_train.config.settings import Config

COLUMNS = "{:<26} {:<12} {:<12} {:<10} {}"


@dataclass(frozen=True)
class Resolved:
    """All settings, and the source of those that do not have their default."""

    config: Config
    set_by: Mapping[str, str]  # dotted name -> source


def resolve(
    manifest: Path | None = None,
    base: Mapping[str, Any] | None = None,
    file: Path | None = None,
    given: Sequence[tuple[str, str]] = (),
) -> Resolved:
    """Combines all sources of settings; later ones win.

    Args:
        manifest: its corpus card may have settings.
        base: the settings of a grid's base.
        file: the file of --config.
        given: names and values of --set.

    Raises:
        MfhcaError: an unknown setting or a value that does not fit; the file is named.
    """
    card = read_manifest(manifest).card if manifest is not None else None
    sources: list[
        tuple[str, str, Sequence[tuple[str, Any]]]
    ] = []  # source, beginning of an error message, settings
    if card is not None:
        where = f"corpus card {card.name}"
        sources.append((where, f"{where}: ", tuple(card.settings.items())))
    sources.append(("grid", "the grid's base: ", tuple((base or {}).items())))
    if file is not None:
        sources.append((str(file), f"{file}: ", read_settings(file)))
    sources.append(("--set", "", given))
    config, set_by = Config(), dict[str, str]()
    for where, prefix, settings in sources:
        try:
            config = with_settings(config, settings)
        except MfhcaError as error:
            raise MfhcaError(f"{prefix}{error}") from error
        set_by |= {name: where for name, _ in settings}
    return Resolved(config, set_by)


def read_settings(path: Path) -> tuple[tuple[str, Any], ...]:
    """Names and values of a TOML file: tables [model] and [train], or dotted names. They are not checked here.

    Raises:
        MfhcaError: it cannot be read, or is not TOML.
    """
    if not path.exists():
        raise MfhcaError(
            f"{path}: no such file; `mfhca-train config --toml > {path}` writes a file with all defaults"
        )
    return tuple(_flat(read_toml(path)))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def table(resolved: Resolved) -> str:
    """Two lines per setting: value, default, source in the paper and what set it; then meaning and range."""
    unused = unused_settings(resolved.config)
    lines = [COLUMNS.format("setting", "value", "default", "source", "set by")]
    for name, entry in FIELDS.items():
        value, default = value_of(resolved.config, name), entry.default
        set_by = resolved.set_by.get(name, "")
        lines.append(
            COLUMNS.format(name, _text(value), _text(default), entry.metadata["source"], set_by).rstrip()
        )
        note = "  (no effect with these settings)" if name in unused else ""
        lines.append(f"    {_description(name)}{note}")
    return "\n".join(lines)


def toml(resolved: Resolved) -> str:
    """A file for --config: changed settings as they are, defaults as comments."""
    unused = unused_settings(resolved.config)
    lines = ["# Settings of a run, for --config. Remove the '# ' before what you change.", ""]
    group = ""
    for name in FIELDS:
        own, _, key = name.partition(".")
        if own != group:
            lines += ([""] if group else []) + [f"[{own}]"]
            group = own
        active = name in resolved.set_by and name not in unused
        text = f"{key} = {_toml_value(value_of(resolved.config, name))}"
        lines += [
            f"# {_description(name)} ({FIELDS[name].metadata['source']})",
            text if active else f"# {text}",
        ]
    return "\n".join(lines)


def _description(name: str) -> str:
    """The meaning of a setting and the values it may have."""
    return f"{FIELDS[name].metadata['meaning']} [{describe_values(name)}]"


def _text(value: Any) -> str:
    """A value as --set takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f'"{value}"' if isinstance(value, str) else _text(value)


def changed_settings(resolved: Resolved) -> str:
    """The settings that were set and their sources, in one line for the log."""
    return (
        ", ".join(
            f"{name}={_text(value_of(resolved.config, name))} ({source})"
            for name, source in resolved.set_by.items()
        )
        or "all defaults"
    )
