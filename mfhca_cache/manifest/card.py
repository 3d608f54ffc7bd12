"""Corpus cards: what a corpus is, its labels, the classes they become, and how many utterances it has.

A card is a small TOML file that is checked in (`manifests/<corpus>.toml`). The table of utterances it belongs to is
read in `manifest`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import read_toml
from mfhca_cache.common.typed import Count, Line, Text, decode_all
from mfhca_cache.manifest.utterance import Utterance, nfc

REMEDY = "not a complete corpus card; correct it, or move it elsewhere"
Setting = str | int | float | bool | list[int]


@dataclass(frozen=True)
class LabelSet:
    """A choice of raw labels and the class each becomes.

    >>> LabelSet("four", {"ang": "ang", "hap": "hap", "exc": "hap"}).classes
    ('ang', 'hap')
    """

    name: str
    mapping: dict[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order in which the mapping first names them; every table keeps this order."""
        return tuple(dict.fromkeys(self.mapping.values()))


class ExpectedCounts(Struct, frozen=True, forbid_unknown_fields=True):
    """The number of utterances of a label set."""

    utterances: Count | None = None
    classes: dict[str, Count] | None = None
    speakers: dict[str, Count] | None = None


class CardFeatures(Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults of the feature options for a corpus; an option on the command line overrides them."""

    minimum_tail_samples: Count | None = None  # at 16 kHz: a shorter final segment is dropped


class Card(Struct, frozen=True, forbid_unknown_fields=True):
    """A corpus card, as read from its TOML file."""

    name: Line
    title: Line
    citation: Text
    licence: Text
    source: Text
    layout: Text
    default_set: Text
    labels: Annotated[tuple[Text, ...], Meta(min_length=1)]  # every raw label that the corpus uses
    classes: Annotated[dict[str, Annotated[dict[str, Line], Meta(min_length=1)]], Meta(min_length=1)]
    expected: dict[str, Count | ExpectedCounts] = {}  # "utterances", and counts by label set
    features: CardFeatures = CardFeatures()
    # The trainer's settings, chosen for this corpus on validation speakers, e.g. "train.lr".
    settings: dict[str, Setting] = {}
    preset: Text | None = None  # a name in manifests/presets; `settings` override it
    notes: str = ""

    @property
    def label_sets(self) -> dict[str, LabelSet]:
        """The label sets by name, in the order of the file."""
        return {name: LabelSet(name, mapping) for name, mapping in self.classes.items()}


def read_card(path: Path) -> Card:
    """Reads and checks a corpus card.

    Args:
        path: the TOML file.

    Returns:
        The card; its label sets keep the order of the file, and its texts are in NFC.

    Raises:
        MfhcaError: the file cannot be read, is not TOML, or is not a complete card.
    """
    card = decode_all(path, _nfc_texts(read_toml(path, "correct this corpus card")), Card, REMEDY)
    if contradictions := list(_contradictions(card)):
        raise MfhcaError(f"{path}: {REMEDY}:\n{listing(contradictions)}")
    return card


def card_path(manifest: Path) -> Path | None:
    """The card of a manifest: the TOML file of the same name next to it, else the project's own, else None."""
    own = manifest.with_suffix(".toml")
    return own if own.is_file() else find_card(manifest.stem)


def find_card(corpus: str) -> Path | None:
    """The project's own card for a corpus of this name.

    Args:
        corpus: a corpus name, e.g. "emodb".

    Returns:
        The TOML file (an installed package carries its own copy of `manifests/`), or None if there is none.
    """
    for folder in manifest_folders():
        card = folder / f"{corpus}.toml"
        if card.is_file():
            return card
    return None


def manifest_folders() -> tuple[Path, Path]:
    """Where the project's own files may be: in an installed package, or at the top of the repository."""
    package = Path(__file__).resolve().parents[1]
    return package / "manifests", package.parent / "manifests"


def label_sets(card: Card | None, utterances: Iterable[Utterance]) -> tuple[dict[str, LabelSet], str]:
    """The label sets of a corpus by name, and the name of the default one.

    Without a card there is one set, "all": every raw label is its own class, in alphabetical order.
    """
    if card is not None:
        return card.label_sets, card.default_set
    labels = sorted({utterance.emotion for utterance in utterances})
    return {"all": LabelSet("all", {label: label for label in labels})}, "all"


def check_expected(card: Card, utterances: Iterable[Utterance]) -> list[str]:
    """Compares the utterances of a corpus with the counts on its card.

    Args:
        card: the corpus card.
        utterances: all utterances found in the corpus.

    Returns:
        One line per count that differs (total, per label set, class and speaker); empty if none does.
    """
    utterances = tuple(utterances)
    differences: list[str] = []

    def compare(what: str, expected: int, count: int) -> None:
        if count != expected:
            differences.append(f"{what}: {count} found, {expected} expected")

    if isinstance(total := card.expected.get("utterances"), int):
        compare("utterances in all", total, len(utterances))
    for name, label_set in card.label_sets.items():
        expected = card.expected.get(name)
        if not isinstance(expected, ExpectedCounts):
            continue
        members = [utterance for utterance in utterances if utterance.emotion in label_set.mapping]
        if expected.utterances is not None:
            compare(f"label set {name}, utterances", expected.utterances, len(members))
        classes = Counter(label_set.mapping[utterance.emotion] for utterance in members)
        speakers = Counter(utterance.speaker for utterance in members)
        for what, table, counts in (
            ("class", expected.classes, classes),
            ("speaker", expected.speakers, speakers),
        ):
            if table is not None:
                for key in dict.fromkeys([*table, *sorted(counts)]):
                    compare(f"label set {name}, {what} {key}", table.get(key, 0), counts[key])
    return differences


def _nfc_texts(value: Any) -> Any:
    """The same TOML value with every text in NFC."""
    if isinstance(value, dict):
        return {nfc(key): _nfc_texts(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_nfc_texts(entry) for entry in value]
    return nfc(value) if isinstance(value, str) else value


def _contradictions(card: Card) -> Iterator[str]:
    """Problems that only show when the fields are compared with each other."""
    if len(set(card.labels)) < len(card.labels):
        yield "labels names a label twice"
    for name, mapping in card.classes.items():
        for label in mapping:
            if label not in card.labels:
                yield f"classes.{name}: {label} is not in labels"
    if card.default_set not in card.classes:
        yield f"default_set {card.default_set} is none of the label sets: {', '.join(card.classes)}"
    for name, entry in card.expected.items():
        if (name == "utterances") != isinstance(entry, int) or name not in ("utterances", *card.classes):
            yield f"expected.{name} is neither a count of utterances nor the table of a label set"
        elif isinstance(entry, ExpectedCounts):
            for key in entry.classes or ():
                if key not in card.classes[name].values():
                    yield f"expected.{name}.classes: {key} is not a class of that set"
