"""The learning curves of a unit, read from its history.csv."""

from __future__ import annotations

from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.results.checksums import read_rows

CURVES = ("train_loss", "validation_loss", "validation_wa", "validation_ua")  # of history.csv, beside epoch


def read_history(path: Path, epochs: int, command: str) -> dict[str, list[float]]:
    """The learning curves of a unit, CURVES by epoch; a loss that overflowed is kept.

    Args:
        path: of history.csv.
        epochs: how many there must be.
        command: which trains the unit again, for the message.

    Raises:
        MfhcaError: it is missing or damaged.
    """
    remedy = f"delete {path.parent} and run `mfhca-train {command}` again"
    try:
        rows = read_rows(path)
        curves = {name: [float(row[name]) for row in rows] for name in CURVES}
        numbers = [int(row["epoch"]) for row in rows]
        if not all(0 <= value <= 1 for name in CURVES[2:] for value in curves[name]):
            raise ValueError("a score is not between 0 and 1")
    except (KeyError, ValueError) as error:
        raise MfhcaError(f"{path}: cannot be read ({type(error).__name__} {error}); {remedy}") from error
    if numbers != list(range(1, epochs + 1)):
        raise MfhcaError(f"{path}: {len(rows)} epochs, results.json says {epochs}; {remedy}")
    return curves
