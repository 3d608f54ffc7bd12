"""Runs compared with each other: their rows as those of one ablation, with the same tests, tables and pictures."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from mfhca_cache.common.errors import MfhcaError, did_you_mean
from mfhca_cache.common.log import LOG
from mfhca_cache.common.text import first_names, plural
from mfhca_train.config.parse import from_dict
from mfhca_train.config.settings import setting_text
from mfhca_train.report import details, learning_curves, repeat, scores
from mfhca_train.report.blocks import Table
from mfhca_train.report.findings import findings
from mfhca_train.report.page import Section, file_date, write_pages
from mfhca_train.results.checksums import read_rows
from mfhca_train.results.comparison import EXPLAINED, against
from mfhca_train.results.record import Record, read_record
from mfhca_train.results.run_file import Identity, RunFile
from mfhca_train.results.schema import DATA_FILE, RESULTS_FILE, AblationResults, Comparison, RowResults

GRID = "comparison"  # in the place of a grid's name
WHAT = {"corpus": "corpora", "classes": "classes", "label_digest": "labels or speakers"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of one of the runs.

    Attributes:
        run: the folder, as it was given.
        row: the row's name there.
        record: of the run.
        title: in the comparison.
    """

    run: Path
    row: str
    record: Record
    title: str

    @property
    def identity(self) -> Identity:
        """What decides the row's results."""
        return self.record.about.rows[self.row]

    @property
    def results(self) -> RowResults:
        """The row's results."""
        return self.record.rows[self.row]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Runs as one record.

    Attributes:
        record: an ablation, whose rows are those of the runs; the first is the reference.
        entries: where each row comes from.
    """

    record: Record
    entries: Mapping[str, Entry]

    def table(self) -> Table:
        """Everything in which the rows differ beside their scores, one line each."""
        every = [_facts(entry) for entry in self.entries.values()]
        names = list(dict.fromkeys(name for facts in every for name in facts))
        lines = [[name, *(facts.get(name, "–") for facts in every)] for name in names]
        differing = [line for line in lines if len(set(line[1:])) > 1]
        head = ["Setting", *(row.marked_title for row in self.record.rows.values())]
        return Table("what differs between the rows", head, differing)

    def differences(self) -> list[str]:
        """What differs between the rows, as lines of text."""
        rows = self.table().rows
        lines = [f"  {line[0]}: {' | '.join(map(str, line[1:]))}" for line in rows]
        return ["differences, in the order of the rows:", *lines] if lines else ["no setting differs"]


def comparison(runs: Sequence[Path], rows: Collection[str] = ()) -> Compared:
    """Reads runs and tests their rows against the first one.

    Args:
        runs: folders in which `cv` or `ablate` has finished.
        rows: names of the rows of ablations to take; empty for all.

    Raises:
        MfhcaError: fewer than two rows, a run is not finished or given twice, or the runs have other labels, speakers
            or features.
    """
    entries = list(_entries(runs, rows))
    if len(entries) < 2:
        raise MfhcaError("a comparison needs two rows or more; name more runs")
    for other in entries[1:]:
        _check(entries[0], other)
    named = dict(zip(_names(entries), entries, strict=True))
    outcomes = {name: entry.record.outcomes[entry.row] for name, entry in named.items()}
    oracles = [name for name, entry in named.items() if entry.results.is_oracle]
    reference = next(iter(named))
    tested = against(outcomes, reference, oracles)
    compared = {
        name: structs.replace(
            entry.results,
            title=entry.title,
            comparison=msgspec.convert(tested[name], Comparison) if name in tested else None,
        )
        for name, entry in named.items()
    }
    record = Record(
        _about(named),
        _results(compared, reference, len(runs)),
        outcomes,
        {name: entry.record.histories[entry.row] for name, entry in named.items() if _is_network(entry)},
        {name: entry.record.inputs[entry.row] for name, entry in named.items() if _is_network(entry)},
    )
    return Compared(record, named)


def _entries(runs: Sequence[Path], rows: Collection[str]) -> Iterator[Entry]:
    """The rows of every run, the reference of the first run first."""
    places = [run.resolve() for run in runs]
    if twice := [run for k, run in enumerate(runs) if places[k] in places[:k]]:
        raise MfhcaError(f"{twice[0]}: is given twice; name it once")
    labels = short_names(places)
    records = [read_record(run) for run in runs]
    known = [name for record in records if not record.single for name in record.rows]
    if unknown := [name for name in rows if name not in known]:
        raise MfhcaError(f"no run has a row {unknown[0]!r}; {did_you_mean(unknown[0], dict.fromkeys(known))}")
    for run, label, record in zip(runs, labels, records, strict=True):
        for name in sorted(record.rows, key=lambda name: name != record.reference):
            if record.single:
                yield Entry(run, name, record, label)
            elif not rows or name in rows:
                yield Entry(run, name, record, f"{label}: {record.rows[name].title}")


def short_names(places: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    for length in count(1):
        labels = ["/".join(place.parts[-length:]) for place in places]
        if len(set(labels)) == len(labels):
            return labels
    raise AssertionError


def _names(entries: Sequence[Entry]) -> list[str]:
    """Names of the rows as files and ids allow them."""
    names: list[str] = []
    for entry in entries:
        name = re.sub("[^a-z0-9.-]+", "-", entry.title.lower()).strip("-.") or "run"
        names.append(next(new for k in count(1) if (new := name if k == 1 else f"{name}-{k}") not in names))
    return names


def _is_network(entry: Entry) -> bool:
    return entry.row in entry.record.networks


def _check(first: Entry, other: Entry) -> None:
    """Raises MfhcaError where a test over speakers would compare other utterances, labels or features."""
    one, two = first.identity, other.identity
    where = f"{first.run} and {other.run} cannot be compared"
    remedy = "train both on the same manifest, label set and cache"
    for field, words in WHAT.items():
        if getattr(one, field) != getattr(two, field):
            found = "" if field == "label_digest" else f" ({_shown(one, field)} and {_shown(two, field)})"
            raise MfhcaError(f"{where}: their {words} differ{found}; {remedy}")
    for side, key in one.recipes.items():
        if two.recipes.get(side, key) != key:
            raise MfhcaError(
                f"{where}: their {repeat.SIDES.get(side, side)} features differ ({_recipe(first, side)} and "
                f"{_recipe(other, side)}); compare such features as rows of one grid, with `mfhca-train ablate`"
            )
    audio, others = _audio(first.run), _audio(other.run)
    if changed := sorted(name for name in audio.keys() & others.keys() if audio[name] != others[name]):
        raise MfhcaError(
            f"{where}: the audio of {plural(len(changed), 'utterance')} differs ({first_names(changed)}); {remedy}"
        )
    if one.recipes == two.recipes and one.data_digest != two.data_digest:
        raise MfhcaError(f"{where}: their audio or segments differ; {remedy}")
    if one.recipes == two.recipes and one.features_digest != two.features_digest:
        LOG.warning(
            "%s and %s were trained on features of the same audio with other bits, as of other versions, threads or "
            "processors; the last digits of their scores may differ",
            first.run,
            other.run,
        )


def _audio(run: Path) -> dict[str, str]:
    """The digest of the audio of every utterance of a run, from data.csv; empty if the file was deleted."""
    file = run / DATA_FILE
    return {row["utterance"]: row["audio_sha256"] for row in read_rows(file)} if file.exists() else {}


def _shown(identity: Identity, field: str) -> str:
    value = getattr(identity, field)
    return value if isinstance(value, str) else f"{identity.label_set}: {', '.join(value)}"


def _recipe(entry: Entry, side: str) -> str:
    key = entry.identity.recipes[side]
    name = entry.record.about.recipe_names.get(key)
    return f"{name}-{key}" if name else key


def _facts(entry: Entry) -> dict[str, str]:
    """What a row was made with, by name."""
    about, row = entry.record.about, entry.results
    # With the defaults that run.json leaves out.
    settings = repeat.flat(dataclasses.asdict(from_dict(row.config)))
    if row.chosen_from:
        del settings["train.lr"]  # in which the candidates differ
    return {
        "kind": row.kind,
        "protocol": row.protocol,
        "folds": ", ".join(dict.fromkeys(fold.id for fold in row.folds)),
        "seeds": ", ".join(map(str, row.seeds)),
        **{name: setting_text(value) for name, value in settings.items()},
        **{f"features: {repeat.SIDES.get(side, side)}": _recipe(entry, side) for side in row.recipes},
        "threads": str(row.threads),
        "processor": about.cpu,
        "requested device": about.device,
        **about.versions,
    }


def _about(named: Mapping[str, Entry]) -> RunFile:
    first = next(iter(named.values())).record.about
    return structs.replace(
        first, grid=GRID, title="", rows={name: entry.identity for name, entry in named.items()}
    )


def _results(rows: Mapping[str, RowResults], reference: str, runs: int) -> AblationResults:
    """The rows of all runs as an ablation."""
    first = rows[reference]
    common: dict[str, Any] = {
        name: getattr(first, name) for name in ("corpus", "label_set", "threads", "config")
    }
    return AblationResults(
        grid=GRID,
        title=f"Comparison of {plural(runs, 'run')} on {first.corpus}",
        note="",
        classes=first.classes,
        protocol=first.protocol,
        oracle=any(row.is_oracle for row in rows.values()),
        reference=reference,
        seeds=tuple(sorted({seed for row in rows.values() for seed in row.seeds})),
        complete=all(row.complete for row in rows.values()),
        tests=EXPLAINED,
        rows=dict(rows),
        optimism=(),
        cited=(),
        **common,
    )


def write_comparison(compared: Compared, out: Path) -> Path:
    """Writes the page, and the same as Markdown next to it.

    Args:
        compared: the runs.
        out: path of the page, ending in .html.

    Raises:
        MfhcaError: a file cannot be written.
    """
    record = compared.record
    every = (
        ("summary", "In plain words", findings(record, [], None)),
        ("scores", "Scores", scores.scores(record)),
        ("differences", "What differs", {"table": compared.table()}),
        ("reference", "Differences from the reference", scores.differences_from_reference(record)),
        ("folds", "Folds and seeds", details.folds(record)),
        ("emotions", "Emotions", details.emotions(record)),
        ("groups", "Groups of utterances", details.groups(record)),
        ("calibration", "How far the probabilities can be trusted", details.calibration(record)),
        ("training", "Training", learning_curves.training(record)),
        ("settings", "Common settings", repeat.settings(record) | {"rows": Table("", [], [])}),
    )
    sections = [Section(name, title, context) for name, title, context in every if context is not None]
    date = max(file_date(entry.run / RESULTS_FILE) for entry in compared.entries.values())
    return write_pages(record, out.with_suffix(""), sections, date)
