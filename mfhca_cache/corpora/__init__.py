"""The corpora whose folders can be scanned into a manifest.

One module for each, with a function `scan`; nothing of it is imported before it
is asked for. `tree` has what they share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from mfhca_cache.card import Card, check_expected, find_card, read_card
from mfhca_cache.corpora.tree import Scan
from mfhca_cache.errors import MfhcaError, listing
from mfhca_cache.files import write_atomically
from mfhca_cache.manifest import write_manifest

__all__ = ["NAMES", "Scan", "Summary", "build", "scan"]

NAMES = ("demo", "emodb", "iemocap")


@dataclass(frozen=True)
class Summary:
    """What `build` did; its text is for the terminal."""

    corpus: str
    out: Path
    card: Card
    scan: Scan
    differences: tuple[str, ...]  # from the counts on the card; empty unless they were allowed

    def __str__(self) -> str:
        utterances = self.scan.utterances
        speakers = {utterance.speaker for utterance in utterances}
        lines = [f"{self.out}: {len(utterances)} utterances of {len(speakers)} speakers ({self.card.title})"]
        for name, label_set in self.card.label_sets.items():
            counts = Counter(label_set.mapping.get(utterance.emotion) for utterance in utterances)
            classes = ", ".join(f"{label} {counts[label]}" for label in label_set.classes)
            total = sum(counts[label] for label in label_set.classes)
            default = ", the default" if name == self.card.default_set else ""
            lines.append(f"label set {name}{default}: {total} utterances: {classes}")
        lines += [f"ignored: {count} x {reason}" for reason, count in sorted(self.scan.ignored.items())]
        if self.differences:
            lines += ["different from the card, as allowed:", _all(self.differences)]
        if self.scan.problems:
            lines += ["left out, as allowed:", listing(self.scan.problems)]
        if self.corpus == "demo":
            lines.append("demo: synthetic speech; every figure computed from it means nothing")
        return "\n".join(lines)


def scan(name: str, root: Path) -> Scan:
    """Looks through a corpus folder.

    Args:
        name: one of NAMES.
        root: the corpus root.

    Returns:
        The utterances in the order of their names, what was ignored and why, and what cannot be used.

    Raises:
        MfhcaError: the corpus is not one of NAMES, or the folder is not there or has another layout.
    """
    if name not in NAMES:
        raise MfhcaError(
            f"no corpus {name!r}; choose one of {', '.join(NAMES)}, or write a CSV of your own "
            "with the columns utterance, path, speaker, emotion"
        )
    if not root.is_dir():
        raise MfhcaError(f"{root}: no such folder; --root must be the folder of {name}")
    found: Scan = import_module(f"mfhca_cache.corpora.{name}").scan(root)
    return found


def build(name: str, root: Path, out: Path, allow_partial: bool = False) -> Summary:
    """Scans a corpus and writes its manifest, with the card beside it; the demo is synthesised first.

    Args:
        name: one of NAMES.
        root: the corpus root; made for the demo.
        out: the CSV file. A card of the same stem that lies beside it already is the one that counts.
        allow_partial: whether to go on where counts differ from the card or audio cannot be used.

    Returns:
        What was done.

    Raises:
        MfhcaError: the folder is not the whole corpus (every difference is listed), or cannot be written to.
    """
    if name == "demo":
        from mfhca_cache.corpora import demo

        demo.synthesise(root)
    found = scan(name, root)
    beside = out.with_suffix(".toml")
    own = find_card(name)
    if beside.is_file():
        card = read_card(beside)
    elif own is not None:
        card = read_card(own)
    else:
        raise MfhcaError(f"no card for {name} in this installation; install the package again")
    if card.name != name:
        raise MfhcaError(f"{beside}: the card of {card.name}, not of {name}; choose another --out")
    found = _with_known_labels(found, card)
    if not found.utterances and (allow_partial or not found.problems):
        raise MfhcaError(
            f"{root}: nothing of {name} in it; choose another --root, laid out so: {card.layout}"
        )
    differences = tuple(check_expected(card, found.utterances))
    if (differences or found.problems) and not allow_partial:
        lists = [_all(differences)] if differences else []
        lists += [listing(found.problems)] if found.problems else []
        remedy = "delete its folder wav and run again" if name == "demo" else "complete it"
        raise MfhcaError(
            f"{root}: not {name} as its card has it; {remedy}, or go on with --allow-partial:\n"
            + "\n".join(lists)
        )
    if not beside.is_file() and own is not None:
        write_atomically(beside, own.read_bytes())
    write_manifest(out, found.utterances)
    return Summary(name, out, card, found, differences)


def _with_known_labels(found: Scan, card: Card) -> Scan:
    """Leaves out, by name, utterances whose label the card does not know: no manifest may hold them."""
    strange = [utterance for utterance in found.utterances if utterance.emotion not in card.labels]
    problems = [f"utterance {u.utterance}: label {u.emotion!r} is not on the card" for u in strange]
    known = tuple(utterance for utterance in found.utterances if utterance.emotion in card.labels)
    return replace(found, utterances=known, problems=(*found.problems, *problems))


def _all(lines: tuple[str, ...]) -> str:
    return listing(lines, limit=len(lines))
