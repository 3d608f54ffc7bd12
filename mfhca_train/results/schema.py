"""The files of a run as typed classes, the names of these files, and the kinds of rows.

    RUN/run.json                             in run_file.py: what decides the results, and where the run was begun
    RUN/results.json                         Results or AblationResults
    RUN/ROW/seed-N/fold-ID/result.json       UnitResult, written last: the unit is finished
    RUN/ROW/seed-N/fold-ID/*                 UNIT_FILES

All files begin with a digest of their content (see `checksums`). Scores are fractions from 0 to 1. Fields stand in the
order in which they are written; optional ones are absent from the file where they have their default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from mfhca_cache.common.files import file_name
from mfhca_cache.common.typed import Count, Fraction, Number, Positive
from mfhca_train.results.probabilities import Calibration, SeedEnsemble
from mfhca_train.results.published import Claim, PublishedScore

RUN_FILE, RESULTS_FILE, DATA_FILE = "run.json", "results.json", "data.csv"  # of a run
RESULT_FILE = "result.json"  # of a unit: one fold with one seed
BEST, INPUTS, HISTORY = "best.safetensors", "inputs.safetensors", "history.csv"
PREDICTIONS, SEGMENTS = "predictions.csv", "segments.csv"
LONGEST_FOLD = 200  # bytes of a fold's name in the names of files and folders
UNIT_FILES = (BEST, INPUTS, HISTORY, PREDICTIONS, SEGMENTS)  # all but result.json, which holds their digests

CV_ROW = "model"  # the name of the only row of a `cv` run; an ablation has many
# Kinds of rows. A chosen row selects units of other rows; a cited row is published scores alone.
NETWORK: Final = "network"
SVM, LOGISTIC, MAJORITY, CHOSEN, CITED = "svm", "logistic", "majority", "chosen", "cited"
SCORES = ("wa", "ua", "f1")

Interval = tuple[Number, Number]


class File(Struct, frozen=True, omit_defaults=True):
    """The base of all classes here: immutable, and fields of later versions are ignored."""


class Environment(File, frozen=True, kw_only=True):
    """Where a unit was trained: what can change the last digits of its scores besides its row's identity."""

    versions: dict[str, str]
    cpu: str  # instruction set
    device: str
    accelerator: str | None = None
    units: tuple[tuple[str, int], ...] = ()  # in results.json: fold and seed of the units trained there


class FoldResult(File, frozen=True, kw_only=True):
    """What results.json says of a unit: the first fields of its result.json."""

    id: str  # of the fold
    seed: int
    test_speakers: tuple[str, ...]
    validation_speakers: tuple[str, ...]
    wa: Fraction
    ua: Fraction
    f1: Fraction
    classes_absent: tuple[str, ...]  # without an utterance of the test speakers
    best_epoch: Positive
    epochs: Positive  # trained
    stopped_by: str
    selected_on: Literal["validation", "test"]
    n_utterances: Positive
    n_segments: Positive
    confusion: tuple[tuple[Count, ...], ...]  # utterances; rows = reference
    chosen: str | None = None  # of a row that selects among others: whose unit this is
    classes_untrained: tuple[str, ...] | None = None  # without an utterance of the training speakers


class UnitResult(File, frozen=True, kw_only=True):
    """result.json of a unit."""

    id: str
    seed: int
    identity: str  # digest of everything that decides the row's results
    environment: Environment
    test_speakers: tuple[str, ...]
    validation_speakers: tuple[str, ...]
    train_speakers: tuple[str, ...]
    selected_on: Literal["validation", "test"]
    n_utterances: Positive
    n_segments: Positive
    wa: Fraction
    ua: Fraction
    f1: Fraction
    recalls: tuple[Fraction | None, ...]  # by class; None where it is absent
    classes_absent: tuple[str, ...]
    confusion: tuple[tuple[Count, ...], ...]
    best_epoch: Positive
    epochs: Positive
    stopped_by: str
    validation_wa: Fraction
    validation_ua: Fraction
    parameters: dict[str, Count]  # by module, and "total"
    layer_weights: dict[str, Number] | None = None  # by layer of the encoder; None where one layer is read
    chosen: str | None = None
    classes_untrained: tuple[str, ...] | None = None
    files: dict[str, str]  # SHA-256 of the unit's other files

    def __post_init__(self) -> None:
        if "total" not in self.parameters:
            raise ValueError("parameters.total is missing")


class Score(File, frozen=True, kw_only=True):
    """A score over the folds of a row."""

    mean: Fraction
    std: Number | None  # over folds, ddof 1, seeds averaged first; None for one fold
    seed_std: Number | None  # None for one seed
    ci95: Interval | None  # t interval of the mean
    pooled: Fraction
    pooled_ci95: Interval | None  # by speaker


class Group(File, frozen=True, kw_only=True):
    """The scores of one group of utterances."""

    n: Count  # utterances over all seeds
    wa: Fraction
    ua: Fraction


class CorpusOfRun(File, frozen=True, kw_only=True):
    """One of several corpora of a run."""

    label_set: str  # its own
    classes: dict[str, str]  # of that label set -> of the run; "" where they are left out


class LayerWeight(File, frozen=True, kw_only=True):
    """The weight of one encoder layer in the learned sum, over folds and seeds."""

    mean: Number
    std: Number | None


class Results(File, frozen=True, kw_only=True):
    """results.json of a `cv` run, and the common part of every row of an ablation's."""

    corpus: str
    label_set: str
    corpora: dict[str, CorpusOfRun] = {}  # by name, if there are several; `corpus` then joins their names
    recipes: dict[str, str]  # keys by side
    config: dict[str, dict[str, Any]]  # see `config.settings.from_dict`
    threads: Positive
    transductive: bool = False  # unlabelled recordings of the test speakers normalise their features
    protocol: str
    oracle: bool
    shared_speakers: bool = False  # a test speaker was trained on too: so is the corpus' official split
    complete: bool
    headline: Literal["mean", "pooled"]
    seeds: tuple[int, ...]
    n_folds: Positive
    n_utterances: Positive
    n_segments: Positive
    parameters: Count
    parameters_by_module: dict[str, Count]
    wa: Score
    ua: Score
    f1: Score
    classes: tuple[str, ...]
    confusion: tuple[tuple[Count, ...], ...]
    recalls: dict[str, Fraction | None]
    breakdown: dict[str, dict[str, Group]]
    folds: tuple[FoldResult, ...]
    environments: tuple[Environment, ...] = ()  # where units were trained in different ones
    layer_weights: dict[str, LayerWeight] | None = None
    ensemble: SeedEnsemble | None = None  # of two seeds or more
    calibration: Calibration | None = None  # of rows whose outputs are meant as probabilities
    mixed_features: dict[str, tuple[str, ...]] = {}  # by recipe: how the conditions of its features differ
    default_preset: str | None = None  # nobody named it: the corpus is small and has no card
    yardsticks: tuple[PublishedScore, ...] = ()

    def score(self, name: str) -> Score:
        """WA, UA or F1 by its key."""
        return {"wa": self.wa, "ua": self.ua, "f1": self.f1}[name]

    @property
    def is_oracle(self) -> bool:
        """Whether an epoch was selected on a test speaker, whatever the protocol is called."""
        return self.oracle or any(fold.selected_on == "test" for fold in self.folds)


class Change(File, frozen=True, kw_only=True):
    """A difference of two rows' scores over paired test speakers."""

    difference: Number
    ci95: Interval | None
    pairs: Count
    p: Fraction
    smallest_p: Fraction  # that so few pairs can reach
    method: str
    p_holm: Fraction | None = None


class Second(File, frozen=True, kw_only=True):
    """A difference over paired utterances."""

    difference: Number
    p: Fraction


class Utterances(File, frozen=True, kw_only=True):
    """The differences of both scores over paired utterances."""

    wa: Second
    ua: Second


class Comparison(File, frozen=True, kw_only=True):
    """A row against the reference row."""

    reference: str
    seeds: Count | None = None  # that both have
    wa: Change
    ua: Change
    utterances: Utterances


class Changes(File, frozen=True, kw_only=True):
    """The differences of both scores."""

    wa: Change
    ua: Change


class Optimism(File, frozen=True, kw_only=True):
    """What selecting the epoch on the test speaker is worth: rows that differ in the protocol alone."""

    rows: dict[str, str]  # protocol -> row
    selection: Changes | None = None
    extra: Changes | None = None


class RowResults(Results, frozen=True, kw_only=True):
    """A row of an ablation."""

    title: str
    kind: str
    published: tuple[PublishedScore, ...]
    chosen_from: tuple[str, ...] = ()
    comparison: Comparison | None

    @property
    def marked_title(self) -> str:
        """The title, marked if its features saw test utterances or its epoch was selected on the test speaker."""
        seen = self.transductive and not self.title.endswith("(transductive)")
        return f"{self.title}{' (transductive)' * seen}{' (ORACLE)' * self.is_oracle}"


class CitedRow(File, frozen=True, kw_only=True):
    """A row of published scores alone."""

    name: str
    title: str
    published: tuple[PublishedScore, ...]


class AblationResults(File, frozen=True, kw_only=True):
    """results.json of an ablation."""

    grid: str
    title: str
    note: str
    corpus: str
    label_set: str
    threads: Positive
    classes: tuple[str, ...]
    protocol: str
    oracle: bool
    reference: str | None
    seeds: tuple[int, ...]
    config: dict[str, dict[str, Any]]
    complete: bool
    tests: dict[str, str]  # how each number was tested
    rows: dict[str, RowResults]
    optimism: tuple[Optimism, ...]
    cited: tuple[CitedRow, ...]
    left_out: dict[str, str] = {}
    mixed_features: dict[str, tuple[str, ...]] = {}  # by recipe: how the conditions of its features differ
    default_preset: str | None = None  # nobody named it: the corpus is small and has no card
    yardsticks: tuple[PublishedScore, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def trained_reference(self) -> str | None:
        """The reference row's name, if the row was trained."""
        return self.reference if self.reference in self.rows else None


def unit_folder(run: Path, row: str, seed: int, fold: str) -> Path:
    """The folder of a unit: one row, seed and fold."""
    return run / row / f"seed-{seed}" / f"fold-{file_name(fold, LONGEST_FOLD)}"
