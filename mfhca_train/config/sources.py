"""The sources of a run's settings, and how settings are shown. The settings themselves are in `settings`.

Later ones win: the defaults, the corpus card (its preset, then its settings), --preset, a grid's base, the file of
--config, --set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.columns import Column, fitted
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import read_toml
from mfhca_cache.common.log import LOG
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_train.config.parse import FIELDS, describe_values, unused_settings, value_of, with_settings
from mfhca_train.config.presets import SMALL, SMALL_BELOW, Preset, read_preset
from mfhca_train.config.settings import Config, setting_text


@dataclass(frozen=True)
class _Source:
    """Settings from one place.

    Attributes:
        name: as `mfhca-train config` shows it.
        settings: pairs of a dotted name and a value.
        prefix: beginning of an error message.
        replaces_card: whether the defaults come before it, not what the corpus card says.
    """

    name: str
    settings: Sequence[tuple[str, Any]]
    prefix: str
    replaces_card: bool = False


@dataclass(frozen=True)
class Resolved:
    """All settings, and the source of those that do not have their default."""

    config: Config
    set_by: Mapping[str, str]  # dotted name -> source
    preset: Preset | None = None
    is_default_preset: bool = (
        False  # nobody named it: the corpus is small and has no card, or there are several
    )
    corpora: int = 1

    @property
    def default_preset(self) -> str | None:
        """The name of the preset, if it is the default for a small corpus."""
        return self.preset.name if self.preset is not None and self.is_default_preset else None


def resolve(
    manifest: Path | Sequence[Path] = (),
    base: Mapping[str, Any] | None = None,
    file: Path | None = None,
    given: Sequence[tuple[str, Any]] = (),
    preset: str | None = None,
) -> Resolved:
    """Combines all sources of settings; later ones win.

    A corpus of few utterances without a card gets the preset `small`, unless another preset is given. Several corpora
    count as one without a card: the settings of a card are chosen for its corpus alone.

    Args:
        manifest: its corpus card may have a preset and settings; or the manifests of several corpora, or none.
        base: the settings of a grid's base.
        file: the file of --config.
        given: names and values of --set.
        preset: the name of --preset. It replaces the card's preset and settings.

    Raises:
        MfhcaError: an unknown preset or setting, or a value that does not fit; the file is named.
    """
    found = [read_manifest(path) for path in ((manifest,) if isinstance(manifest, Path) else manifest)]
    card = found[0].card if len(found) == 1 else None
    is_small = bool(found) and card is None and sum(len(one.utterances) for one in found) < SMALL_BELOW
    is_default_preset = is_small and not preset
    if is_default_preset:
        preset = SMALL
    sources: list[_Source] = []
    used: Preset | None = None
    if card is not None:
        where = f"corpus card {card.name}"
        if card.preset is not None:
            used = read_preset(card.preset, f"{where}: ")
            sources.append(_of_preset(used))
        sources.append(_Source(where, tuple(card.settings.items()), f"{where}: "))
    if preset is not None:
        used = read_preset(preset)
        sources.append(_of_preset(used, replaces_card=True))
    sources.append(_Source("grid", tuple((base or {}).items()), "the grid's base: "))
    if file is not None:
        sources.append(_Source(str(file), read_settings(file), f"{file}: "))
    sources.append(_Source("--set", given, ""))
    config, set_by = Config(), dict[str, str]()
    for source in sources:
        if source.replaces_card:
            config, set_by = Config(), dict.fromkeys(set_by, source.name)
        try:
            config = with_settings(config, source.settings)
        except MfhcaError as error:
            raise MfhcaError(f"{source.prefix}{error}") from error
        set_by |= {name: source.name for name, _ in source.settings}
    return Resolved(config, set_by, used, is_default_preset, len(found))


def log_settings(resolved: Resolved) -> None:
    """Logs the preset, and all settings that were set, with their sources."""
    if text := describe_preset(resolved):
        LOG.info("%s", text)
    changed = [
        f"{name}={setting_text(value_of(resolved.config, name))} ({source})"
        for name, source in resolved.set_by.items()
    ]
    LOG.debug("settings: %s", ", ".join(changed) or "all defaults")


def _of_preset(preset: Preset, replaces_card: bool = False) -> _Source:
    where = f"preset {preset.name}"
    return _Source(where, tuple(preset.settings.items()), f"{where}: ", replaces_card)


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


def table(resolved: Resolved, width: int | None = None) -> list[str]:
    """Value, default, source in the paper and what set it of every setting; then its meaning and range.

    Args:
        resolved: the settings.
        width: characters per line; None for no limit.
    """
    unused = unused_settings(resolved.config)
    lines = [
        (
            name,
            setting_text(value_of(resolved.config, name)),
            setting_text(entry.default),
            entry.metadata["source"],
            resolved.set_by.get(name, ""),
        )
        for name, entry in FIELDS.items()
    ]
    ranks = {"setting": 0, "value": 0, "default": 2, "source": 3, "set by": 1}
    cells = zip(ranks.items(), zip(*lines, strict=True), strict=True)
    columns = [Column(head, own, rank, left=True) for (head, rank), own in cells]
    notes = [_description(name) + "  (no effect with these settings)" * (name in unused) for name in FIELDS]
    return fitted(columns, width, notes=notes)


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


def _toml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f'"{value}"' if isinstance(value, str) else setting_text(value)


def describe_preset(resolved: Resolved) -> str:
    """The preset, why it is used if nobody named it, and its provenance, in one line; empty if there is none."""
    if resolved.preset is None:
        return ""
    why = "several corpora" if resolved.corpora > 1 else "no card"
    reason = (
        f" ({why}, fewer than {SMALL_BELOW:,} utterances; --preset paper has the defaults)"
        if resolved.is_default_preset
        else ""
    )
    return f"preset {resolved.preset.name}{reason}: {resolved.preset.provenance}"
