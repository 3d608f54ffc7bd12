"""Scanning a corpus folder into a manifest: the command `mfhca-cache manifest`.

A built-in corpus is a module here and a card of the same name in `manifests/`
(crema_d.py, crema-d.toml); there is no list to add it to. The module has `FILES`
if the labels are in the file names, or else a function `scan(root)`. `folders`
and the tables of other tools (the modules of `foreign`) are for corpora without
a card. A module is imported only when needed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from mfhca_cache.common import log
from mfhca_cache.common.errors import SHOWN, MfhcaError, did_you_mean, listing, no_folder
from mfhca_cache.common.files import write_atomically
from mfhca_cache.common.progress import phase
from mfhca_cache.common.text import plural
from mfhca_cache.corpora import scan_record
from mfhca_cache.corpora.folder import Scan, missing_folders
from mfhca_cache.manifest.card import (
    Card,
    ExpectedCounts,
    LabelSet,
    check_expected,
    find_card,
    label_sets,
    read_card,
)
from mfhca_cache.manifest.speakers import speaker_table, speaker_warnings

FOLDERS = "folders"  # one folder per class, of any corpus
# Formats of other tools; each is a module of `foreign` with a function `read`.
FORMATS = {
    "table": "Any other, listed in FILE: CSV, TSV, JSON lines or parquet; see --column",
    "audformat": "A database of audformat, in the folder FILE or in the root",
    "lhotse": "The cuts of lhotse in FILE, with the speakers and emotions of their supervisions",
    "hf": "A dataset of Hugging Face, from save_to_disk or an audio folder, in the folder FILE or in the root",
}
# The corpora that have both a module here and a card, in alphabetical order.
NAMES = tuple(
    name
    for name in sorted(file.stem.replace("_", "-") for file in Path(__file__).parent.glob("*.py"))
    if find_card(name) is not None
)


@dataclass(frozen=True)
class Summary:
    """The result of `build`; its text is for the terminal."""

    corpus: str
    out: Path
    card: Card | None  # None where every raw label is a class
    scan: Scan
    differences: tuple[str, ...]  # from the counts on the card; empty unless they were allowed

    def __str__(self) -> str:
        utterances = self.scan.utterances
        speakers = {utterance.speaker for utterance in utterances}
        title = "" if self.card is None else f" ({self.card.title})"
        lines = [
            f"{self.out}: {plural(len(utterances), 'utterance')} of {plural(len(speakers), 'speaker')}{title}"
        ]
        sets, default = label_sets(self.card, utterances)
        lines += map(self._class_counts, sets.values())
        limit = len(speakers) if log.level() <= log.VERBOSE else SHOWN
        lines += [listing(speaker_table(utterances, sets[default]), limit), self.scan.file_counts()]
        if self.scan.problems:
            lines += ["not used, as allowed:", listing(self.scan.problems)]
        if self.differences:
            lines += ["different from the card, as allowed:", _all(self.differences)]
        if self.corpus == "demo":
            lines.append("demo: synthetic speech; scores on it mean nothing")
        return "\n".join(lines)

    def warn(self) -> None:
        """Logs what is probably wrong with the speakers."""
        sets, default = label_sets(self.card, self.scan.utterances)
        for text in speaker_warnings(self.scan.utterances, sets[default], sets.values()):
            log.LOG.warning("%s: %s", self.out, text)

    def _class_counts(self, label_set: LabelSet) -> str:
        counts = Counter(label_set.mapping.get(utterance.emotion) for utterance in self.scan.utterances)
        classes = ", ".join(f"{label} {counts[label]}" for label in label_set.classes)
        total = sum(counts[label] for label in label_set.classes)
        default = " (default)" if self.card and label_set.name == self.card.default_set else ""
        return f"label set {label_set.name}{default}: {plural(total, 'utterance')}: {classes}"


def scan(
    name: str,
    root: Path,
    speaker: re.Pattern[str] | None = None,
    source: Path | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    emotion: re.Pattern[str] | None = None,
    gender: re.Pattern[str] | None = None,
) -> Scan:
    """Scans a corpus folder, or reads a table of another tool.

    Args:
        name: one of NAMES, FORMATS, or FOLDERS.
        root: the corpus root.
        speaker: for FOLDERS only: finds the speaker in a path, see `class_folders.scan`.
        source: for FORMATS only: the file or folder to read; by default the root.
        columns: for FORMATS only: column of the manifest -> column of the table, see `foreign.columns`.
        emotion, gender: for FOLDERS only: find class and gender in a path, see `class_folders.scan`.

    Returns:
        The utterances sorted by name, ignored files, and problems.

    Raises:
        MfhcaError: the corpus is unknown, or the folder does not exist or has another layout.
    """
    if name not in (*NAMES, FOLDERS, *FORMATS):
        raise MfhcaError(
            f"no corpus {name!r}; {did_you_mean(name, NAMES)}. {FOLDERS} reads a corpus with one folder per class, "
            f"{', '.join(FORMATS)} a table of another tool; or write a CSV with the columns utterance, path, speaker, "
            "emotion"
        )
    if (name == FOLDERS) != (speaker is not None):
        raise MfhcaError(f"{FOLDERS} needs --speaker-regex, and no other corpus takes it")
    if name != FOLDERS and (emotion or gender):
        raise MfhcaError(f"--emotion-regex and --gender-regex are for {FOLDERS}; {name} tells both itself")
    if name not in FORMATS and (source is not None or columns):
        raise MfhcaError(f"FILE and --column are for {', '.join(FORMATS)}; {name} is read from --root alone")
    if name in FORMATS:
        from mfhca_cache.corpora.foreign.columns import scan_table

        if source is not None and not source.exists():
            raise MfhcaError(f"{source}: no such file or folder; it must be what {name} can read")
        table = import_module(f"mfhca_cache.corpora.foreign.{name}").read(source or root, root, columns)
        return scan_table(table, root, columns)
    if not root.is_dir():
        raise MfhcaError(f"{no_folder(root)}; --root must be the folder of {name}")
    if speaker is not None:
        from mfhca_cache.corpora import class_folders

        return class_folders.scan(root, speaker, emotion, gender)
    module = import_module(f"mfhca_cache.corpora.{name.replace('-', '_')}")
    if hasattr(module, "FILES"):
        from mfhca_cache.corpora.filenames import scan_filenames

        card = _installed_card(name)
        return scan_filenames(root, module.FILES, card.label_sets[card.default_set].mapping)
    result: Scan = module.scan(root)
    return result


def build(
    corpus: str,
    root: Path,
    out: Path | None = None,
    allow_partial: bool = False,
    speaker: re.Pattern[str] | None = None,
    source: Path | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
    emotion: re.Pattern[str] | None = None,
    gender: re.Pattern[str] | None = None,
) -> Summary:
    """Scans a corpus and writes its manifest and, next to it, its card. The demo is synthesised first.

    Args:
        corpus: one of NAMES, FORMATS, or FOLDERS.
        root: the corpus root; created for the demo.
        out: the CSV file, by default manifests/CORPUS.csv, or with the stem of `source`. An existing card of the same
            stem next to it takes precedence.
        allow_partial: continue even though counts differ from the card or files cannot be used.
        speaker, source, columns, emotion, gender: see `scan`.

    Returns:
        What was written.

    Raises:
        MfhcaError: the folder is not the complete corpus (every difference is listed), or `out` cannot be
            written or was edited by hand and differs (see `scan_record.save`).
    """
    out = Path("manifests") / f"{corpus if source is None else source.stem}.csv" if out is None else out
    if corpus == "demo":
        from mfhca_cache.corpora import demo

        with phase("synthesising the demo"):
            demo.synthesise(root)
    result = scan(corpus, root, speaker, source, columns, emotion, gender)
    card = _card(corpus, out)
    if card is not None:
        result = _with_known_labels(result, card)
    file_counts = f"\n{result.file_counts()}" if result.ignored else ""
    if not result.utterances and (allow_partial or not result.problems):
        layout = "CLASS/*.wav" if card is None else card.layout
        raise MfhcaError(
            f"{root}: no files of {corpus} in it; choose another --root, with the layout {layout}{file_counts}"
        )
    differences = () if card is None else tuple(_differences(root, card, result))
    if (differences or result.problems) and not allow_partial:
        raise MfhcaError(f"{root}: {_refusal(corpus, card, result, differences)}{file_counts}")
    own_card = find_card(corpus)
    if own_card is not None and not out.with_suffix(".toml").is_file():
        write_atomically(out.with_suffix(".toml"), own_card.read_bytes())
    scan_record.save(out, corpus, root, result.utterances, corpus not in FORMATS)
    summary = Summary(corpus, out, card, result, differences)
    summary.warn()
    return summary


def _card(corpus: str, out: Path) -> Card | None:
    """The card that reading the manifest will find: the one next to it, or else the installed one."""
    existing = out.with_suffix(".toml")
    if corpus == FOLDERS or corpus in FORMATS:
        path = existing if existing.is_file() else find_card(out.stem)
        return None if path is None else read_card(path)
    if not existing.is_file():
        return _installed_card(corpus)
    card = read_card(existing)
    if card.name != corpus:
        raise MfhcaError(f"{existing}: the card of {card.name}, not of {corpus}; choose another --out")
    return card


def _installed_card(corpus: str) -> Card:
    path = find_card(corpus)
    if path is None:
        raise MfhcaError(f"no card for {corpus} in this installation; install the package again")
    return read_card(path)


def _differences(root: Path, card: Card, result: Scan) -> list[str]:
    """Differences from the counts on the card, causes first; without -v only the cause, or those of one label set.

    If whole speakers are missing, all other differences follow from that. Otherwise the label set is the default one,
    if it has any difference.
    """
    every = check_expected(card, result.utterances)
    expected = card.expected.get(card.default_set)
    of_speaker = expected.speakers if isinstance(expected, ExpectedCounts) and expected.speakers else {}
    labels = card.label_sets[card.default_set].mapping
    counts = Counter(u.speaker for u in result.utterances if u.emotion in labels)
    missing = [speaker for speaker in of_speaker if not counts[speaker]]
    causes = missing_folders(root, of_speaker, missing, result.utterances)
    complete = {speaker: count for speaker, count in of_speaker.items() if speaker not in missing} == counts
    if missing and complete and log.level() > log.VERBOSE:
        return [f"{'; '.join(causes)}; the other speakers are complete"]
    others = tuple(f"label set {name}, " for name in card.label_sets if name != card.default_set)
    follows = tuple(f"label set {card.default_set}, speaker {speaker}: " for speaker in missing)
    default = [line for line in every if not line.startswith((*others, *follows))]
    return [*causes, *(default if default and log.level() > log.VERBOSE else every)]


def _refusal(corpus: str, card: Card | None, result: Scan, differences: tuple[str, ...]) -> str:
    """Why a folder is refused, causes first, and the remedy."""
    lists = [listing(result.problems)] if result.problems else []
    lists += [_all(differences)] if differences else []
    if corpus == "demo":
        remedy = "delete its folder wav and run again"
    else:
        remedy = "complete it" if card is not None else "fix it"
    what = "not all files can be used" if card is None else f"differs from the card of {corpus}"
    return "\n".join([f"{what}; {remedy}, or continue with --allow-partial:", *lists])


def _with_known_labels(result: Scan, card: Card) -> Scan:
    """Turns utterances with a label that is not on the card into problems: a manifest may not contain them."""
    problems = [
        f"utterance {u.utterance}: label {u.emotion!r} is not on the card"
        for u in result.utterances
        if u.emotion not in card.labels
    ]
    known = tuple(u for u in result.utterances if u.emotion in card.labels)
    return replace(result, utterances=known, problems=(*result.problems, *problems))


def _all(lines: tuple[str, ...]) -> str:
    return listing(lines, limit=len(lines))
