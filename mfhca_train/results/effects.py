"""What each part of the network adds: rows that differ in one part only, compared speaker by speaker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from mfhca_train.results.comparison import TESTED, differences
from mfhca_train.results.record import Record
from mfhca_train.results.schema import Changes
from mfhca_train.results.statistics import holm, paired

# Part -> the settings of the network that change, from and to.
PARTS: Mapping[str, Mapping[str, tuple[Any, Any]]] = {
    "MF instead of AlexNet": {"spec_encoder": ("alexnet", "mf")},
    "HCA with its BiLSTM instead of co-attention": {
        "fusion": ("coattention", "hca"),
        "bilstm": (False, True),
    },
    "HCA alone instead of co-attention": {"fusion": ("coattention", "hca")},
    "BiLSTM": {"bilstm": (False, True)},
    "Spectrogram in addition to hidden states": {"inputs": ("ssl", "both")},
    "Hidden states in addition to the spectrogram": {"inputs": ("spec", "both")},
}


@dataclass(frozen=True)
class Effect:
    """One pair of rows.

    Attributes:
        part: a key of PARTS.
        row, without: names of the rows with and without it.
        changes: of WA and UA; `p_holm` is adjusted over all pairs of the run.
    """

    part: str
    row: str
    without: str
    changes: Changes


def find_effects(record: Record) -> list[Effect]:
    """Every pair of networks that differs in one part only."""
    pairs = list(_pairs(record))
    changes = [
        {name: paired(differences(record.outcomes[row], record.outcomes[without], name)) for name in TESTED}
        for _, row, without in pairs
    ]
    for name in TESTED:
        for change, p in zip(changes, holm([change[name]["p"] for change in changes]), strict=True):
            change[name]["p_holm"] = p
    return [
        Effect(*pair, msgspec.convert(change, Changes)) for pair, change in zip(pairs, changes, strict=True)
    ]


def _pairs(record: Record) -> Iterator[tuple[str, str, str]]:
    for part, steps in PARTS.items():
        for name, row in record.networks.items():
            model = row.config["model"]
            if any(model.get(setting) != new for setting, (_, new) in steps.items()):
                continue
            config = row.config | {"model": model | {setting: old for setting, (old, _) in steps.items()}}
            for other, without in record.networks.items():
                if (
                    without.config == config
                    and without.protocol == row.protocol
                    and all(without.recipes.get(side, key) == key for side, key in row.recipes.items())
                    and len(differences(record.outcomes[name], record.outcomes[other], "ua"))
                ):
                    yield part, name, other
