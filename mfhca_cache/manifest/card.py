"""Corpus cards: what a corpus is, its labels, the classes they become, how many utterances it has.

A card is a small TOML file that is checked in (`manifests/<corpus>.toml`); the
table of utterances that it belongs to is in `manifest`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import read_toml
from mfhca_cache.manifest.utterance import Utterance

TEXTS = ("name", "title", "citation", "licence", "source", "layout", "default_set")
KEYS = {*TEXTS, "labels", "classes", "expected", "settings", "notes"}


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
        """The classes in the order in which the mapping first names them, which every table keeps."""
        return tuple(dict.fromkeys(self.mapping.values()))


@dataclass(frozen=True)
class Card:
    """A corpus card, as read from its TOML file."""

    name: str
    title: str
    citation: str
    licence: str
    source: str
    layout: str
    labels: tuple[str, ...]  # every raw label that the corpus uses
    default_set: str
    label_sets: dict[str, LabelSet]
    expected: dict[str, Any]  # "utterances", and for a label set "utterances", "classes", "speakers"
    settings: dict[str, Any]  # the trainer's, chosen for this corpus on validation speakers: "train.lr"
    notes: str = ""


def read_card(path: Path) -> Card:
    """Reads and checks a corpus card.

    Args:
        path: the TOML file.

    Returns:
        The card; its label sets keep the order of the file.

    Raises:
        MfhcaError: the file cannot be read, is not TOML, or is not a complete card.
    """
    data = read_toml(path, "correct this corpus card")
    if problems := _problems(data):
        raise MfhcaError(
            f"{path}: not a complete corpus card; correct it, or move it elsewhere:\n{listing(problems)}"
        )
    return Card(
        **{key: data[key] for key in TEXTS},
        labels=tuple(data["labels"]),
        label_sets={name: LabelSet(name, mapping) for name, mapping in data["classes"].items()},
        expected=data.get("expected", {}),
        settings=data.get("settings", {}),
        notes=data.get("notes", ""),
    )


def find_card(corpus: str) -> Path | None:
    """The card that comes with the project for a corpus of this name.

    Args:
        corpus: a corpus name, e.g. "emodb".

    Returns:
        The TOML file (an installed package carries its own copy of `manifests/`), or None if there is none.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "manifests", package.parent / "manifests"):
        card = folder / f"{corpus}.toml"
        if card.is_file():
            return card
    return None


def check_expected(card: Card, utterances: Iterable[Utterance]) -> list[str]:
    """Compares the utterances found with the counts on the card.

    Args:
        card: the corpus card.
        utterances: every utterance of the corpus that was found.

    Returns:
        One line for each count that differs (in all, per label set, class and speaker); empty if none does.
    """
    found = tuple(utterances)
    differences: list[str] = []

    def compare(what: str, expected: int, count: int) -> None:
        if count != expected:
            differences.append(f"{what}: {count} found, {expected} expected")

    if "utterances" in card.expected:
        compare("utterances in all", card.expected["utterances"], len(found))
    for name, label_set in card.label_sets.items():
        expected = card.expected.get(name, {})
        chosen = [utterance for utterance in found if utterance.emotion in label_set.mapping]
        if "utterances" in expected:
            compare(f"label set {name}, utterances", expected["utterances"], len(chosen))
        counts = {
            "classes": Counter(label_set.mapping[utterance.emotion] for utterance in chosen),
            "speakers": Counter(utterance.speaker for utterance in chosen),
        }
        for group, singular in (("classes", "class"), ("speakers", "speaker")):
            table = expected.get(group)
            for member in () if table is None else dict.fromkeys([*table, *sorted(counts[group])]):
                compare(f"label set {name}, {singular} {member}", table.get(member, 0), counts[group][member])
    return differences


def _problems(data: dict[str, Any]) -> list[str]:
    """What keeps a parsed TOML file from being a card."""
    problems = [f"{key} is missing or not a text" for key in TEXTS if not _is_text(data.get(key))]
    problems += [f"{key} is not a key of a card" for key in data if key not in KEYS]
    if not isinstance(data.get("notes", ""), str):
        problems.append("notes is not a text")
    if not isinstance(data.get("settings", {}), dict):
        problems.append("settings is not a table")
    labels = data.get("labels")
    if not isinstance(labels, list) or not labels or not all(map(_is_text, labels)):
        return [*problems, "labels is missing or not a list of texts"]
    if len(set(labels)) < len(labels):
        problems.append("labels names a label twice")
    classes = data.get("classes")
    if not isinstance(classes, dict) or not classes or not all(isinstance(v, dict) for v in classes.values()):
        return [*problems, "classes has no label set (a table [classes.NAME] of label = class)"]
    for name, mapping in classes.items():
        if not mapping:
            problems.append(f"classes.{name} is empty")
        problems += [f"classes.{name}: {label} is not in labels" for label in mapping if label not in labels]
        problems += [
            f"classes.{name}.{label} is not a text" for label, v in mapping.items() if not _is_text(v)
        ]
    if _is_text(data.get("default_set")) and data["default_set"] not in classes:
        problems.append(f"default_set {data['default_set']} is none of the label sets: {', '.join(classes)}")
    return problems or _expected_problems(data.get("expected", {}), classes)


def _expected_problems(expected: Any, classes: dict[str, dict[str, str]]) -> list[str]:
    """What is wrong with the expected counts, given right label sets."""
    if not isinstance(expected, dict):
        return ["expected is not a table"]
    problems = []
    for name, entry in expected.items():
        if name == "utterances" and _is_count(entry):
            continue
        if name not in classes or not isinstance(entry, dict):
            problems.append(f"expected.{name} is neither a count of utterances nor the table of a label set")
            continue
        for key, value in entry.items():
            if key in ("classes", "speakers") and isinstance(value, dict):
                problems += [
                    f"expected.{name}.{key}.{k} is not a count" for k, v in value.items() if not _is_count(v)
                ]
            elif key != "utterances" or not _is_count(value):
                problems.append(
                    f"expected.{name}.{key} is neither utterances = N nor a table classes or speakers"
                )
        known = set(classes[name].values())
        counted = entry.get("classes")
        counted = counted if isinstance(counted, dict) else {}  # what it is instead is among the problems
        problems += [
            f"expected.{name}.classes: {k} is not a class of that set" for k in counted if k not in known
        ]
    return problems


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
