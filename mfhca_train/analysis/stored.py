"""The file that holds the analysis of a row's networks: its content, and how it is written, read and checked.

    runs/<name>/<row>/analysis.safetensors      measures of every fold, and data for the figures from one of them

The file records what it was computed from. If that has changed, or the file is damaged, the analysis is repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import canonical_json, sha256_file, write_atomically
from mfhca_train.analysis.selection import Selection
from mfhca_train.data.batch import Array
from mfhca_train.results.checksums import tensors_digest
from mfhca_train.results.schema import PREDICTIONS, RESULT_FILE

FILE = "analysis.safetensors"
FORMAT = 1
METADATA = "analysis"  # key of the summary in the file's metadata
TEST, VALIDATION, TRAINING = range(3)  # values of the array points.role


class MeanAndCount(TypedDict):
    """The mean of n values; None of none."""

    n: int
    mean: float | None


class GateMeasures(TypedDict):
    """Measures of a GRF block's gates; see `attention.gate_measures`."""

    low: float
    high: float
    spec: MeanAndCount


class FoldMeasures(TypedDict):
    """What is measured in every fold.

    Attributes:
        silhouette: "class_test", "class_unseen" and "speaker_unseen"; None where undefined.
        attention: "mass", "share", "frames" and "level".
    """

    id: str
    utterances: int
    segments: int
    silhouette: dict[str, float | None]
    attention: dict[str, MeanAndCount]
    gates: list[GateMeasures]


class Points(TypedDict):
    """The utterances of the t-SNE figure, and the speakers by role."""

    utterances: list[str]
    speakers: dict[str, list[str]]


class Axes(TypedDict):
    """Seconds of a segment, and the kind and the highest frequency of the spectrogram's bins."""

    seconds: float
    kind: str
    top_khz: float


class ExampleSummary(TypedDict):
    """One utterance that is drawn; `valid` counts the real frames of its drawn segments by input."""

    utterance: str
    label: int
    prediction: int
    probability: float  # of the label
    segments: int
    valid: dict[str, list[int]]
    db: list[float]  # lowest and highest value of the drawn spectrogram


class Source(TypedDict):
    """Everything that an analysis was computed from."""

    identity: str
    units: list[dict[str, str]]
    fold: str
    examples: list[str]
    chosen_by: str


class Measures(TypedDict):
    """The analysis of a row without the arrays.

    `fold` and the keys after it are of the selected fold; `spec` only with a spectrogram.
    """

    classes: list[str]
    seed: int
    protocol: str
    config: dict[str, dict[str, Any]]  # the settings, as in run.json
    attended: str | None  # TIME or CHANNELS of `model.fusion`
    weights: str | None  # what the attention weights are, in words
    folds: list[FoldMeasures]
    fold: NotRequired[str]
    points: NotRequired[Points]
    examples: NotRequired[list[ExampleSummary]]
    waveforms: NotRequired[bool | None]
    spec: NotRequired[Axes]


class Summary(Measures):
    """The measures with what they were computed from."""

    format: int
    origin: Source


@dataclass(frozen=True)
class Analysis:
    """The analysis of a row: its summary, and the arrays by name."""

    summary: Summary
    arrays: Mapping[str, Array]


def source_of(identity: str, folders: Sequence[Path], selection: Selection) -> Source:
    """What an analysis is computed from.

    Args:
        identity: digest of the row's identity.
        folders: its units.
        selection: what the figures show.
    """
    return {
        "identity": identity,
        "units": [_unit(folder) for folder in folders],
        "fold": selection.fold,
        "examples": list(selection.utterances),
        "chosen_by": selection.row,
    }


def _unit(folder: Path) -> dict[str, str]:
    """A unit's identity. Other weights give other predictions, and these are quicker to hash."""
    digests = {
        name: sha256_file(folder / name) for name in (RESULT_FILE, PREDICTIONS) if (folder / name).exists()
    }
    return {"seed": folder.parent.name, "fold": folder.name, **digests}


def is_current(analysis: Analysis, row: Path, folds: int) -> bool:
    """Whether an analysis was computed from the units that are now in a row's folder.

    Args:
        analysis: of that row.
        row: the row's folder.
        folds: number of folds of the row.
    """
    units = analysis.summary["origin"]["units"]
    return len(units) == folds and all(unit == _unit(row / unit["seed"] / unit["fold"]) for unit in units)


def write(path: Path, analysis: Analysis) -> None:
    """Writes an analysis atomically; equal analyses give equal bytes."""
    arrays = {name: np.ascontiguousarray(array) for name, array in analysis.arrays.items()}
    summary = dict(analysis.summary) | {"digest": tensors_digest(analysis.summary, arrays)}
    write_atomically(path, save(arrays, {METADATA: canonical_json(summary)}))


def read(path: Path) -> Analysis:
    """A stored analysis.

    Raises:
        MfhcaError: the file is missing, damaged, or of another version.
    """
    try:
        with safe_open(path, "np") as file:
            summary = json.loads(file.metadata()[METADATA])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
        if summary["format"] != FORMAT:
            raise ValueError(f"format {summary['format']!r}, this version reads {FORMAT}")
        if summary["digest"] != tensors_digest(summary, arrays):
            raise ValueError("its digest differs")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise MfhcaError(
            f"{path}: cannot be read ({error}); delete it, and run the same cv or ablate command again"
        ) from error
    return Analysis(cast(Summary, summary), arrays)


def read_summary(path: Path) -> Summary | None:
    """The summary of a readable analysis; None if there is none."""
    try:
        return read(path).summary
    except MfhcaError:
        return None
