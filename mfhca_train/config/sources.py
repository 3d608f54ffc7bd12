"""Where a run's settings come from, and how they are shown; what they are is in config.py.

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
from mfhca_train.config.settings import FIELDS, Config, choices, unread, value_of, with_settings

COLUMNS = "{:<26} {:<12} {:<12} {:<10} {}"


@dataclass(frozen=True)
class Resolved:
    """All settings, and who has set those that were set at all."""

    config: Config
    origin: Mapping[str, str]  # dotted name -> in words


def resolve(
    manifest: Path | None = None,
    base: Mapping[str, Any] | None = None,
    file: Path | None = None,
    given: Sequence[tuple[str, str]] = (),
) -> Resolved:
    """Puts all sources of settings together.

    Args:
        manifest: whose card is asked.
        base: a grid's.
        file: of --config.
        given: names and values of --set.

    Raises:
        MfhcaError: an unknown setting or a value that does not fit; the file is named.
    """
    card = read_manifest(manifest).card if manifest is not None else None
    sources: list[tuple[str, str, Sequence[tuple[str, Any]]]] = []  # in words, before an error, the settings
    if card is not None:
        where = f"corpus card {card.name}"
        sources.append((where, f"{where}: ", tuple(card.settings.items())))
    sources.append(("grid", "the grid's base: ", tuple((base or {}).items())))
    if file is not None:
        sources.append((str(file), f"{file}: ", read_settings(file)))
    sources.append(("--set", "", given))
    config, origin = Config(), dict[str, str]()
    for where, before, settings in sources:
        try:
            config = with_settings(config, settings)
        except MfhcaError as error:
            raise MfhcaError(f"{before}{error}") from error
        origin |= {name: where for name, _ in settings}
    return Resolved(config, origin)


def read_settings(path: Path) -> tuple[tuple[str, Any], ...]:
    """Names and values of a TOML file: tables [model] and [train], or dotted names; they are not checked here.

    Raises:
        MfhcaError: it cannot be read, or is not TOML.
    """
    if not path.exists():
        raise MfhcaError(
            f"{path}: no such file; `mfhca-train config --toml > {path}` writes one to begin with"
        )
    return tuple(_flat(read_toml(path)))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def table(resolved: Resolved) -> str:
    """Every setting in two lines: value, default, source and who has set it; then meaning and range."""
    idle = unread(resolved.config)
    lines = [COLUMNS.format("setting", "value", "default", "source", "set by")]
    for name, entry in FIELDS.items():
        value, default = value_of(resolved.config, name), entry.default
        origin = resolved.origin.get(name, "")
        lines.append(
            COLUMNS.format(name, _text(value), _text(default), entry.metadata["source"], origin).rstrip()
        )
        note = "  (not read with these settings)" if name in idle else ""
        lines.append(f"    {_explained(name)}{note}")
    return "\n".join(lines)


def toml(resolved: Resolved) -> str:
    """A file for --config: what was set stands as it is, the defaults as comments."""
    idle = unread(resolved.config)
    lines = ["# Settings of a run, for --config. Take the '# ' away from what you change.", ""]
    group = ""
    for name in FIELDS:
        now, _, key = name.partition(".")
        if now != group:
            lines += ([""] if group else []) + [f"[{now}]"]
            group = now
        kept = name in resolved.origin and name not in idle
        text = f"{key} = {_toml_value(value_of(resolved.config, name))}"
        lines += [f"# {_explained(name)} ({FIELDS[name].metadata['source']})", text if kept else f"# {text}"]
    return "\n".join(lines)


def _explained(name: str) -> str:
    """What a setting means, and what it may be."""
    about = FIELDS[name].metadata
    allowed = "|".join(choices(name)) or about["within"]
    return f"{about['meaning']} [{allowed}]"


def _text(value: Any) -> str:
    """A value as --set takes it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f'"{value}"' if isinstance(value, str) else _text(value)


def told(resolved: Resolved) -> str:
    """What was set, and by whom, in a line for the log."""
    return (
        ", ".join(
            f"{name}={_text(value_of(resolved.config, name))} ({origin})"
            for name, origin in resolved.origin.items()
        )
        or "all defaults"
    )
