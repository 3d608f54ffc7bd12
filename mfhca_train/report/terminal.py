"""The results of a run as a table for the terminal: the folds of a cross-validation, or the rows of an ablation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from mfhca_train.report.rows import (
    LEVEL,
    SEEDS_ADVISED,
    comparisons,
    epoch_limit,
    fewest_seeds,
    is_undecidable,
    mark_of,
    smallest_p,
    title_of,
    unequal_seeds,
    untested_oracles,
)
from mfhca_train.report.text import plural
from mfhca_train.results.comparison import WORTH
from mfhca_train.results.published import PublishedScore
from mfhca_train.results.record import parse_results
from mfhca_train.results.schema import SCORES, AblationResults, Changes, RowResults
from mfhca_train.results.summary import percent


def table(content: object) -> str:
    """The results of a run as text, headed by what was run and followed by remarks.

    Args:
        content: of its results.json.

    Raises:
        ValueError: it is not the content of a results.json.
    """
    return rows_table(parse_results(content))


def rows_table(results: AblationResults) -> str:
    """The same of results that were read already."""
    lines = _rows(results) if results.grid else _folds(next(iter(results.rows.values())))
    remarks = [*_remarks(results), *([results.note.strip()] if results.note else [])]
    return "\n".join([line.rstrip() for line in lines] + remarks)


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
        score = row.score(name)
        spread = "" if score.std is None or row.headline == "pooled" else f" ± {percent(score.std).strip()}"
        values.append(f"{name.upper()} {percent(getattr(score, row.headline)).strip()}{spread} %")
    over = f"{plural(row.n_folds, 'fold')}, protocol {row.protocol}"
    how = f"pooled over {over}" if row.headline == "pooled" else f"mean over {over}"
    oracle = "ORACLE: " if row.is_oracle else ""
    return f"{results.corpus}: {oracle}{', '.join(values)} ({how})"


def _folds(row: RowResults) -> Iterator[str]:
    """Every fold, mean, standard deviation and pooled scores of a row."""
    marks = "".join(f" ({mark})" for mark in mark_of(row).splitlines())
    yield (
        f"protocol {row.protocol}{marks}: {plural(row.n_utterances, 'utterance')}, "
        f"{plural(row.n_segments, 'segment')}, {plural(row.parameters, 'parameter')}"
    )
    yield f"{'fold':>8} {'seed':>4} {'WA':>6} {'UA':>6} {'F1':>6}  {'epoch':>9}  validated on"
    for fold in row.folds:
        absent = f"  absent: {', '.join(fold.classes_absent)}" if fold.classes_absent else ""
        absent += f"  not in training: {', '.join(fold.classes_untrained)}" if fold.classes_untrained else ""
        scores = " ".join(percent(getattr(fold, name)) for name in SCORES)
        epoch = f"{fold.best_epoch}/{fold.epochs}"
        yield f"{fold.id:>8} {fold.seed:>4} {scores}  {epoch:>9}  {', '.join(fold.validation_speakers)}{absent}"
    for label, key in (("mean", "mean"), ("sd", "std"), ("pooled", "pooled")):
        scores = " ".join(percent(getattr(row.score(name), key)) for name in SCORES)
        yield f"{label:>8} {'':>4} {scores}{'  <- headline' if row.headline == key else ''}"
    if row.ensemble:
        for key in ("mean", "pooled"):
            scores = " ".join(percent(getattr(row.ensemble.score(name), key)) for name in SCORES)
            yield f"{key:>8} {'':>4} {scores}  of the ensemble of {row.ensemble.seeds} seeds"
    yield from _layers(row)


def _layers(row: RowResults) -> Iterator[str]:
    """Learned weights of the encoder's layers, if the row has any."""
    if row.layer_weights:
        yield f"{'layer':>8} {'weight':>6} {'sd':>6}  in the sum of hidden states, in %, over folds and seeds"
    for layer, weight in (row.layer_weights or {}).items():
        yield f"{layer:>8} {percent(weight.mean)} {percent(weight.std)}"


def _rows(results: AblationResults) -> Iterator[str]:
    """One line per row, with its difference from the reference and published scores."""
    published = [score for row in results.rows.values() for score in row.published]
    published += [score for entry in results.cited for score in entry.published]
    sources = list(dict.fromkeys(map(_source, published)))
    titles = {
        name: title_of(row) + " (reference)" * (name == results.reference)
        for name, row in results.rows.items()
    }
    ensembles = {
        name: f"  ensemble of {row.ensemble.seeds} seeds"
        for name, row in results.rows.items()
        if row.ensemble
    }
    width = max(
        map(len, [*titles.values(), *ensembles.values(), *(entry.title for entry in results.cited), "row"])
    )
    yield results.title
    yield (
        f"{results.corpus}, label set {results.label_set}, protocol {results.protocol} unless a row says otherwise; "
        "all scores in %"
    )
    yield (
        f"{'':<{width}}  {'mean ± sd over folds':^29}  {'pooled':^13}  {'minus reference, per test speaker':^43}  "
        "published"
    )
    yield (
        f"{'row':<{width}}  {'WA':^14} {'UA':^14}  {'WA':>6} {'UA':>6}  {'WA':>6} {'UA':>6} {'p(WA)':>6} {'Holm':>6} "
        f"{'p(UA)':>6} {'Holm':>6}  WA/UA"
    )
    for name, row in results.rows.items():
        spread = " ".join(f"{percent(score.mean)} ±{percent(score.std)}" for score in (row.wa, row.ua))
        pooled = f"{percent(row.wa.pooled)} {percent(row.ua.pooled)}"
        yield f"{titles[name]:<{width}}  {spread}  {pooled}  {_tests(row)}  {_published(row.published, sources)}"
        if row.ensemble:
            wa, ua = row.ensemble.wa, row.ensemble.ua
            means = " ".join(f"{percent(score.mean)} {'':7}" for score in (wa, ua))
            pooled = f"{percent(wa.pooled)} {percent(ua.pooled)}"
            yield f"{ensembles[name]:<{width}}  {means}  {pooled}"
    for entry in results.cited:
        yield f"{entry.title:<{width}}  {'':<87}  {_published(entry.published, sources)}"
    for number, source in enumerate(sources, start=1):
        yield f"published ({number}): {source}"
    for name, row in results.rows.items():
        if row.layer_weights:
            yield f"{titles[name]}:"
            yield from _layers(row)


def _tests(row: RowResults) -> str:
    tested = row.comparison
    if not tested:
        return f"{'':<41}"
    changes = (tested.wa, tested.ua)
    differences = " ".join(f"{100 * change.difference:+6.2f}" for change in changes)
    return f"{differences} " + " ".join(f"{_p(change.p)} {_p(change.p_holm or 0.0)}" for change in changes)


def _p(value: float) -> str:
    return f"{value:6.4f}" if value >= 0.0001 else "<.0001"


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
        for (words, more, less), changes in zip(WORTH.values(), (entry.selection, entry.extra), strict=True):
            if changes:
                yield f"effect of {words} ({more} minus {less}): {_effect(changes)}"
    if results.grid and any(row.is_oracle for row in results.rows.values()):
        yield "ORACLE: the epoch was selected on the test speaker; compare only with rows of the same protocol"
    if any(row.shared_speakers for row in results.rows.values()):
        yield "KNOWN SPEAKERS: the official split has test speakers in training, too; unknown ones get lower scores"
    if results.grid and any(row.transductive for row in results.rows.values()):
        yield "transductive: features normalised over unlabelled test utterances; compare only with such rows"
    seeds = fewest_seeds(results)
    if results.grid and seeds < SEEDS_ADVISED:
        yield (
            f"{plural(seeds, 'seed')}: a difference within the spread over seeds means nothing; use {SEEDS_ADVISED} "
            "or more"
        )
    if limit := epoch_limit(results):
        yield textwrap.fill(" ".join(limit), 118)
    incomplete = [row for row in results.rows.values() if not row.complete]
    if incomplete:
        command = "ablate" if results.grid else "cv"
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
