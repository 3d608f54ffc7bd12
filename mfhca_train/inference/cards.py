"""What is said of trained networks apart from their weights: of each one, and of all networks of a run."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mfhca_cache.common.typed import Count, Fraction, Positive
from mfhca_train.results.probabilities import Calibration
from mfhca_train.results.schema import CorpusOfRun, File, Score


class NetworkRecord(File, frozen=True, kw_only=True):
    """One network: its fold, scores and speakers, without those that it was trained on."""

    fold: str
    seed: int
    test_speakers: tuple[str, ...]
    validation_speakers: tuple[str, ...]
    selected_on: Literal["validation", "test"]
    best_epoch: Positive
    wa: Fraction
    ua: Fraction
    f1: Fraction

    @property
    def name(self) -> str:
        """For messages."""
        return f"fold {self.fold}, seed {self.seed}"


class NetworkCard(NetworkRecord, frozen=True, kw_only=True):
    """One network with all its speakers."""

    train_speakers: tuple[str, ...]


class RowScores(File, frozen=True):
    """The scores of the row that the networks belong to; see `results.schema.Results`."""

    wa: Score
    ua: Score
    f1: Score
    headline: str
    complete: bool
    n_folds: Positive
    n_utterances: Positive
    n_segments: Positive
    recalls: dict[str, Fraction | None]
    calibration: Calibration | None = None


class EnsembleCard(File, frozen=True):
    """Everything about an ensemble but its weights; see docs/predict.md."""

    corpus: str
    label_set: str
    classes: tuple[str, ...]
    protocol: str
    config: dict[str, dict[str, Any]]
    data_digest: str
    label_digest: str
    threads: Count
    row: str
    oracle: bool
    scores: RowScores
    identity: str
    versions: dict[str, str]
    cpu: str
    device: str
    corpora: dict[str, CorpusOfRun] = msgspec.field(default_factory=dict)  # if there are several
