"""The report of a run: report.html, one page that needs nothing else, and the same text as report.md.

Everything shown comes from the run folder, the date from its results.json, so equal folders give equal bytes. The
prose is in templates/, which are rendered once by `Html` and once by `Markdown`; the functions of findings.py,
scores.py, details.py, learning_curves.py, parameters.py, analysis.py and repeat.py give each section its numbers,
tables and pictures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mfhca_cache.common.files import write_atomically
from mfhca_cache.common.text import plural
from mfhca_train.data.folds import PROTOCOLS
from mfhca_train.report import details, learning_curves, repeat, scores, text
from mfhca_train.report.analysis import Analyses
from mfhca_train.report.blocks import Tile
from mfhca_train.report.findings import findings
from mfhca_train.report.html import Html
from mfhca_train.report.markdown import Markdown, templates
from mfhca_train.report.parameters import find_baseline, parameters
from mfhca_train.report.plots.files import FIGURES, format_of, write_figures
from mfhca_train.report.rows import (
    SEEDS_ADVISED,
    comparisons,
    epoch_limit,
    fewest_seeds,
    is_significant,
    is_undecidable,
    quoted,
    warning_of,
)
from mfhca_train.report.score_files import SCORE_FILES
from mfhca_train.results.effects import find_effects
from mfhca_train.results.record import Record, read_record
from mfhca_train.results.schema import RESULTS_FILE, SCORES, RowResults

TEMPLATES = Path(__file__).parent / "templates"
MEANING = {
    "wa": "Weighted accuracy: the fraction of all utterances that were recognised.",
    "ua": "Unweighted accuracy: the mean of the recalls of all classes, so that rare emotions count as much as "
    "frequent ones.",
    "f1": "Macro F1: like UA, but predicting an emotion too often lowers it as well.",
}

FORMATTING = (  # functions that the templates call
    *(text.names, plural, text.score, text.interval, text.points, text.points_interval, text.p_value),
    quoted,
)


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: of its template, and its id in the page.
        title: its heading.
        context: what the template needs.
    """

    name: str
    title: str
    context: Mapping[str, Any]


def write_report(run: Path, figures: Path | None = None, form: str = "svg") -> Path:
    """Writes report.html and report.md into the folder of a finished run, each completely or not at all.

    Args:
        run: a folder in which `cv` or `ablate` has finished.
        figures: a folder for the figures as files, to which report.md then links. Those that an earlier call has
            written into the folder "figures" of the run are written again, so that they are never of other results.
        form: their format, one of `plots.files.FORMATS`.

    Returns:
        The path of report.html.

    Raises:
        MfhcaError: the run is not finished, a file of it is damaged, or a file cannot be written.
    """
    record = read_record(run)
    if figures is None and (earlier := format_of(run / FIGURES)):
        figures, form = run / FIGURES, earlier
    sections = list(_sections(record, Analyses(run, record)))
    for name, table in SCORE_FILES.items():
        if (run / name).exists():  # of an earlier call, perhaps of fewer folds
            write_atomically(run / name, table(record))
    return write_pages(record, run / "report", sections, file_date(run / RESULTS_FILE), figures, form)


def file_date(path: Path) -> str:
    """The day on which a file was written (UTC)."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def write_pages(
    record: Record,
    out: Path,
    sections: Sequence[Section],
    date: str,
    figures: Path | None = None,
    form: str = "svg",
) -> Path:
    """Writes a page and its Markdown; see `write_report`.

    Args:
        record: what is shown.
        out: path of both files without their extension.
        sections: in order.
        date: of the results.
        figures, form: see `write_report`.

    Returns:
        The path of the page.
    """
    first, html, markdown = _first_screen(record), Html(), Markdown()
    page = _render(html, record, first, sections, date)
    if figures is not None:
        files = write_figures(figures, html.shown, form)
        markdown = Markdown({name: os.path.relpath(file, out.parent) for name, file in files.items()})
    write_atomically(out.with_name(f"{out.name}.md"), _render(markdown, record, first, sections, date))
    path = out.with_name(f"{out.name}.html")
    write_atomically(path, page)
    return path


def _sections(record: Record, analyses: Analyses) -> Iterator[Section]:
    """The sections that this run has, in order."""
    effects, baseline = find_effects(record), find_baseline(record)
    single = bool(record.single)
    every = (
        ("summary", "In plain words", findings(record, effects, baseline)),
        ("scores", "Scores", scores.scores(record)),
        ("reference", "Differences from the reference", scores.differences_from_reference(record)),
        ("effects", "Effect of each part", scores.effects(record, effects)),
        ("selection", "Effect of selecting on the test speaker", scores.selection(record)),
        ("folds", "Folds" if single else "Folds and seeds", details.folds(record)),
        ("published", "Published scores", scores.published(record)),
        ("emotions", "Emotions", details.emotions(record)),
        ("groups", "Groups of utterances", details.groups(record)),
        ("calibration", "How far the probabilities can be trusted", details.calibration(record)),
        ("training", "Training", learning_curves.training(record)),
        ("features", "What the features look like", analyses.features()),
        ("attention", "What the networks attend to", analyses.attention()),
        ("parameters", "Parameters", parameters(record, baseline)),
        ("layers", "Layers of the speech encoder", details.layers(record)),
        ("settings", "Settings", repeat.settings(record)),
        ("repeat", "Repeat this run", repeat.repeat(record)),
    )
    for name, title, context in every:
        if context is not None:
            yield Section(name, title, context)


def _render(
    renderer: Html | Markdown,
    record: Record,
    first: Mapping[str, Any],
    sections: Sequence[Section],
    date: str,
) -> str:
    """The whole report in one format."""
    environment = templates(renderer, TEMPLATES)
    environment.globals |= {function.__name__: function for function in FORMATTING}
    environment.globals |= {"record": record, "results": record.results, "single": record.single}

    def body(name: str, context: Mapping[str, Any]) -> str:
        return environment.get_template(f"{name}.j2").render(context)

    bodies = [(section, renderer.raw(body(section.name, section.context))) for section in sections]
    head = renderer.raw(body("first_screen", first))
    page = environment.get_template(f"page.{renderer.extension}.j2").render(
        first_screen=head,
        mark=first["mark"],
        sections=[(section.name, section.title, content) for section, content in bodies if content.strip()],
        style=renderer.raw((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        version=version("mfhca"),
        date=date,
    )
    return re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n"


def _first_screen(record: Record) -> dict[str, Any]:
    """What was done, what to be aware of, and the main scores."""
    results, rows = record.results, record.rows
    first = rows[record.reference or next(iter(rows))]
    oracles = [row for row in rows.values() if row.is_oracle]
    seen = [row for row in rows.values() if row.transductive]
    return {
        "first": first,
        "all_oracle": len(oracles) == len(rows),
        "all_last": all(row.config["train"].get("select") == "last" for row in rows.values()),
        "mark": ", ".join(
            ["oracle"] * (len(oracles) == len(rows)) + ["transductive"] * (len(seen) == len(rows))
        ),
        "untrained": _folds_lacking(record, "classes_untrained", with_rows=not record.single),
        # The table of folds of a cross-validation has a column of them.
        "untested": {} if record.single else _folds_lacking(record, "classes_absent"),
        "oracles": oracles,
        "transductive": seen,
        "shared_speakers": [row for row in rows.values() if row.shared_speakers],
        "others": len(rows) - len(record.networks),
        "protocols": list(dict.fromkeys(row.protocol for row in rows.values())),
        "protocol": PROTOCOLS.get(results.protocol, "a protocol that this version does not know"),
        "fewest_seeds": fewest_seeds(results),
        "seeds_advised": SEEDS_ADVISED,
        "epoch_limit": epoch_limit(results),
        "seeds": text.count_range([len(row.seeds) for row in record.networks.values()]),
        "partial": text.count_range([row.n_folds for row in rows.values() if not row.complete]),
        "pooled": record.headline == "pooled",
        "tile_list": _score_tiles(record, record.single) if record.single else _row_tiles(record),
    }


def _folds_lacking(record: Record, field: str, with_rows: bool = False) -> dict[str, list[str]]:
    """The classes in a field of `FoldResult` -> the folds in which they are, with the rows of an ablation if asked."""
    found: dict[str, dict[str, None]] = {}
    for row in record.rows.values():
        for fold in row.folds:
            if classes := getattr(fold, field):
                where = f"{fold.id} of {quoted(row)}" if with_rows else fold.id
                found.setdefault(", ".join(classes), {})[where] = None
    return {classes: list(folds) for classes, folds in found.items()}


def _score_tiles(record: Record, row: RowResults) -> list[Tile]:
    """WA, UA and F1 of a cross-validation."""
    pooled = row.headline == "pooled"
    sizes = [sum(counts) for counts in row.confusion]
    frequent = row.classes[sizes.index(max(sizes))]
    chance = {
        "wa": f"Chance level: {100 * max(sizes) / sum(sizes):.1f} % (always “{frequent}”)",
        "ua": f"Chance level: {100 * record.chance:.1f} %",
    }
    tiles = []
    for name in SCORES:
        one = row.score(name)
        ends = one.pooled_ci95 if pooled else one.ci95
        lines = [f"Mean over the folds: {text.score(one.mean)} %"] if pooled else []
        lines += [f"Standard deviation over the folds: {text.score(one.std)}"] if one.std is not None else []
        lines += [f"95 % CI: {text.interval(ends)}{' (approximate)' if pooled else ''}"] if ends else []
        lines += [chance[name]] if name in chance else []
        if row.ensemble:
            ensemble = getattr(row.ensemble.score(name), row.headline)
            lines += [f"Ensemble of {row.ensemble.seeds} seeds: {text.score(ensemble)} %"]
        head = f"{name.upper()} ({warning_of(row)})" if warning_of(row) else name.upper()
        tiles.append(
            Tile(head, f"{text.score(getattr(row.score(name), row.headline))} %", lines, MEANING[name])
        )
    return tiles


def _row_tiles(record: Record) -> list[Tile]:
    """The reference, the row with the highest UA, and how many rows differ significantly."""
    key = record.headline
    candidates = record.without_oracles
    best = max(candidates, key=lambda name: getattr(record.rows[name].ua, key))
    tiles = [_row_tile(record, "Reference", record.reference, key)] if record.reference else []
    tiles += [_row_tile(record, "Highest UA", best, key)] if best != record.reference else []
    tested = comparisons(record.results)
    if tested:
        count = sum(is_significant(row.ua) or is_significant(row.wa) for row in tested.values())
        why = "In WA or UA: sign-flip test over speakers, 5 % after Holm's adjustment."
        why += " With so few speakers the test cannot decide." if is_undecidable(record.results) else ""
        value = f"{count} of {len(tested)} rows" if len(tested) > 1 else ("no", "yes")[count]
        tiles.append(Tile("Significantly different from the reference", value, [], why))
    return tiles


def _row_tile(record: Record, head: str, name: str, key: str) -> Tile:
    row = record.rows[name]
    ends = row.ua.pooled_ci95 if key == "pooled" else row.ua.ci95
    lines = [quoted(row), *([f"95 % CI: {text.interval(ends)}"] if ends else [])]
    wa, f1 = (text.score(getattr(row.score(one), key)) for one in ("wa", "f1"))
    form = "all folds pooled" if key == "pooled" else "mean over the folds"
    meaning = f"UA, {form}; chance level: {100 * record.chance:.1f} %."
    return Tile(head, f"{text.score(getattr(row.ua, key))} %", [*lines, f"WA {wa} %, F1 {f1} %"], meaning)
