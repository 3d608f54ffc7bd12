"""A run as one HTML page that needs nothing else: no script, no request, no other file; and as Markdown.

Everything shown comes from the run folder (record.py), so equal folders give equal
bytes. Here are the page and its first screen: what was done, what to beware of, the
headline. The rest is in sections.py, the pictures in pictures.py, the looks in report.css.
The page of an ablation is in ablation_report.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mfhca_train.data.folds import PROTOCOLS
from mfhca_train.report import ablation_page, analysis, sections
from mfhca_train.report.findings import few_seeds
from mfhca_train.report.frame import banner, page, write_page
from mfhca_train.report.html import escaped, interval, names, per_cent, plural
from mfhca_train.results.ablation_record import is_ablation, read_ablation
from mfhca_train.results.record import Record, read_record
from mfhca_train.results.schema import CV_ROW, SCORES

MEANING = {
    "wa": "Weighted accuracy: the share of all utterances that were recognised.",
    "ua": "Unweighted accuracy: the share recognised in each class, averaged over the classes, "
    "so that a rare emotion counts as much as a frequent one.",
    "f1": "Macro F1: like UA, but naming an emotion too often costs points as well.",
}
INPUTS = {
    "both": "a spectrogram and the features of a speech encoder",
    "spec": "a spectrogram alone",
    "ssl": "the features of a speech encoder alone",
}


def write_report(run: Path) -> Path:
    """Writes report.html and report.md into the folder of a finished run or ablation, each whole or not at all.

    Args:
        run: a folder in which `cv` or `ablate` has finished.

    Returns:
        The page's path; report.md lies beside it.

    Raises:
        MfhcaError: the run is not finished, a file of it is damaged, or the folder cannot be written.
    """
    if is_ablation(run):
        record = read_ablation(run)
        rows = sorted(record.rows, key=lambda name: name != record.reference)  # the reference first
        return write_page(run, ablation_page.build(record, analysis.sections(run, rows)))
    return write_page(run, _page(read_record(run), analysis.sections(run, [CV_ROW])))


def _page(record: Record, portraits: Sequence[tuple[str, str]]) -> str:
    results = record.results
    parts = [_summary(record), *_banners(record), _headline(record)]
    for section in sections.ALL:
        if section is sections.network:
            parts += [f"<h2>{escaped(title)}</h2>\n{body}" for title, body in portraits]
        parts.append(section(record))
    remark = f", protocol {results['protocol']}{' (ORACLE)' if record.oracle else ''}"
    return page(f"MFHCA on {results['corpus']}", remark, parts)


def _summary(record: Record) -> str:
    results = record.results
    classes, folds, seeds = results["classes"], results["n_folds"], len(results["seeds"])
    protocol = PROTOCOLS.get(results["protocol"], "not one that this version knows")
    inputs = INPUTS.get(results["config"]["model"].get("inputs"), "the features of its cache")
    test = "on speakers that it had never heard"
    roles = (
        "Most speakers train the network, a few others decide which epoch of training (pass over the data) "
        "is kept (validation), and the rest test it."
    )
    if record.oracle:
        test = (
            "on speakers that did not train it, but did decide which state of it was kept (oracle, see below)"
        )
        roles = (
            "Most speakers train the network; others decide which epoch of training (pass over the data) is "
            "kept, and the same ones test it."
        )
    times = "once (one “fold”)"
    if folds > 1:
        times = f"{folds:,} times (“folds”), with other test speakers and a fresh network each time"
    repeated = f", and repeated with {seeds} seeds (other random numbers)" if seeds > 1 else ""
    return f"""<p>MFHCA, a small neural network, learned to name the emotion of a spoken utterance
from {inputs}. It was tested {test}.</p>
<p>Corpus <b>{escaped(results["corpus"])}</b>, label set <b>{escaped(results["label_set"])}</b> with
{plural(len(classes), "emotion")} ({names(classes)}):
{plural(results["n_utterances"], "test utterance")}, cut into {plural(results["n_segments"], "segment")}.
{roles} This was done {times}{repeated}.
Protocol <b>{escaped(results["protocol"])}</b>: {escaped(protocol)}.</p>"""


def _banners(record: Record) -> list[str]:
    results, parts = record.results, []
    folds, train = results["folds"], results["config"]["train"]
    if record.oracle:
        parts.append(
            banner(
                "ORACLE: these figures are too good to be true.",
                "Each network was kept in the state in which it did best on the test speaker itself (the "
                "epoch was selected on the test speaker). Nobody who uses a network can choose so. Compare "
                "these figures only with others made in the same way; protocol “strict” gives honest ones.",
            )
        )
    if results["corpus"] == "demo":
        parts.append(
            banner(
                "Demonstration: these figures mean nothing.",
                "The corpus “demo” is not speech but sound made by this program, and its speech encoder "
                "never learned anything. The run shows that every step works on this machine, and no more.",
            )
        )
    if not results["complete"]:
        parts.append(
            banner(
                f"Not complete: only {plural(results['n_folds'], 'fold')} of the protocol.",
                "Some speakers were never tested, so do not compare these figures with those of whole runs. "
                "Run mfhca-train cv without <code>--fold</code> to add what is missing.",
            )
        )
    parts.append(few_seeds(len(results["seeds"])))
    stopped = sum(fold["stopped_by"] == "epoch limit" for fold in folds)
    if stopped:
        limit, patience = plural(train["epochs"], "epoch"), plural(train["patience"], "epoch")
        parts.append(
            f'<p class="note"><strong>{stopped} of {plural(len(folds), "network")} stopped at the limit of '
            f"{limit}.</strong> Training ends by itself after {patience} without a better score on the "
            "validation speakers; it had not come to that, so more epochs "
            "(<code>--set train.epochs=…</code>) might change the figures.</p>"
        )
    return parts


def _headline(record: Record) -> str:
    """The three scores with spread, interval and chance, and what to make of them."""
    results = record.results
    pooled = results["headline"] == "pooled"
    sizes = [sum(row) for row in results["confusion"]]
    frequent = escaped(results["classes"][sizes.index(max(sizes))])
    chance = {
        "wa": f"Chance: {per_cent(max(sizes) / sum(sizes))} (always saying “{frequent}”)",
        "ua": f"Chance: {per_cent(record.chance)} (guessing one of {len(sizes)})",
    }
    tiles = []
    for name in SCORES:
        score = results[name]
        ends = score["pooled_ci95" if pooled else "ci95"]
        lines = [f"Mean of the folds: {per_cent(score['mean'])}"] if pooled else []
        lines += [f"Spread over the folds (sd): {per_cent(score['std'])}"] if score["std"] is not None else []
        lines += [f"95 % interval: {interval(ends)}{' (approximate)' if pooled else ''}"] if ends else []
        lines += [chance[name]] if name in chance else []
        tiles.append(
            f'<section class="tile"><h2>{name.upper()}{" (oracle)" if record.oracle else ""}</h2>'
            f'<p class="figure">{per_cent(score[results["headline"]])} %</p>'
            f'<p>{"<br>".join(lines)}</p><p class="small">{MEANING[name]}</p></section>'
        )
    how = "The large figures are means over the folds." if results["n_folds"] > 1 else ""
    why = "assumes that the folds scatter evenly around their mean (Student's t)"
    if pooled:
        how = (
            "Some folds lack an emotion in the test, so the large figures count the utterances of all folds "
            "together (“pooled”)."
        )
        why = "comes from drawing the tested speakers again and again at random (bootstrap)"
    doubt = ""
    if results["ua"]["pooled_ci95" if pooled else "ci95"]:
        doubt = (
            "The 95 % interval says how far off a figure may be because only these speakers were tested. "
            f"It {why}; with few speakers it is rough. "
        )
    return f"""<div class="tiles">
{"".join(tiles)}
</div>
<p>{how} {_verdict(record)}</p>
<p class="small">{doubt}All scores in this report are per cent.</p>"""


def _verdict(record: Record) -> str:
    """Whether UA is above chance; nothing where it is not to be read so."""
    results = record.results
    ends = results["ua"]["pooled_ci95" if results["headline"] == "pooled" else "ci95"]
    if ends is None:
        return "One fold alone says nothing about the spread between speakers, so there is no interval."
    if record.oracle or results["corpus"] == "demo":
        return ""
    if ends[0] > record.chance:
        return "The whole interval of UA lies above chance: what was learned holds for new speakers as well."
    return (
        "The interval of UA reaches down to chance: this run does not show that the network learned anything."
    )
