"""What each part of the network adds: rows that differ in that part alone, compared speaker by speaker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mfhca_train.results.ablation_record import AblationRecord
from mfhca_train.results.comparison import TESTED, differences
from mfhca_train.results.statistics import holm, paired

# What is added -> the settings of the network that change, from and to.
PARTS: Mapping[str, Mapping[str, tuple[Any, Any]]] = {
    "MF instead of AlexNet": {"spec_encoder": ("alexnet", "mf")},
    "HCA with its BiLSTM instead of co-attention": {
        "fusion": ("coattention", "hca"),
        "bilstm": (False, True),
    },
    "HCA alone instead of co-attention": {"fusion": ("coattention", "hca")},
    "BiLSTM": {"bilstm": (False, True)},
    "Spectrogram beside hidden states": {"inputs": ("ssl", "both")},
    "Hidden states beside spectrogram": {"inputs": ("spec", "both")},
}


@dataclass(frozen=True)
class Added:
    """One pair of rows.

    Attributes:
        part: a key of PARTS.
        row, without: names of the rows with and without it.
        change: score -> `difference`, `ci95`, `pairs`, `p`, `smallest_p`, `method`, and `p_holm`, which is
            adjusted over all pairs of the run.
    """

    part: str
    row: str
    without: str
    change: Mapping[str, Mapping[str, Any]]


def find_parts(record: AblationRecord) -> list[Added]:
    """Every pair of networks that tells what a part adds.

    Args:
        record: of the ablation.
    """
    pairs = list(_pairs(record))
    changes = [
        {
            score: paired(differences(record.outcomes[row], record.outcomes[without], score))
            for score in TESTED
        }
        for _, row, without in pairs
    ]
    for score in TESTED:
        for change, p in zip(changes, holm([change[score]["p"] for change in changes]), strict=True):
            change[score]["p_holm"] = p
    return [Added(*pair, change) for pair, change in zip(pairs, changes, strict=True)]


def _pairs(record: AblationRecord) -> Iterator[tuple[str, str, str]]:
    rows = record.networks
    for part, steps in PARTS.items():
        for name, row in rows.items():
            if any(row["config"]["model"].get(key) != new for key, (_, new) in steps.items()):
                continue
            model = row["config"]["model"] | {key: old for key, (old, _) in steps.items()}
            for other, without in rows.items():
                same = without["protocol"] == row["protocol"] and _agree(row["recipes"], without["recipes"])
                if (
                    same
                    and without["config"] == row["config"] | {"model": model}
                    and _meet(record, name, other)
                ):
                    yield part, name, other


def _agree(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether the sides that both have are made by the same recipe."""
    return all(one[side] == other[side] for side in one if side in other)


def _meet(record: AblationRecord, row: str, other: str) -> bool:
    """Whether any speaker was tested in both rows."""
    return len(differences(record.outcomes[row], record.outcomes[other], "ua")) > 0
