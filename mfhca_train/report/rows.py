"""What the page and the terminal say about the rows of a run in the same words: titles, tests, remarks."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from mfhca_cache.common.text import plural
from mfhca_train.report.blocks import Cell
from mfhca_train.report.text import count_range
from mfhca_train.results.schema import (
    LOGISTIC,
    MAJORITY,
    NETWORK,
    SVM,
    AblationResults,
    Change,
    Comparison,
    FoldResult,
    RowResults,
)

LEVEL = 0.05  # below which a Holm-adjusted p value counts as significant
SEEDS_ADVISED = 5
ORACLE_MARK = "ORACLE: epoch selected on the test speaker"
TRANSDUCTIVE_MARK = "TRANSDUCTIVE: normalised over test utterances"
NORMS = {
    "standard": "train",
    "minmax": "train (min-max)",
    "none": "none",
    "speaker": "speaker",
    "corpus": "corpus",
}
LAST_TENTH = 0.1  # of the epochs: a best epoch there means that more epochs might help


def warning_of(row: RowResults) -> str:
    """Why the scores of a row cannot be compared with those of most rows; empty if they can."""
    return ", ".join(["oracle"] * row.is_oracle + ["transductive"] * row.transductive)


def mark_of(row: RowResults) -> str:
    """The warnings of `warning_of` spelt out, as lines above a picture."""
    return "\n".join([ORACLE_MARK] * row.is_oracle + [TRANSDUCTIVE_MARK] * row.transductive)


def trained_on(row: RowResults) -> str:
    """The protocol of a row, and whether its validation speakers were trained on in the end."""
    return f"{row.protocol}, refit" if row.config["train"].get("refit") else row.protocol


def normalised_over(row: RowResults) -> str:
    """Whose utterances normalise the features of a row: of its training speakers, of each speaker, or none.

    Each side for itself where they differ; a dash for a row without features.
    """
    if row.kind == MAJORITY:
        return "–"
    inputs, train = row.config["model"]["inputs"], row.config["train"]
    sides = {"both": ("spec", "ssl"), "spec": ("spec",), "ssl": ("ssl",)}[inputs]
    values: dict[str, str] = {side: NORMS.get(train[f"{side}_norm"], train[f"{side}_norm"]) for side in sides}
    if row.kind in (SVM, LOGISTIC) and values["ssl"] == NORMS["none"]:
        values["ssl"] = NORMS["standard"]  # these baselines standardise their input in any case
    if len(set(values.values())) == 1:
        return values[sides[0]]
    return ", ".join(f"{side} {value}" for side, value in values.items())


def quoted(row: RowResults) -> str:
    """A row's title within a sentence."""
    return f"“{row.marked_title}”"


def ensemble_label(row: RowResults) -> Cell:
    """The first cell of the line of a row's ensemble of seeds."""
    count = row.ensemble.seeds if row.ensemble else 0
    return Cell(row.marked_title, tag=f"ensemble of {plural(count, 'seed')}")


def networks(results: AblationResults) -> dict[str, RowResults]:
    """The rows that are trained in epochs."""
    return {name: row for name, row in results.rows.items() if row.kind == NETWORK}


def comparisons(results: AblationResults) -> dict[str, Comparison]:
    """The rows that were tested against the reference."""
    return {name: row.comparison for name, row in results.rows.items() if row.comparison}


def is_significant(change: Change) -> bool:
    """Whether a difference passes the test after Holm's adjustment."""
    return change.p_holm is not None and change.p_holm < LEVEL


def smallest_p(results: AblationResults) -> float:
    """The smallest p value that the test could give for any row, adjusted for the number of rows tested."""
    tested = comparisons(results)
    smallest = min((change.smallest_p for row in tested.values() for change in (row.wa, row.ua)), default=1.0)
    return min(1.0, smallest * len(tested))


def is_undecidable(results: AblationResults) -> bool:
    """Whether so few speakers were tested that no difference of any row could pass."""
    return bool(comparisons(results)) and smallest_p(results) >= LEVEL


def untested_oracles(results: AblationResults) -> str:
    """Which rows were not tested because only they, or only the reference, are oracles; empty if there are none."""
    if results.trained_reference is None:
        return ""
    reference = results.rows[results.trained_reference]
    others = [row for row in results.rows.values() if row.oracle != reference.oracle and not row.comparison]
    if not others:
        return ""
    who = "The reference" if reference.oracle else "These rows"
    other = "these rows" if reference.oracle else "the reference"
    separate = " Its effect is measured separately." if results.optimism else ""
    return (
        f"Not tested: {', '.join(map(quoted, others))}. {who} selected the epoch on the test speaker and {other} did "
        f"not; that is a difference of protocol, not of the network.{separate}"
    )


def unequal_seeds(results: AblationResults) -> str:
    """Over which seeds rows were compared, if networks have other seeds than the reference; empty otherwise."""
    if results.trained_reference is None:
        return ""
    reference = results.rows[results.trained_reference]
    common: dict[int, list[str]] = {}
    for row in networks(results).values():
        tested = row.comparison
        if reference.kind == NETWORK and tested and row.seeds != reference.seeds and tested.seeds is not None:
            common.setdefault(tested.seeds, []).append(quoted(row))
    if not common:
        return ""
    parts = [
        f"{', '.join(titles)} over {plural(count, 'seed')}"
        if count
        else f"{', '.join(titles)} over all seeds of both, because they share none and cannot be paired by seed"
        for count, titles in sorted(common.items(), reverse=True)
    ]
    return (
        "Rows with other seeds than the reference are compared with it over the seeds that both have: "
        f"{'; '.join(parts)}."
    )


def fewest_seeds(results: AblationResults) -> int:
    """The smallest number of seeds of a network; SEEDS_ADVISED where no row is a network."""
    return min((len(row.seeds) for row in networks(results).values()), default=SEEDS_ADVISED)


def peaked_late(folds: Iterable[FoldResult]) -> int:
    """How many of these networks had their best epoch among the last tenth of their epochs."""
    return sum(fold.best_epoch > fold.epochs - ceil(LAST_TENTH * fold.epochs) for fold in folds)


def epoch_limit(results: AblationResults) -> tuple[str, str] | None:
    """A head and a remark if networks trained up to the epoch limit instead of being stopped early; else None."""
    # With train.select=last the number of epochs is fixed, and no epoch is the best one.
    rows = [row for row in networks(results).values() if row.config["train"].get("select") != "last"]
    limited = [
        (row.config["train"], fold) for row in rows for fold in row.folds if fold.stopped_by == "epoch limit"
    ]
    if not limited:
        return None
    count, total = len(limited), sum(len(row.folds) for row in rows)
    late = peaked_late(fold for _, fold in limited)
    epochs = count_range([train["epochs"] for train, _ in limited])
    head = f"{count:,} of {plural(total, 'network')} trained up to the limit of {epochs} epochs."
    if all(train.get("schedule") == "cosine" for train, _ in limited):
        why = "The cosine schedule of the learning rate ended there, as planned"
        why += ", and early stopping was off" * all(
            train["patience"] >= train["epochs"] for train, _ in limited
        )
    elif all(train["patience"] >= train["epochs"] for train, _ in limited):
        why = "Early stopping was off, because the patience is not smaller than the limit"
    else:
        why = "Early stopping did not end them before"
    best = f"{late:,} of them had the best validation score among the last tenth of their epochs"
    advice = (
        "more epochs (--set train.epochs=…) may change the scores" if late else "so more epochs may not help"
    )
    return head, f"{why}. {best}{': ' if late else ', '}{advice}."
