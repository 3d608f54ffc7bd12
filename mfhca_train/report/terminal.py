"""The results of a run as a table for the terminal: the folds of a cross-validation, or the rows of an ablation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from mfhca_cache.common.columns import Column, fitted, fitting, paragraph
from mfhca_cache.common.text import plural
from mfhca_train.report.rows import (
    LEVEL,
    SEEDS_ADVISED,
    comparisons,
    epoch_limit,
    fewest_seeds,
    is_undecidable,
    mark_of,
    smallest_p,
    unequal_seeds,
    untested_oracles,
)
from mfhca_train.report.text import score
from mfhca_train.results.comparison import GAINS
from mfhca_train.results.published import PublishedScore
from mfhca_train.results.record import parse_results
from mfhca_train.results.schema import SCORES, AblationResults, Changes, RowResults

IN_REPORT = "the report has them"
# Columns and their ranks, see `Column.rank`: on a narrow terminal the highest ranks are left out first.
FOLD_RANKS = {"fold": 0, "seed": 4, "WA": 1, "UA": 0, "F1": 2, "epoch": 3, "validated on": 6, "notes": 5}
MEAN, POOLED, MINUS, P, HOLM, PUBLISHED = (
    "mean ± sd",
    "pooled",
    "minus reference",
    "p",
    "p (Holm)",
    "published",
)


def table(content: object, width: int | None = None) -> str:
    """The results of a run as text, headed by what was run and followed by remarks.

    Args:
        content: of its results.json.
        width: characters per line; columns that do not fit are left out, in the order of
            `FOLD_RANKS` and `_row_columns`. None for no limit.

    Raises:
        ValueError: it is not the content of a results.json.
    """
    return rows_table(parse_results(content), width)


def rows_table(results: AblationResults, width: int | None = None) -> str:
    """The table of results that were read already, see `table`."""
    lines = _rows if results.grid else _folds
    remarks = [*_remarks(results), *([results.note.strip()] if results.note else [])]
    return "\n".join([*lines(results, width), *(line for text in remarks for line in paragraph(text, width))])


def headline(content: object) -> str | None:
    """The scores of a cross-validation in one line; None for an ablation, whose table has a line for each row.

    Args:
        content: of its results.json.
    """
    results = parse_results(content)
    if results.grid:
        return None
    row = next(iter(results.rows.values()))
    values = []
    for name in ("ua", "wa"):
        found = row.score(name)
        spread = "" if found.std is None or row.headline == "pooled" else f" ± {score(found.std)}"
        values.append(f"{name.upper()} {score(getattr(found, row.headline))}{spread} %")
    over = f"{plural(row.n_folds, 'fold')}, protocol {row.protocol}"
    how = f"pooled over {over}" if row.headline == "pooled" else f"mean over {over}"
    oracle = "ORACLE: " if row.is_oracle else ""
    return f"{results.corpus}: {oracle}{', '.join(values)} ({how})"


def next_steps(run: Path) -> str:
    """What one may do with a finished run, one line each."""
    name = quote(str(run))
    return (
        f"next: open {run / 'report.html'} in a browser\n"
        f"      mfhca-train predict {name} AUDIO...        classify recordings\n"
        f"      mfhca-train compare {name} ANOTHER_RUN     test it against another run"
    )


def _folds(results: AblationResults, width: int | None) -> Iterator[str]:
    """Every fold, mean, standard deviation and pooled scores of a row."""
    row = next(iter(results.rows.values()))
    marks = "".join(f" ({mark})" for mark in mark_of(row).splitlines())
    yield from paragraph(
        f"protocol {row.protocol}{marks}: {plural(row.n_utterances, 'utterance')}, "
        f"{plural(row.n_segments, 'segment')}, {plural(row.parameters, 'parameter')}",
        width,
    )
    lines: list[tuple[str, ...]] = []
    for fold in row.folds:
        notes = {"absent": fold.classes_absent, "not in training": fold.classes_untrained}
        note = "; ".join(f"{head}: {', '.join(classes)}" for head, classes in notes.items() if classes)
        scores = (score(getattr(fold, name)) for name in SCORES)
        epoch, validation = f"{fold.best_epoch}/{fold.epochs}", ", ".join(fold.validation_speakers)
        lines.append((fold.id, str(fold.seed), *scores, epoch, validation, note))
    for name, key in (("mean", "mean"), ("sd", "std"), ("pooled", "pooled")):
        scores = (score(getattr(row.score(metric), key)) for metric in SCORES)
        lines.append((f"{name} (headline)" if row.headline == key else name, "", *scores, "", "", ""))
    for corpus, group in row.breakdown.get("corpus", {}).items() if row.protocol != "corpus" else ():
        size = plural(group.n, "utterance")
        lines.append((f"corpus {corpus}", "", score(group.wa), score(group.ua), "", "", "", size))
    if row.ensemble:
        for key in ("mean", "pooled"):
            scores = (score(getattr(row.ensemble.score(metric), key)) for metric in SCORES)
            lines.append((f"{key}, ensemble of {row.ensemble.seeds} seeds", "", *scores, "", "", ""))
    columns = [
        Column(name, cells, rank, left=name in ("fold", "validated on", "notes"))
        for (name, rank), cells in zip(FOLD_RANKS.items(), zip(*lines, strict=True), strict=True)
        if any(cells)
    ]
    yield from fitted(columns, width, IN_REPORT)
    yield from _layers(row, width)


def _layers(row: RowResults, width: int | None) -> Iterator[str]:
    """Learned weights of the encoder's layers, if the row has any."""
    if row.layer_weights:
        yield from paragraph(
            "weights of the layers in the sum of hidden states, in %, over folds and seeds:", width
        )
        weights = row.layer_weights
        yield from fitted(
            [
                Column("layer", list(weights), left=True),
                Column("weight", [score(weight.mean) for weight in weights.values()]),
                Column("sd", [score(weight.std) for weight in weights.values()]),
            ],
            width,
            IN_REPORT,
        )


def _rows(results: AblationResults, width: int | None) -> Iterator[str]:
    """One line per row, with its difference from the reference and published scores."""
    published = [score for row in results.rows.values() for score in row.published]
    published += [score for entry in results.cited for score in entry.published]
    sources = list(dict.fromkeys(map(_source, published)))
    yield from paragraph(results.title, width)
    yield from paragraph(
        f"{results.corpus}, label set {results.label_set}, protocol {results.protocol} unless a row says otherwise; "
        "all scores in %, mean ± standard deviation over folds",
        width,
    )
    lines: list[tuple[str, ...]] = []
    for name, row in results.rows.items():
        title = row.marked_title + " (reference)" * (name == results.reference)
        means = (f"{score(one.mean)} ± {score(one.std)}" for one in (row.wa, row.ua))
        pooled = (score(one.pooled) for one in (row.wa, row.ua))
        lines.append((title, *means, *pooled, *_tests(row), _published(row.published, sources)))
        if row.ensemble:
            both = (row.ensemble.wa, row.ensemble.ua)
            values = [f"{score(one.mean)}{'':7}" for one in both] + [score(one.pooled) for one in both]
            lines.append((f"  ensemble of {row.ensemble.seeds} seeds", *values, *[""] * 7))
    for entry in results.cited:
        lines.append((entry.title, *[""] * 10, _published(entry.published, sources)))
    columns = list(_row_columns(lines, any(row.headline == "pooled" for row in results.rows.values())))
    yield from fitted(columns, width, IN_REPORT)
    if any(column.group == PUBLISHED for column in fitting(columns, width)):
        for number, source in enumerate(sources, start=1):
            yield from paragraph(f"published ({number}): {source}", width)
    for row in results.rows.values():
        if row.layer_weights:
            yield from paragraph(row.marked_title, width)
            yield from _layers(row, width)


def _row_columns(lines: Sequence[Sequence[str]], pooled: bool) -> Iterator[Column]:
    """The columns of rows; on a narrow terminal UA of the main score stays the longest."""
    main, other = (POOLED, MEAN) if pooled else (MEAN, POOLED)
    ranks = [(main, "UA"), (main, "WA"), (MINUS, "UA"), (HOLM, "UA"), (other, "UA"), (other, "WA")]
    ranks += [(MINUS, "WA"), (HOLM, "WA"), (P, "UA"), (P, "WA"), (PUBLISHED, "WA/UA")]
    places = [(group, head) for group in (MEAN, POOLED, MINUS, P, HOLM) for head in ("WA", "UA")]
    names, *columns = zip(*lines, strict=True)
    yield Column("row", names, left=True)
    for (group, head), cells in zip([*places, (PUBLISHED, "WA/UA")], columns, strict=True):
        if any(cells):
            yield Column(head, cells, ranks.index((group, head)), group, left=group == PUBLISHED)


def _tests(row: RowResults) -> list[str]:
    """Differences from the reference, p values and adjusted ones, of WA and UA."""
    tested = row.comparison
    if not tested:
        return [""] * 6
    changes = (tested.wa, tested.ua)
    return [
        *(f"{100 * change.difference:+.2f}" for change in changes),
        *(_p(change.p) for change in changes),
        *(_p(change.p_holm or 0.0) for change in changes),
    ]


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<.0001"


def _published(scores: Sequence[PublishedScore], sources: Sequence[str]) -> str:
    """WA/UA, and the number under which the source is explained below."""
    return "; ".join(
        f"{score.wa:.2f}/{'-' if score.ua is None else f'{score.ua:.2f}'} ({sources.index(_source(score)) + 1})"
        for score in scores
    )


def _source(score: PublishedScore) -> str:
    return f"{score.corpus}, {score.protocol} [{score.source}]"


def _remarks(results: AblationResults) -> Iterator[str]:
    """What one must know to read the scores."""
    tested = list(comparisons(results).values())
    if tested:
        some = tested[0].ua
        yield (
            f"p: {some.method} sign-flip test, two-sided, over {plural(some.pairs, 'test speaker')}, seeds averaged "
            f"first; the smallest p it can reach is {max(row.ua.smallest_p for row in tested):.4g}; Holm: adjusted for "
            f"the {plural(len(tested), 'row')} tested"
        )
        if is_undecidable(results):
            yield (
                f"with so few speakers the test cannot decide: the smallest adjusted p it can reach is "
                f"{smallest_p(results):.4g}, above {LEVEL:g}"
            )
        yield from filter(None, [unequal_seeds(results)])
    elif results.reference is not None and results.reference not in results.rows:
        yield f"nothing was tested: the reference row {results.reference} was not trained"
    yield from filter(None, [untested_oracles(results)])
    for entry in results.optimism:
        for (words, more, less), changes in zip(GAINS.values(), (entry.selection, entry.extra), strict=True):
            if changes:
                yield f"effect of {words} ({more} minus {less}): {_effect(changes)}"
    if results.grid and any(row.is_oracle for row in results.rows.values()):
        yield "ORACLE: the epoch was selected on the test speaker; compare only with rows of the same protocol"
    if any(row.shared_speakers for row in results.rows.values()):
        yield "KNOWN SPEAKERS: the official split trains on test speakers, too; scores on unknown speakers are lower"
    if results.grid and any(row.transductive for row in results.rows.values()):
        yield "transductive: features normalised over unlabelled test utterances; compare only with such rows"
    seeds = fewest_seeds(results)
    if results.grid and seeds < SEEDS_ADVISED:
        yield (
            f"{plural(seeds, 'seed')}: a difference within the spread over seeds means nothing; use {SEEDS_ADVISED} "
            "or more"
        )
    if limit := epoch_limit(results):
        yield " ".join(limit)
    incomplete = [row for row in results.rows.values() if not row.complete]
    if incomplete:
        command = {"": "cv", "comparison": "the incomplete runs"}.get(results.grid, "ablate")
        yield (
            f"NOT COMPLETE: only {plural(min(row.n_folds for row in incomplete), 'fold')}; run {command} without "
            "--fold for all"
        )


def _effect(changes: Changes) -> str:
    """WA and UA with their intervals. No p value: a choice made on the test speaker cannot lose by construction."""
    parts = []
    for name, change in (("WA", changes.wa), ("UA", changes.ua)):
        ends = (
            ""
            if change.ci95 is None
            else " (95 % CI {:+.2f} to {:+.2f})".format(*(100 * e for e in change.ci95))
        )
        parts.append(f"{name} {100 * change.difference:+.2f}{ends}")
    return "; ".join(parts)
