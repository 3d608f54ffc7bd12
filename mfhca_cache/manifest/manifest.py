"""Manifests: the table of a corpus's utterances, read with every row checked.

A manifest is a CSV file with at least the columns utterance, path, speaker and emotion (the raw label). The fields of
a row are in `utterance`; the classes of the labels are on the corpus card (`card`); corpus folders are scanned in
`corpora`.
"""

from __future__ import annotations

import csv
import io
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote

from mfhca_cache.common.errors import MfhcaError, did_you_mean, listing
from mfhca_cache.common.files import canonical_json, sha256_text, write_atomically
from mfhca_cache.common.log import LOG
from mfhca_cache.common.text import csv_text, from_cell
from mfhca_cache.manifest.card import (
    Card,
    LabelSet,
    card_path,
    check_expected,
    find_card,
    label_sets,
    read_card,
)
from mfhca_cache.manifest.utterance import (
    FOLD,
    OMITTED_IF_EMPTY,
    REQUIRED,
    SPAN,
    SPLIT,
    WRITTEN,
    Rows,
    Utterance,
    nfc,
    warnings,
)


@dataclass(frozen=True)
class Manifest:
    """A manifest in which every row is valid."""

    path: Path
    utterances: tuple[Utterance, ...]  # in the order of the file
    card: Card | None
    digest: str  # SHA-256 of the rows' content: neither column order nor line endings change it

    def label_set(self, name: str | None = None) -> LabelSet:
        """The label set of this name.

        Args:
            name: a name on the card, or None for the card's default. Without a card there is one set, "all":
                every raw label is its own class, in alphabetical order.

        Returns:
            The label set.

        Raises:
            MfhcaError: there is no such set; the message lists those there are.
        """
        sets, default = label_sets(self.card, self.utterances)
        wanted = default if name is None else nfc(name)
        if wanted not in sets:
            raise MfhcaError(f"{self.path}: no label set {wanted!r}; {did_you_mean(wanted, sets)}")
        return sets[wanted]

    def select(self, label_set: LabelSet | str | None = None) -> tuple[Utterance, ...]:
        """The utterances whose raw label is in a label set, in the order of the manifest.

        Args:
            label_set: a label set, or what `label_set` takes.

        Returns:
            The utterances; possibly none.

        Raises:
            MfhcaError: there is no set of that name.
        """
        mapping = (label_set if isinstance(label_set, LabelSet) else self.label_set(label_set)).mapping
        return tuple(utterance for utterance in self.utterances if utterance.emotion in mapping)

    @property
    def corpus(self) -> str:
        """The corpus' name: the card's, else that of the file."""
        return self.card.name if self.card else self.path.stem

    @property
    def has_sessions(self) -> bool:
        """Whether every utterance names its session and there are at least two."""
        sessions = {utterance.session for utterance in self.utterances}
        return "" not in sessions and len(sessions) >= 2

    def absent_classes(self, label_set: LabelSet) -> list[str]:
        """The classes of a label set that no utterance has."""
        present = {label_set.mapping[u.emotion] for u in self.select(label_set)}
        return [name for name in label_set.classes if name not in present]

    def warn(self, label_set: LabelSet | None = None) -> None:
        """Logs what is allowed in a manifest but probably a mistake.

        Args:
            label_set: the one in use; its classes without an utterance are named, and label sets that are complete;
                and where its counts differ from those on the card: a file that lost rows looks like the whole corpus.
        """
        for text in warnings(self.utterances):
            LOG.warning("%s: %s", self.path, text)
        if self.card is not None and label_set is not None:
            counts = check_expected(self.card, self.utterances)
            own = [text for text in counts if text.startswith(f"label set {label_set.name}, ")]
            if own:
                LOG.warning(
                    "%s: other counts than on the card of %s, so scores on it are not those of the whole corpus:\n%s",
                    self.path,
                    self.card.name,
                    listing(own, 5),
                )
        absent = [] if label_set is None else self.absent_classes(label_set)
        if label_set is not None and absent:
            others = self.card.label_sets.values() if self.card else ()
            complete = [other.name for other in others if not self.absent_classes(other)]
            LOG.warning(
                "%s: no utterance of the classes %s of label set %s%s",
                self.path,
                ", ".join(absent),
                label_set.name,
                f"; label sets with all their classes: {', '.join(complete)}" if complete else "",
            )


def read_manifest(path: str | Path) -> Manifest:
    """Reads a manifest and checks the whole of it.

    The card is the TOML file of the same name next to the CSV, else the project's own card of that name, else
    there is none. Unknown columns are ignored. Texts are converted to NFC.

    Args:
        path: the CSV file (UTF-8, commas).

    Returns:
        The manifest.

    Raises:
        MfhcaError: the file cannot be read, lacks a column, has no rows, or has bad rows, which are listed
            with their line numbers (the first 20 shown, all counted).
    """
    path = Path(path)
    card_file = card_path(path)
    card = None if card_file is None else read_card(card_file)
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte-order mark first
    except FileNotFoundError as error:
        corpus = "CORPUS" if find_card(path.stem) is None else path.stem
        raise MfhcaError(
            f"{path}: no such manifest; `mfhca-cache manifest {corpus} --root DIR --out {quote(str(path))}` makes one "
            f"for a built-in corpus; for any other write a CSV with the columns {', '.join(REQUIRED)}"
        ) from error
    except IsADirectoryError as error:
        raise MfhcaError(f"{path}: a folder; pass the CSV file of the manifest") from error
    except OSError as error:
        raise MfhcaError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise MfhcaError(
            f"{path}: not text in UTF-8 (byte {error.start}); save it as CSV in UTF-8"
        ) from error

    rows = Rows() if card is None else Rows(card.labels, card.name)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        line = reader.line_num + 1
        for fields in reader:
            if any(field.strip() for field in fields):
                rows.add(line, header, [from_cell(field.strip()) for field in fields])
            line = reader.line_num + 1
    except csv.Error as error:
        raise MfhcaError(f"{path}: line {reader.line_num} is not CSV ({error}); correct it") from error
    if rows.problems:
        count = "1 bad entry" if len(rows.problems) == 1 else f"{len(rows.problems)} bad entries"
        raise MfhcaError(f"{path}: {count}; correct the manifest:\n{listing(rows.problems)}")
    if not rows.utterances:
        raise MfhcaError(f"{path}: no utterances, only a header; create the manifest again")
    content = canonical_json(
        [{k: v for k, v in vars(u).items() if v or k not in OMITTED_IF_EMPTY} for u in rows.utterances]
    )
    return Manifest(path, tuple(rows.utterances), card, sha256_text(content))


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Writes a manifest, atomically; equal utterances give equal bytes, see `manifest_text`.

    Raises:
        MfhcaError: the folder is read-only or full.
    """
    write_atomically(Path(path), manifest_text(utterances))


def manifest_text(utterances: Iterable[Utterance]) -> str:
    """The CSV text of a manifest.

    Args:
        utterances: in the order of the file; `start_s` and `end_s` are written if any utterance has one, and
            `fold` likewise.
    """
    rows = [vars(utterance) for utterance in utterances]
    optional = [*SPAN] if any(row[name] is not None for row in rows for name in SPAN) else []
    optional += [FOLD] if any(row[FOLD] for row in rows) else []
    names = [*WRITTEN, *optional]
    return csv_text(names, [[row[name] for name in names] for row in rows])


def resolve_audio(
    root: Path, utterance: Utterance, allow_outside: bool = False, known: dict[str, Path] | None = None
) -> Path:
    """Finds an utterance's audio file.

    Args:
        root: the corpus root.
        utterance: a row of its manifest.
        allow_outside: whether symbolic links may lead out of the root.
        known: of this root, the targets of folders whose links were followed before; new ones are added.

    Returns:
        The file, with all links followed.

    Raises:
        MfhcaError: there is no such file, or a link leads out of the root.
    """
    try:
        folders = {} if known is None else known
        directory, _, name = utterance.path.rpartition("/")
        base, folder = (
            folders.get(path) or folders.setdefault(path, (root / path).resolve()) for path in ("", directory)
        )
        file = folder / name
        mode = file.lstat().st_mode
        if not stat.S_ISREG(mode):
            file = file.resolve()
            mode = file.stat().st_mode
        inside, exists = file.is_relative_to(base), stat.S_ISREG(mode)
    # No such file, a circle of links, a name that is too long or has a NUL.
    except (OSError, RuntimeError, ValueError):
        other_form = _other_form(root, utterance.path)
        if other_form is not None:
            return resolve_audio(root, replace(utterance, path=other_form), allow_outside, known)
        inside, exists = True, False
    if not inside and not allow_outside:
        raise MfhcaError(
            f"utterance {utterance.utterance}: {utterance.path} is a link out of {root}; "
            "copy the audio there, choose a root that holds it, or allow links to leave the root"
        )
    if not exists:
        raise MfhcaError(f"utterance {utterance.utterance}: no file {utterance.path} in {root}; check --root")
    return file


def _other_form(root: Path, path: str) -> str | None:
    """The path under which a file exists whose name is the same text in another Unicode form, as macOS writes it."""
    found: list[str] = []
    for part in path.split("/"):
        folder = root.joinpath(*found)
        if not part.isascii() and not (folder / part).exists():
            try:
                part = next(entry.name for entry in folder.iterdir() if nfc(entry.name) == nfc(part))
            except (OSError, StopIteration):
                return None
        found.append(part)
    other = "/".join(found)
    return other if other != path else None


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        found = ", ".join(header) if header else "nothing"
        raise MfhcaError(
            f"{path}: no column {', '.join(missing)}; the first line has: {found} (commas separate columns)"
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise MfhcaError(f"{path}: column {', '.join(twice)} appears twice; remove one")
    if FOLD in header and SPLIT in header:
        raise MfhcaError(f"{path}: columns {FOLD} and {SPLIT} both name the official split; remove one")
