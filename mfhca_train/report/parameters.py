"""How many parameters the baseline of the paper, co-attention [13], has: counted, not quoted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.results.ablation_record import AblationRecord

# The settings that make it, see manifests/ablations/table1.toml and baseline.py.
BASELINE: dict[str, Any] = {
    "inputs": "both",
    "spec_encoder": "alexnet",
    "fusion": "coattention",
    "bilstm": False,
    "mfcc": True,
}


@dataclass(frozen=True)
class Baseline:
    """Its size, and where that comes from.

    Attributes:
        parameters: trainable ones; the speech encoder is not counted, as in every row.
        row: the row of the run that is the baseline; None where the network was built only to be counted.
        ssl_width: D of the hidden states that it was built for; None for a row of the run.
    """

    parameters: int
    row: str | None
    ssl_width: int | None

    def saved(self, parameters: int) -> float:
        """The share that another network does without; below 0 where it has more.

        >>> Baseline(200, None, 8).saved(50)
        0.75
        """
        return 1 - parameters / self.parameters


def find_baseline(record: AblationRecord) -> Baseline | None:
    """The baseline among the rows, the one with the reference's encoder first; else built to be counted.

    Args:
        record: of the ablation.

    Returns:
        None where no row has hidden states whose width is known.
    """
    rows = [name for name, row in record.networks.items() if _is_baseline(row["config"]["model"])]
    if rows:
        usual = record.rows[record.reference or rows[0]]["recipes"].get("ssl")
        rows.sort(key=lambda name: record.rows[name]["recipes"].get("ssl") != usual)
        return Baseline(record.rows[rows[0]]["parameters"], rows[0], None)
    if "ssl" not in record.shapes:
        return None
    frames, width = record.shapes["ssl"][-2:]
    return Baseline(_count(len(record.results["classes"]), frames, width), None, width)


def _is_baseline(model: Mapping[str, Any]) -> bool:
    return all(model.get(name) == value for name, value in BASELINE.items())


def _count(classes: int, ssl_frames: int, ssl_width: int) -> int:
    """Builds the network without memory for its weights; torch is imported for it alone."""
    import torch

    from mfhca_train.model.network import MFHCA, parameter_counts

    config = with_settings(Config(), {f"model.{name}": value for name, value in BASELINE.items()})
    with torch.device("meta"):
        return parameter_counts(MFHCA(config.model, classes, ssl_frames, ssl_width))["total"]
