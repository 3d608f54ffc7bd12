"""What an ablation says, in plain words that follow from its figures alone: HTML sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mfhca_train.report.frame import banner
from mfhca_train.report.html import escaped, names, p_value, per_cent, plural, points, points_interval
from mfhca_train.report.parameters import Baseline
from mfhca_train.report.terminal import SEEDS_ADVISED
from mfhca_train.report.words import title_of, untested_oracles
from mfhca_train.results.ablation_record import AblationRecord
from mfhca_train.results.comparison import TESTED
from mfhca_train.results.effects import Added
from mfhca_train.results.schema import NETWORK

LEVEL = 0.05  # of an adjusted p value, below which rows count as different
MOST_NAMED = 4  # rows in one sentence


def quoted(record: AblationRecord, name: str) -> str:
    """A row's title with its mark, in a sentence."""
    return f"“{escaped(plain_title(record, name))}”"


def plain_title(record: AblationRecord, name: str) -> str:
    """A row's title with its mark, where no markup can stand."""
    return title_of(record.rows[name])


def headline(record: AblationRecord) -> str:
    """Which score speaks for the rows: "pooled" if it must for one of them, else "mean"."""
    return "pooled" if any(row["headline"] == "pooled" for row in record.rows.values()) else "mean"


def compared(record: AblationRecord) -> dict[str, Mapping[str, Any]]:
    """The rows that were tested against the reference, and what came out."""
    return {name: row["comparison"] for name, row in record.rows.items() if row["comparison"]}


def told(change: Mapping[str, Any]) -> bool:
    """Whether a tested difference passes."""
    return bool(change["p_holm"] < LEVEL)


def out_of_reach(record: AblationRecord) -> bool:
    """Whether so few speakers were tested that no difference of any row could pass."""
    changes = [change[score] for change in compared(record).values() for score in TESTED]
    return bool(changes) and all(len(compared(record)) * c["smallest_p"] >= LEVEL for c in changes)


def subject(record: AblationRecord) -> str:
    """What was done."""
    results, rows = record.results, record.rows
    first = rows[record.reference or next(iter(rows))]
    kinds = [f"{plural(len(record.networks), 'network')}"] if record.networks else []
    others = len(rows) - len(record.networks)
    kinds += [f"{plural(others, 'yardstick')} without a network"] if others else []
    seeds = _range([len(row["seeds"]) for row in record.networks.values()])
    repeated = f", each network with {seeds} seed{'' if seeds == '1' else 's'}" if seeds else ""
    protocols = list(dict.fromkeys(row["protocol"] for row in rows.values()))
    return f"""<p>{" and ".join(kinds)} learned to name the emotion of a spoken utterance, on the corpus
<b>{escaped(results["corpus"])}</b>, label set <b>{escaped(results["label_set"])}</b> with
{plural(len(results["classes"]), "emotion")} ({names(results["classes"])}):
{plural(first["n_utterances"], "test utterance")}, {plural(first["n_folds"], "fold")}{repeated};
protocol{"s" * (len(protocols) > 1)} {names(protocols)}. They are the rows of the ablation
“{escaped(results["grid"])}”.</p>"""


def findings(record: AblationRecord, parts: Sequence[Added], baseline: Baseline | None) -> list[str]:
    """What came out, most important first, a sentence or two each.

    Args:
        record: of the ablation.
        parts: of parts.py.
        baseline: of savings.py.
    """
    return [
        *_best(record),
        *_differences(record),
        *_parts(record, parts),
        *_selection(record),
        *_saving(record, baseline),
    ]


def _best(record: AblationRecord) -> Iterator[str]:
    key = headline(record)
    honest = {name: row for name, row in record.rows.items() if not row["oracle"]} or dict(record.rows)
    ranked = sorted(honest, key=lambda name: -honest[name]["ua"][key])
    best = ranked[0]
    among = "" if len(honest) == len(record.rows) else " that did not select on the test speaker"
    text = f"<b>Highest UA: {quoted(record, best)} with {per_cent(honest[best]['ua'][key])}</b>"
    text += f", of {plural(len(honest), 'row')}{among}"
    if record.reference and best != record.reference:
        text += (
            f"; the reference {quoted(record, record.reference)} has "
            f"{per_cent(record.rows[record.reference]['ua'][key])}"
        )
    yield f"{text}. Blind guessing has {per_cent(record.chance)}. To be highest is not yet to be better: see the tests."
    first = next((name for name in ranked if honest[name]["kind"] == NETWORK), None)
    if first and honest[best]["kind"] != NETWORK:
        yield f"No network here has a higher UA than {quoted(record, best)}, which needs none."


def _differences(record: AblationRecord) -> Iterator[str]:
    tested = compared(record)
    if not tested:
        alone = "there is no other row"
        if untested_oracles(record.results):
            alone = "no other row selects the epoch as the reference does"
        why = alone if record.reference else "the reference row is not among those trained"
        why = why if record.results["reference"] else "the grid names no reference"
        yield f"Nothing was tested: {why}."
        return
    assert record.reference
    against = f"the reference {quoted(record, record.reference)}"
    sure = {score: [name for name, change in tested.items() if told(change[score])] for score in ("ua", "wa")}
    if not any(sure.values()):
        ends = [c["ua"]["ci95"] for c in tested.values() if c["ua"]["ci95"]]
        text = (
            f"<b>Nothing can be told apart: none of {plural(len(tested), 'row')} differs from {against}</b> "
            f"in UA or WA (sign-flip test over speakers, Holm, 5 %). That does not make them equal"
        )
        if ends:
            low, high = min(end[0] for end in ends), max(end[1] for end in ends)
            text += f": the 95 % intervals of UA reach from {points(low)} to {points(high)} points"
        yield f"{text}."
    for score, rows in sure.items():
        if score == "wa" and rows and rows == sure["ua"]:
            yield "The same row differs in WA." if len(rows) == 1 else "The same rows differ in WA."
        elif rows:
            largest = sorted(rows, key=lambda name: -abs(tested[name][score]["difference"]))
            listed = "; ".join(
                f"{quoted(record, name)} {_change(tested[name][score])}" for name in largest[:MOST_NAMED]
            )
            more = f"; and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
            yield (
                f"<b>{len(rows)} of {plural(len(tested), 'row')} differ{'s' * (len(rows) == 1)} from {against} in "
                f"{score.upper()}</b> (Holm, 5 %; in points): {listed}{more}."
            )
    some = next(iter(tested.values()))["ua"]
    smallest = max(change["ua"]["smallest_p"] for change in tested.values())
    text = f"With {plural(some['pairs'], 'test speaker')} the smallest p that can be reached is {p_value(smallest)}"
    if out_of_reach(record):
        text += (
            f", and {p_value(min(1.0, smallest * len(tested)))} after Holm over {plural(len(tested), 'row')}: "
            "<b>not even the largest difference could pass</b>"
        )
    yield f"{text}."


def _change(change: Mapping[str, Any]) -> str:
    return (
        f"{points(change['difference'])} (95 % {points_interval(change['ci95'])}, "
        f"p {p_value(change['p_holm'])})"
    )


def _parts(record: AblationRecord, parts: Sequence[Added]) -> Iterator[str]:
    for part in dict.fromkeys(added.part for added in parts):
        pairs = [added for added in parts if added.part == part]
        listed = "; ".join(
            f"{_change(added.change['ua'])} in {quoted(record, added.row)}"
            + ("" if told(added.change["ua"]) else ", which may be chance")
            for added in pairs
        )
        yield f"<b>{escaped(part)}:</b> UA {listed}."


def _selection(record: AblationRecord) -> Iterator[str]:
    for entry in record.results["optimism"]:
        if "selection" in entry:
            change = entry["selection"]["ua"]
            yield (
                f"<b>Selecting the epoch on the test speaker is worth {points(change['difference'])} points of UA</b> "
                f"(95 % {points_interval(change['ci95'])}, p {p_value(change['p'])}), with the same training speakers"
                + ("." if change["p"] < LEVEL else "; that may be chance.")
            )


def _saving(record: AblationRecord, baseline: Baseline | None) -> Iterator[str]:
    name = record.reference
    if baseline is None or name is None or record.rows[name]["kind"] != NETWORK or name == baseline.row:
        return
    size = record.rows[name]["parameters"]
    share = baseline.saved(size)
    words = f"{per_cent(share)} % fewer than" if share >= 0 else f"{per_cent(-share)} % more than"
    yield f"{quoted(record, name)} has {size:,} parameters, {words} the baseline [13] ({baseline.parameters:,})."


def warnings(record: AblationRecord) -> list[str]:
    """What to beware of, as banners and notes."""
    parts = []
    oracles = [name for name, row in record.rows.items() if row["oracle"]]
    if oracles:
        titles = [f"“{escaped(record.rows[name]['title'])}”" for name in oracles]
        parts.append(
            banner(
                f"ORACLE: figures of {plural(len(oracles), 'row')} are too good to be true.",
                "Their networks were kept in the state in which they did best on the test speaker itself. Compare "
                f"them with each other only: {', '.join(titles)}.",
            )
        )
    if record.results["corpus"] == "demo":
        parts.append(
            banner(
                "Demonstration: these figures mean nothing.",
                "The corpus “demo” is not speech but sound made by this program, and its speech encoder never learned "
                "anything.",
            )
        )
    if not record.results["complete"]:
        parts.append(_incomplete(record))
    fewest = min((len(row["seeds"]) for row in record.networks.values()), default=SEEDS_ADVISED)
    parts.append(few_seeds(fewest))
    units = [unit for row in record.networks.values() for unit in row["folds"]]
    stopped = sum(unit["stopped_by"] == "epoch limit" for unit in units)
    if stopped:
        parts.append(
            f'<p class="note"><strong>{stopped:,} of {len(units):,} trainings stopped at the limit of '
            "epochs</strong>, not because the validation score had ceased to rise; rows that learn more slowly are at "
            "a disadvantage then (<code>--set train.epochs=…</code>).</p>"
        )
    return parts


def few_seeds(count: int) -> str:
    """A note where there are fewer seeds than a comparison needs; nothing where there are enough."""
    if count >= SEEDS_ADVISED:
        return ""
    return (
        f'<p class="note"><strong>Only {plural(count, "seed")}.</strong> Other random numbers give other figures; '
        f"with fewer than {SEEDS_ADVISED} seeds a difference may be one of luck "
        f"(<code>--seeds {SEEDS_ADVISED}</code>).</p>"
    )


def _incomplete(record: AblationRecord) -> str:
    partly = [name for name, row in record.rows.items() if not row["complete"]]
    if partly:
        folds = _range([record.rows[name]["n_folds"] for name in partly])
        return banner(
            f"Not complete: only {folds} fold{'' if folds == '1' else 's'} of the protocol.",
            "Some speakers were never tested, so do not compare these figures with those of whole runs.",
        )
    return banner(
        f"Not complete: {plural(len(record.rows), 'row')}, and not all that the grid has.",
        "The others were not asked for, or lack their features; Holm's adjustment is over the rows that are here.",
    )


def _range(counts: Sequence[int]) -> str:
    ends = sorted(set(counts))
    return "" if not ends else str(ends[0]) if len(ends) == 1 else f"{ends[0]} to {ends[-1]}"
