"""Presets: complete sets of settings by name, in manifests/presets. What a preset does not name has its default."""

from __future__ import annotations

import difflib

from msgspec import Struct

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.files import read_toml
from mfhca_cache.common.typed import Text, decode
from mfhca_cache.manifest.card import Setting, manifest_folders

# Without a card and another preset, a corpus of fewer utterances gets this one: the paper's learning rate hardly
# moves the weights there.
SMALL, SMALL_BELOW = "small", 2000


class PresetFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of manifests/presets/NAME.toml."""

    provenance: Text  # one sentence
    settings: dict[str, Setting]  # by dotted name; not checked here


class Preset(PresetFile, frozen=True):
    """A preset and its name."""

    name: str


def read_preset(name: str, prefix: str = "") -> Preset:
    """A preset by its name.

    Args:
        name: of the file, without ".toml".
        prefix: beginning of the message if there is none: who asks for it.

    Raises:
        MfhcaError: there is none; the message lists all, the most similar first. Or the file is damaged.

    >>> read_preset("paper").settings
    {}
    """
    paths = {path.stem: path for folder in manifest_folders() for path in folder.glob("presets/*.toml")}
    if name not in paths:
        likeness = {known: difflib.SequenceMatcher(None, name.lower(), known).ratio() for known in paths}
        names = sorted(paths, key=lambda known: (-likeness[known], known))
        raise MfhcaError(f"{prefix}no preset is called {name!r}; {did_you_mean(name, names)}")
    file = decode(paths[name], read_toml(paths[name]), PresetFile, "correct the preset")
    return Preset(file.provenance, file.settings, name)
