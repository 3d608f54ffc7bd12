"""Parameters of each row, and of the paper's baseline, co-attention [13], which are counted and not quoted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.report.blocks import Cells, Table
from mfhca_train.results.record import Record

MODULES = {  # of the network
    "mf": "multi-spatial fusion: convolutions over the spectrogram",
    "alexnet": "the baseline's convolutions over the spectrogram",
    "mfcc": "the baseline's recurrent layers over MFCCs",
    "spec_out": "spectrogram features to one vector",
    "layers": "weights of the speech encoder's layers in their sum",
    "bilstm": "recurrent layer over the speech encoder's features",
    "fusion": "attention that joins the two inputs",
    "ssl_out": "speech encoder's features to one vector",
    "classifier": "from the vectors to the emotions",
}
# The settings of the baseline, see manifests/ablations/table1.toml and model/baseline.py.
BASELINE: dict[str, Any] = {
    "inputs": "both",
    "spec_encoder": "alexnet",
    "fusion": "coattention",
    "bilstm": False,
    "mfcc": True,
}


@dataclass(frozen=True)
class Baseline:
    """The baseline's size, and where it comes from.

    Attributes:
        parameters: trainable ones; the speech encoder is not counted, as in every row.
        row: the row of the run that is the baseline; None if the network was built only to be counted.
        ssl_width: D of the hidden states that it was built for; None for a row of the run.
    """

    parameters: int
    row: str | None
    ssl_width: int | None

    def saved(self, parameters: int) -> float:
        """The fraction of parameters that another network saves; below 0 if it has more.

        >>> Baseline(200, None, 8).saved(50)
        0.75
        """
        return 1 - parameters / self.parameters


def find_baseline(record: Record) -> Baseline | None:
    """The baseline among the rows, preferably with the reference's encoder; else built to be counted.

    Returns:
        None for a cross-validation, and where no row has hidden states whose width is known.
    """
    if record.single:
        return None
    rows = [name for name, row in record.networks.items() if BASELINE.items() <= row.config["model"].items()]
    if rows:
        usual = record.rows[record.reference or rows[0]].recipes.get("ssl")
        rows.sort(key=lambda name: record.rows[name].recipes.get("ssl") != usual)
        return Baseline(record.rows[rows[0]].parameters, rows[0], None)
    shapes = [stored["ssl"].shape for stored in record.inputs.values() if "ssl" in stored]
    if not shapes:
        return None
    frames, width = shapes[0][-2:]
    return Baseline(_count(len(record.results.classes), frames, width), None, width)


def _count(classes: int, ssl_frames: int, ssl_width: int) -> int:
    """Builds the network without memory for its weights; torch is imported only here."""
    import torch

    from mfhca_train.model.network import MFHCA, parameter_counts

    config = with_settings(Config(), {f"model.{name}": value for name, value in BASELINE.items()})
    with torch.device("meta"):
        return parameter_counts(MFHCA(config.model, classes, ssl_frames, ssl_width))["total"]


def parameters(record: Record, baseline: Baseline | None) -> dict[str, Any]:
    """Parameters of every row by module, and what it saves against the baseline: the context of parameters.j2."""
    used = {module for row in record.rows.values() for module in row.parameters_by_module}
    modules = {name: meaning for name, meaning in MODULES.items() if name in used}
    if record.single:
        counts = record.single.parameters_by_module
        by_module: list[Cells] = [
            [name, MODULES.get(name, ""), f"{count:,}"] for name, count in counts.items() if name != "total"
        ]
        total: Cells = ["total", "", f"{record.single.parameters:,}"]
        head = ["Module", "What it does", "Parameters"]
        table = Table(
            "parameters", head, by_module or [total], [total] if by_module else (), (2,), strong=(0,)
        )
        return {"table": table, "baseline": None, "modules": {}}
    rows: list[Cells] = [
        [
            record.labels[name],
            f"{row.parameters:,}",
            *([_saved(baseline, row.parameters)] if baseline else []),
            *(f"{row.parameters_by_module[m]:,}" if m in row.parameters_by_module else "–" for m in modules),
        ]
        for name, row in record.rows.items()
    ]
    columns = ["Row", "Parameters", *(["Against [13]"] if baseline else []), *modules]
    numbers, marked = range(1, len(columns)), record.reference_places
    table = Table("parameters of every row", columns, rows, numbers=numbers, marked=marked)
    row = record.rows[baseline.row] if baseline and baseline.row else None
    claims = record.results.claims
    return {"table": table, "baseline": baseline, "baseline_row": row, "modules": modules, "claims": claims}


def _saved(baseline: Baseline, count: int) -> str:
    percent = 100 * baseline.saved(count)
    return "the same" if percent == 0 else f"{'−' if percent > 0 else '+'}{abs(percent):.2f} %"
