"""The corpora whose folders can be scanned into a manifest.

One module for each, with a function `scan`, and one card in `manifests/` of the
same name (crema_d.py, crema-d.toml); the two make the corpus known, and no list
names it. `folders` is for corpora without a card. `naming` and `tree` have what
they share. Nothing of a corpus is imported before it is asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.common.files import write_atomically
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.card import Card, LabelSet, check_expected, find_card, read_card
from mfhca_cache.manifest.manifest import write_manifest

__all__ = ["FOLDERS", "NAMES", "Scan", "Summary", "build", "known", "scan"]

FOLDERS = "folders"  # one folder for each class, of any corpus


def known() -> tuple[str, ...]:
    """The corpora that have both a module here and a card, in alphabetical order."""
    modules = sorted(file.stem.replace("_", "-") for file in Path(__file__).parent.glob("*.py"))
    return tuple(name for name in modules if find_card(name) is not None)


NAMES = known()


@dataclass(frozen=True)
class Summary:
    """What `build` did; its text is for the terminal."""

    corpus: str
    out: Path
    card: Card | None  # None where classes are the raw labels
    scan: Scan
    differences: tuple[str, ...]  # from the counts on the card; empty unless they were allowed

    def __str__(self) -> str:
        utterances = self.scan.utterances
        speakers = {utterance.speaker for utterance in utterances}
        title = "" if self.card is None else f" ({self.card.title})"
        lines = [f"{self.out}: {len(utterances)} utterances of {len(speakers)} speakers{title}"]
        lines += [*map(self._counts, self._label_sets()), self.scan.account()]
        if self.differences:
            lines += ["different from the card, as allowed:", _all(self.differences)]
        if self.scan.problems:
            lines += ["left out, as allowed:", listing(self.scan.problems)]
        if self.corpus == "demo":
            lines.append("demo: synthetic speech; every figure computed from it means nothing")
        return "\n".join(lines)

    def _label_sets(self) -> list[LabelSet]:
        if self.card is not None:
            return list(self.card.label_sets.values())
        labels = sorted({utterance.emotion for utterance in self.scan.utterances})
        return [LabelSet("all", {label: label for label in labels})]

    def _counts(self, label_set: LabelSet) -> str:
        counts = Counter(label_set.mapping.get(utterance.emotion) for utterance in self.scan.utterances)
        classes = ", ".join(f"{label} {counts[label]}" for label in label_set.classes)
        total = sum(counts[label] for label in label_set.classes)
        default = ", the default" if self.card and label_set.name == self.card.default_set else ""
        return f"label set {label_set.name}{default}: {total} utterances: {classes}"


def scan(name: str, root: Path, speaker: re.Pattern[str] | None = None) -> Scan:
    """Looks through a corpus folder.

    Args:
        name: one of NAMES, or FOLDERS.
        root: the corpus root.
        speaker: for FOLDERS alone: finds the speaker in a path, see `folders.scan`.

    Returns:
        The utterances in the order of their names, what was ignored and why, and what cannot be used.

    Raises:
        MfhcaError: the corpus is not one of NAMES, or the folder is not there or has another layout.
    """
    if name not in (*NAMES, FOLDERS):
        raise MfhcaError(
            f"no corpus {name!r}; choose one of {', '.join(NAMES)}, take {FOLDERS} where each class has a folder "
            "of its own, or write a CSV of your own with the columns utterance, path, speaker, emotion"
        )
    if (name == FOLDERS) != (speaker is not None):
        raise MfhcaError(f"--speaker-regex is for {FOLDERS} alone, and {FOLDERS} needs it")
    if not root.is_dir():
        raise MfhcaError(f"{root}: no such folder; --root must be the folder of {name}")
    module = import_module(
        f"mfhca_cache.corpora.{'class_folders' if name == FOLDERS else name.replace('-', '_')}"
    )
    found: Scan = module.scan(root) if speaker is None else module.scan(root, speaker)
    return found


def build(
    corpus: str,
    root: Path,
    out: Path,
    allow_partial: bool = False,
    speaker: re.Pattern[str] | None = None,
) -> Summary:
    """Scans a corpus and writes its manifest, with the card beside it; the demo is synthesised first.

    Args:
        corpus: one of NAMES, or FOLDERS.
        root: the corpus root; made for the demo.
        out: the CSV file. A card of the same stem that lies beside it already is the one that counts.
        allow_partial: whether to go on where counts differ from the card or audio cannot be used.
        speaker: for FOLDERS alone: finds the speaker in a path, see `folders.scan`.

    Returns:
        What was done.

    Raises:
        MfhcaError: the folder is not the whole corpus (every difference is listed), or cannot be written to.
    """
    if corpus == "demo":
        from mfhca_cache.corpora import demo

        demo.synthesise(root)
    found = scan(corpus, root, speaker)
    card, own = _card(corpus, out)
    if card is not None:
        found = _with_known_labels(found, card)
    account = f"\n{found.account()}" if found.ignored else ""
    if not found.utterances and (allow_partial or not found.problems):
        laid_out = "CLASS/*.wav" if card is None else card.layout
        raise MfhcaError(
            f"{root}: nothing of {corpus} in it; choose another --root, laid out so: {laid_out}{account}"
        )
    differences = () if card is None else tuple(check_expected(card, found.utterances))
    if (differences or found.problems) and not allow_partial:
        raise MfhcaError(f"{root}: {_refusal(corpus, card, found, differences)}{account}")
    if own is not None and not out.with_suffix(".toml").is_file():
        write_atomically(out.with_suffix(".toml"), own.read_bytes())
    write_manifest(out, found.utterances)
    return Summary(corpus, out, card, found, differences)


def _card(name: str, out: Path) -> tuple[Card | None, Path | None]:
    """The card that counts, as it will for whoever reads the manifest, and the file to be put beside it."""
    beside = out.with_suffix(".toml")
    if name == FOLDERS:
        own = beside if beside.is_file() else find_card(out.stem)
        return (None if own is None else read_card(own)), None
    own = find_card(name)
    if not beside.is_file() and own is None:
        raise MfhcaError(f"no card for {name} in this installation; install the package again")
    card = read_card(beside if own is None or beside.is_file() else own)
    if card.name != name:
        raise MfhcaError(f"{beside}: the card of {card.name}, not of {name}; choose another --out")
    return card, own


def _refusal(name: str, card: Card | None, found: Scan, differences: tuple[str, ...]) -> str:
    """Why a folder is not taken as it is, and what to do."""
    lists = [_all(differences)] if differences else []
    lists += [listing(found.problems)] if found.problems else []
    if name == "demo":
        remedy = "delete its folder wav and run again"
    else:
        remedy = "complete it" if card is not None else "mend it"
    what = "not all of it can be used" if card is None else f"not {name} as its card has it"
    return "\n".join([f"{what}; {remedy}, or go on with --allow-partial:", *lists])


def _with_known_labels(found: Scan, card: Card) -> Scan:
    """Leaves out, by name, utterances whose label the card does not know: no manifest may hold them."""
    strange = [utterance for utterance in found.utterances if utterance.emotion not in card.labels]
    problems = [f"utterance {u.utterance}: label {u.emotion!r} is not on the card" for u in strange]
    known_ones = tuple(utterance for utterance in found.utterances if utterance.emotion in card.labels)
    return replace(found, utterances=known_ones, problems=(*found.problems, *problems))


def _all(lines: tuple[str, ...]) -> str:
    return listing(lines, limit=len(lines))
