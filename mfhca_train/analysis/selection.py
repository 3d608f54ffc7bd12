"""The rows to analyse, and which fold and which utterances their figures show.

Nothing is selected by looking at a figure.

Features of different networks are in different spaces, so all figures come from one fold: the one with the
median UA of the reference row (the lower of two medians), the same for all rows. From that fold come the
examples: for each class, of the recognised utterances the one with the median probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mfhca_cache.recipe.folder import RecipeFolder
from mfhca_train.config.settings import Config
from mfhca_train.data.folds import Fold
from mfhca_train.results.checksums import read_rows, read_unit
from mfhca_train.results.schema import PREDICTIONS


@dataclass(frozen=True)
class TrainedRow:
    """A row of a run with finished units.

    Attributes:
        name, config, protocol, recipes: of the row.
        identity: digest of everything that decides its results.
        threads: per fold, as in training.
        seed: whose units are analysed.
        units: fold and folder of each, in the order of the folds.
    """

    name: str
    config: Config
    protocol: str
    recipes: Mapping[str, RecipeFolder]
    identity: str
    threads: int
    seed: int
    units: tuple[tuple[Fold, Path], ...]

    @property
    def folders(self) -> list[Path]:
        """The units' folders."""
        return [folder for _, folder in self.units]


@dataclass(frozen=True)
class Selection:
    """What the figures show."""

    fold: str
    utterances: tuple[str, ...]  # one per class, in their order; none for a class without test utterances
    row: str  # whose scores and predictions were used


def select(folders: Sequence[Path], classes: Sequence[str], row: str) -> Selection:
    """Selects the fold with the median UA, and for each class the utterance with the median probability.

    Of two medians the lower one is taken; ties are resolved by name. For a class of which no utterance was
    recognised, all its utterances are considered.

    Args:
        folders: a row's units, one per fold.
        classes: K names, in order.
        row: the row's name.
    """
    results = [(read_unit(folder), folder) for folder in folders]
    ordered = sorted(results, key=lambda pair: (pair[0]["ua"], pair[0]["id"]))
    result, folder = ordered[(len(ordered) - 1) // 2]
    predictions = [
        one for one in read_rows(folder / PREDICTIONS) if one["speaker"] in result["test_speakers"]
    ]
    examples = []
    for name in classes:
        of_class = [one for one in predictions if one["label"] == name]
        recognised = [one for one in of_class if one["prediction"] == name] or of_class
        by_confidence = sorted((float(one[f"logp_{name}"]), one["utterance"]) for one in recognised)
        if by_confidence:
            examples.append(by_confidence[(len(by_confidence) - 1) // 2][1])
    return Selection(result["id"], tuple(examples), row)


def applies_to(selection: Selection, folders: Sequence[Path]) -> bool:
    """Whether another row's units include the fold, and test the examples in it."""
    for folder in folders:
        if read_unit(folder)["id"] == selection.fold:
            return set(selection.utterances) <= {row["utterance"] for row in read_rows(folder / PREDICTIONS)}
    return False
