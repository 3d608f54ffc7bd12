"""The sections that look closer: folds and seeds, emotions, groups of utterances, encoder layers.

Each function returns what the template of its section needs, or None if the section is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from mfhca_cache.common.text import plural
from mfhca_train.report.blocks import AnyCell, Cell, Cells, Figure, Table
from mfhca_train.report.plots.curves import reliability_picture
from mfhca_train.report.plots.rows import strip_picture
from mfhca_train.report.plots.svg import MOST_LINES, confusion_picture, fold_picture
from mfhca_train.report.rows import mark_of, quoted
from mfhca_train.report.text import interval, mean_sd, names, score
from mfhca_train.results.record import Record
from mfhca_train.results.schema import SCORES, Group, RowResults
from mfhca_train.results.summary import DURATIONS

GROUPS = {
    "corpus": ("By corpus", "The test utterances of each of the corpora."),
    "duration": ("By duration", "Duration as given by the manifest."),
    "session": ("By session", "A session is a recording of the same people."),
    "gender": ("By gender", "Gender of the speaker as given by the manifest."),
    "style": ("By style", "Improvised and scripted dialogues (IEMOCAP)."),
}
FEW = 6  # speakers whose names fit into a table cell


def folds(record: Record) -> dict[str, Any]:
    """Scores of every fold and seed: of a cross-validation as bars and a table, of an ablation as strips."""
    if record.single:
        return _folds_of_row(record, record.single)
    by_fold = {name: _mean_ua(row, "id") for name, row in record.rows.items()}
    repeated = {name: row for name, row in record.networks.items() if len(row.seeds) > 1}
    by_seed = {name: _mean_ua(row, "seed") for name, row in repeated.items()}
    joined = "A grey line joins the same fold from row to row; the bar is the mean."
    figures = [_strip(record, by_fold, "fold", f"UA of every fold, seeds averaged. {joined}", record.chance)]
    if repeated:
        joined = joined.replace("fold", "seed")
        figures.append(_strip(record, by_seed, "seed", f"UA of every seed, folds averaged. {joined}"))
    everyone = list(dict.fromkeys(fold for ua in by_fold.values() for fold in ua))
    rows: list[Cells] = [
        [record.labels[name], *(score(ua.get(fold)) for fold in everyone)] for name, ua in by_fold.items()
    ]
    spread: list[Cells] = [
        [record.labels[name], len(row.seeds), *(score(one.seed_std) for one in (row.ua, row.wa))]
        for name, row in repeated.items()
    ]
    head = ["Row", "Seeds", "UA: sd over seeds", "WA: sd over seeds"]
    # The picture shows the same; a table with more columns than this cannot be read.
    rows = rows if len(everyone) <= MOST_LINES else []
    return {
        "figures": figures,
        "table": Table("UA of every fold", ["Row", *everyone], rows, numbers=range(1, len(everyone) + 1)),
        "seeds": Table("spread over seeds", head, spread, numbers=(1, 2, 3)),
    }


def _strip(
    record: Record,
    ua: Mapping[str, Mapping[str, float]],
    what: str,
    caption: str,
    chance: float | None = None,
) -> Figure:
    rows = [(record.rows[name].marked_title, values) for name, values in ua.items()]
    return Figure(strip_picture(f"strip-{what}s", f"UA of every {what}", rows, what, chance), caption)


def _mean_ua(row: RowResults, key: str) -> dict[str, float]:
    """UA of each fold over the seeds ("id"), or of each seed over the folds ("seed")."""
    values: dict[str, list[float]] = {}
    for fold in row.folds:
        values.setdefault(str(getattr(fold, key)), []).append(fold.ua)
    return {name: fmean(ua) for name, ua in values.items()}


def _folds_of_row(record: Record, row: RowResults) -> dict[str, Any]:
    order = list(dict.fromkeys(fold.id for fold in row.folds))
    units = sorted(row.folds, key=lambda fold: (order.index(fold.id), fold.seed))
    many, grouped = len(row.seeds) > 1, any(fold.test_speakers != (fold.id,) for fold in units)
    lacking = any(fold.classes_absent for fold in units)
    untrained = any(fold.classes_untrained for fold in units)
    head = ["Fold", *(["Seed"] if many else []), "WA", "UA", "F1", "Utterances", "Epoch", "Validated on"]
    head += ["Not in the test"] * lacking + ["Not in training"] * untrained + ["Tested on"] * grouped
    rows: list[Cells] = [
        [
            fold.id,
            *([fold.seed] if many else []),
            *(score(getattr(fold, name)) for name in SCORES),
            fold.n_utterances,
            f"{fold.best_epoch} of {fold.epochs}",
            _speakers(fold.validation_speakers),
            *([names(fold.classes_absent)] if lacking else []),
            *([names(fold.classes_untrained or ())] if untrained else []),
            *([_speakers(fold.test_speakers)] if grouped else []),
        ]
        for fold in units
    ]
    lines: list[tuple[str, str, Callable[[Any], str]]] = [
        ("mean", "mean", score),
        ("sd over folds", "std", score),
        ("sd over seeds", "seed_std", score),
        ("95 % CI of the mean", "ci95", interval),
        ("pooled", "pooled", score),
        ("95 % CI of pooled", "pooled_ci95", interval),
    ]
    lines = [line for line in lines if any(getattr(row.score(name), line[1]) is not None for name in SCORES)]
    foot: list[Cells] = [
        [
            text,
            *[""] * many,
            *(show(getattr(row.score(name), key)) for name in SCORES),
            *[""] * (len(head) - 4 - many),
        ]
        for text, key, show in lines
    ]
    if row.ensemble:
        for words, key in (("mean", "mean"), ("pooled", "pooled")):
            values = [score(getattr(row.ensemble.score(name), key)) for name in SCORES]
            title = f"ensemble of {row.ensemble.seeds} seeds, {words}"
            foot.append([title, "", *values, *[""] * (len(head) - 5)])
    strong = [k for k, (_, key, _) in enumerate(lines) if key == row.headline]
    wa = {fold: fmean(one.wa for one in units if one.id == fold) for fold in order}
    ua = _mean_ua(row, "id")
    pairs = {fold: (wa[fold], ua[fold]) for fold in order}
    picture = fold_picture(pairs, (row.wa.mean, row.ua.mean), record.chance, mark_of(row))
    caption = f"WA and UA of every fold{', seeds averaged' if many else ''}. Lines: the means over the folds, and UA "
    return {
        "row": row,
        "table": Table("folds", head, rows, foot, range(1, 6 + many), strong),
        "figures": [Figure(picture, caption + "at chance level (dotted).")],
    }


def _speakers(speakers: Sequence[str]) -> AnyCell:
    """A few names, or how many there are, with the names folded away."""
    if len(speakers) <= FEW:
        return names(speakers)
    return Cell(plural(len(speakers), "speaker"), folded=names(speakers))


def emotions(record: Record) -> dict[str, Any]:
    """Recall of every class and confusion matrices."""
    classes = record.results.classes
    caption = (
        "Confusion matrix{}: rows are labels and sum to 100 %, columns are predictions; correct predictions lie on the "
        "diagonal. Small numbers count utterances{}."
    )
    figures = []
    for name, row in record.rows.items():
        picture = confusion_picture(row.confusion, classes, mark_of(row), f"confusion-{name}")
        per_seed = ", once per seed" if len(row.seeds) > 1 else ""
        figures.append(
            Figure(picture, caption.format("" if record.single else f" of {quoted(row)}", per_seed))
        )
    if record.single:
        row = record.single
        recalls = [_recall_cells(row, k) for k in range(len(classes))]
        head = ["Emotion", "Utterances", "Recall", "", "Most often mistaken for"]
        table = Table("recall of each emotion", head, recalls, numbers=(1, 2))
        counts: list[Cells] = [[name, *line] for name, line in zip(classes, row.confusion, strict=True)]
    else:
        rows: list[Cells] = [
            [record.labels[name], *(score(row.recalls[one]) for one in classes)]
            for name, row in record.rows.items()
        ]
        numbers, marked = range(1, len(classes) + 1), record.reference_places
        table = Table("recall of each emotion", ["Row", *classes], rows, numbers=numbers, marked=marked)
        counts = []
    head = ["labelled as", *classes]
    return {
        "repeated": any(len(row.seeds) > 1 for row in record.rows.values()),
        "table": table,
        "figures": figures,
        "counts": Table("confusion matrix, counts", head, counts, numbers=range(1, len(head))),
    }


def _recall_cells(row: RowResults, k: int) -> Cells:
    name, counts = row.classes[k], row.confusion[k]
    recall = row.recalls[name]
    wrong, other = max((0 if j == k else count, -j) for j, count in enumerate(counts))
    mistaken = f"{row.classes[-other]} ({wrong / sum(counts):.0%})" if wrong else "–"
    return [name, sum(counts), score(recall), Cell("", bar=recall or 0.0), mistaken]


def groups(record: Record) -> dict[str, Any] | None:
    """WA and UA by duration, session and style, as far as these are known."""
    order = [name for name, _, _ in DURATIONS]
    parts = []
    for kind, (title, meaning) in GROUPS.items():
        known = {name: row.breakdown.get(kind, {}) for name, row in record.rows.items()}
        found = {group for of_row in known.values() for group in of_row}
        ordered = sorted(found, key=lambda name: (order.index(name) if name in order else 0, name))
        if ordered:
            parts.append((title, meaning, _group_tables(record, title, ordered, known)))
    repeated = any(len(row.seeds) > 1 for row in record.rows.values())
    return {"parts": parts, "repeated": repeated} if parts else None


def _group_tables(
    record: Record, title: str, ordered: Sequence[str], known: Mapping[str, Mapping[str, Group]]
) -> list[Table]:
    """One table for a cross-validation, with a row per group; one per score for an ablation, with a row per row."""
    first = record.reference or next(iter(record.rows))
    if record.single:
        found = known[first]
        rows: list[Cells] = [
            [group, found[group].n, score(found[group].wa), score(found[group].ua)] for group in ordered
        ]
        return [Table(title, ["Group", "Utterances", "WA", "UA"], rows, numbers=(1, 2, 3))]
    seeds = len(record.rows[first].seeds)
    sizes = {group: known[first][group].n // seeds if group in known[first] else 0 for group in ordered}
    tables = []
    for name in ("ua", "wa"):
        caption = f"{name.upper()} {title.lower()}"
        head: Cells = [caption]
        head += [Cell(group, f"n = {sizes[group]:,}") for group in ordered]
        rows = [
            [record.labels[row], *(score(getattr(of_row.get(group), name, None)) for group in ordered)]
            for row, of_row in known.items()
        ]
        numbers, marked = range(1, len(head)), record.reference_places
        tables.append(Table(caption, head, rows, numbers=numbers, marked=marked))
    return tables


def calibration(record: Record) -> dict[str, Any] | None:
    """Reliability diagrams, and how far the mean probability of the answer is from its accuracy."""
    rows = {name: row for name, row in record.rows.items() if row.calibration}
    if not rows:
        return None
    figures: list[Figure] = []
    cells: list[Cells] = []
    for name, row in rows.items():
        of_row = row.calibration
        assert of_row is not None
        picture = reliability_picture(of_row, row.marked_title, mark_of(row), f"reliability-{name}")
        whose = "" if record.single else f" of {quoted(row)}"
        figures.append(
            Figure(
                picture,
                f"Reliability{whose}: how often the most probable emotion is right, by its probability. On the dotted "
                "line probabilities mean what they say; below it they are too high. Bars: the share of utterances.",
            )
        )
        values = (of_row.confidence, of_row.accuracy, of_row.ece)
        cells.append([record.labels[name], f"{of_row.n:,}", *map(score, values)])
    head = ["Row", "Utterances", "Mean probability", "Right", "ECE"]
    at = list(rows).index(record.reference) if record.reference in rows else 0
    return {
        "several": any(len(row.seeds) > 1 for row in rows.values()),
        "first": figures[at : at + 1],
        "others": figures[:at] + figures[at + 1 :],
        "table": Table("calibration", head, cells, numbers=range(1, 5)),
    }


def layers(record: Record) -> dict[str, Any] | None:
    """The weight of each layer of the speech encoder, of the rows that learned a weighted sum."""
    summed = {name: row.layer_weights for name, row in record.rows.items() if row.layer_weights}
    if not summed:
        return None
    every = sorted({layer for weights in summed.values() for layer in weights}, key=int)
    rows: list[Cells] = [
        [layer, *(mean_sd(one) if (one := weights.get(layer)) else "–" for weights in summed.values())]
        for layer in every
    ]
    columns = ["Weight"] if record.single else [record.labels[name] for name in summed]
    head: Cells = ["Layer", *columns]
    numbers = range(len(head))
    if record.single:
        (weights,) = summed.values()
        head.append("")
        rows = [[*row, Cell("", bar=weights[layer].mean)] for row, layer in zip(rows, every, strict=True)]
    return {"count": len(summed), "table": Table("weights of the layers", head, rows, numbers=numbers)}
