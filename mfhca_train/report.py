"""A run as one HTML page that needs nothing else: no script, no request, no other file.

Everything shown comes from the run folder (record.py), so equal folders give equal
bytes. All text from it passes through `escaped`. The pictures are made in
pictures.py, the page's looks are report.css.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mfhca_cache.files import write_atomically
from mfhca_train.config import Config
from mfhca_train.folds import PROTOCOLS
from mfhca_train.pictures import confusion_picture, curve_picture, escaped, fold_picture
from mfhca_train.record import Record, read_record
from mfhca_train.results import DURATIONS, SCORES, percent

NAMES = {"wa": "WA", "ua": "UA", "f1": "F1"}
MEANING = {
    "wa": "Weighted accuracy: the share of all utterances that were recognised.",
    "ua": "Unweighted accuracy: the share recognised in each class, averaged over the classes. "
    "A rare emotion counts as much as a frequent one.",
    "f1": "Macro F1: as UA, but an emotion that is named too often costs points as well.",
}
MODULES = {
    "mf": "multi-spatial fusion: convolutions over the spectrogram",
    "spec_out": "the spectrogram's features to one vector",
    "bilstm": "recurrent layer over the speech encoder's features",
    "fusion": "attention that joins the two inputs",
    "ssl_out": "the speech encoder's features to one vector",
    "classifier": "from both vectors to the emotions",
}
INPUTS = {
    "both": "a spectrogram and the features of a speech encoder",
    "spec": "a spectrogram alone",
    "ssl": "the features of a speech encoder alone",
}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_report(run: Path) -> Path:
    """Writes report.html into a run folder, atomically.

    Args:
        run: a folder in which `cv` has finished.

    Returns:
        The page's path.

    Raises:
        MfhcaError: the run is not finished, a file of it is damaged, or the folder cannot be written.
    """
    page = _page(read_record(run))
    write_atomically(run / "report.html", page)
    return run / "report.html"


def _page(record: Record) -> str:
    results = record.results
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    title = f"MFHCA on {escaped(results['corpus'])}"
    sections = (
        _summary,
        _banners,
        _tiles,
        _folds,
        _classes,
        _learning,
        _breakdown,
        _parameters,
        _settings,
        _origin,
    )
    body = "\n".join(part for section in sections if (part := section(record)))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{title}, protocol {escaped(results["protocol"])}{" (ORACLE)" if _is_oracle(results) else ""}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


def _is_oracle(results: Mapping[str, Any]) -> bool:
    return results["oracle"] or any(fold["selected_on"] == "test" for fold in results["folds"])


def _summary(record: Record) -> str:
    results, classes = record.results, record.results["classes"]
    folds, seeds = results["n_folds"], len(results["seeds"])
    protocol = PROTOCOLS.get(results["protocol"], "not one that this version knows")
    unheard = "" if _is_oracle(results) else " on speakers it had never heard"
    times = f", and each was repeated with {seeds} seeds (other random numbers)" if seeds > 1 else ""
    inputs = INPUTS.get(results["config"]["model"].get("inputs"), "the features of its cache")
    return f"""<p>A small neural network learned to name the emotion of a spoken utterance from {inputs}, and was tested{unheard}.</p>
<p>Corpus <b>{escaped(results["corpus"])}</b>, label set <b>{escaped(results["label_set"])}</b> with
{len(classes)} emotions ({_names(classes)}): {results["n_utterances"]:,} test utterances, heard in {results["n_segments"]:,} segments.
Protocol <b>{escaped(results["protocol"])}</b>: {escaped(protocol)}.
A “fold” is one such split with a network of its own; there {_plural(folds, "was", "were")} {_count(folds, "fold")}{times}.</p>"""


def _banners(record: Record) -> str:
    results, parts = record.results, []
    folds, limit = results["folds"], results["config"]["train"]["epochs"]
    if _is_oracle(results):
        parts.append(
            _note(
                "ORACLE: these figures are too good.",
                "For every fold, the epoch (the state of the network that was kept) was selected on the test speaker "
                "itself, by how well it did in the test. In real use nobody can choose so. Compare these figures only "
                "with others obtained in the same way; <code>--protocol strict</code> gives honest ones.",
                "banner",
            )
        )
    if results["corpus"] == "demo":
        parts.append(
            _note(
                "Demonstration: these figures mean nothing.",
                "The corpus “demo” is not speech but sound made by this program, and its encoder has learned nothing. "
                "It shows that every step works on this machine; say nothing about emotions from it.",
                "banner",
            )
        )
    if not results["complete"]:
        parts.append(
            _note(
                f"Not complete: only {_count(results['n_folds'], 'fold')} of the protocol.",
                "Some speakers were never tested, so these figures cannot be compared with those of whole runs. "
                "<code>mfhca-train cv</code> without <code>--fold</code> trains what is missing.",
                "banner",
            )
        )
    stopped = sum(fold["stopped_by"] == "epoch limit" for fold in folds)
    if stopped:
        parts.append(
            _note(
                f"{stopped} of {_count(len(folds), 'training')} stopped at the limit of {limit} epochs.",
                f"They had not yet gone {results['config']['train']['patience']} epochs without a better validation score, "
                "and might have become better with more (<code>--set train.epochs=…</code>).",
                "note",
            )
        )
    return "\n".join(parts)


def _note(head: str, rest: str, kind: str) -> str:
    return f'<div class="{kind}"><strong>{head}</strong> {rest}</div>'


def _tiles(record: Record) -> str:
    """The headline figures, with what chance would give."""
    results = record.results
    pooled, chance = results["headline"] == "pooled", _chance(results)
    mark = " (oracle)" if _is_oracle(results) else ""
    tiles = []
    for name in SCORES:
        score = results[name]
        spread = "" if score["std"] is None else f"sd {_percent(score['std'])} over the folds"
        if pooled:
            spread = f"mean of the folds {_percent(score['mean'])}{spread and ', '}{spread}"
        interval = _interval(score["pooled_ci95" if pooled else "ci95"])
        if interval:
            spread += f"{spread and '<br>'}95 % interval {interval}{' (approximate)' if pooled else ''}"
        guess = f"<p>{chance[name]}</p>" if name in chance else ""
        tiles.append(
            f'<section class="tile"><h2>{NAMES[name]}{mark}</h2><div class="figure">{_percent(score[results["headline"]])} %</div>'
            f'<p>{spread or "one fold: no spread is known"}</p>{guess}<p class="small">{MEANING[name]}</p></section>'
        )
    how = (
        "Some folds lack an emotion in the test, so the headline figures count the utterances of all folds together (“pooled”)."
        if pooled
        else "The headline figures are means over the folds."
    )
    return f"""<div class="tiles">{"".join(tiles)}</div>
<p>{how} {_verdict(results)}</p>
<p class="small">All figures are per cent. “sd” is the standard deviation. A 95 % interval shows how far off the figure may be
because only these speakers were tested: {"it comes from drawing the tested speakers at random, again and again" if pooled else "it assumes that the folds scatter evenly around their mean (t distribution)"};
with few speakers it is rough. Intervals end at 0 and 100.</p>"""


def _chance(results: Mapping[str, Any]) -> dict[str, str]:
    sizes = [sum(row) for row in results["confusion"]]
    most = escaped(results["classes"][sizes.index(max(sizes))])
    return {
        "wa": f"By chance: {_percent(max(sizes) / sum(sizes))} (always saying “{most}”)",
        "ua": f"By chance: {_percent(1 / len(sizes))} (guessing one of {len(sizes)})",
    }


def _verdict(results: Mapping[str, Any]) -> str:
    """Whether UA is above chance; nothing where the figure is not to be read so."""
    pooled = results["headline"] == "pooled"
    interval, chance = results["ua"]["pooled_ci95" if pooled else "ci95"], 1 / len(results["classes"])
    if _is_oracle(results) or results["corpus"] == "demo" or interval is None:
        return ""
    if interval[0] > chance:
        return "The whole interval of UA lies above chance: what the network learned holds for new speakers."
    return "The interval of UA does not lie above chance: this run does not show that the network learned anything."


def _folds(record: Record) -> str:
    results = record.results
    many, grouped = len(results["seeds"]) > 1, any(f["test_speakers"] != [f["id"]] for f in results["folds"])
    head = ["Fold", *(["Seed"] if many else []), "WA", "UA", "F1", "Utterances", "Epoch"]
    head += [*(["Tested on"] if grouped else []), "Validated on", "Not in the test"]
    rows = [
        [
            fold["id"],
            *([fold["seed"]] if many else []),
            *(_percent(fold[name]) for name in SCORES),
            fold["n_utterances"],
            f"{fold['best_epoch']} of {fold['epochs']}",
            *([_names(fold["test_speakers"])] if grouped else []),
            _names(fold["validation_speakers"]),
            _names(fold["classes_absent"]),
        ]
        for fold in results["folds"]
    ]
    lines: list[tuple[str, str, list[str]]] = []
    for label, key in (("mean", "mean"), ("sd", "std"), ("sd of seeds", "seed_std"), ("pooled", "pooled")):
        if key != "seed_std" or many:
            lines.append((key, label, [_percent(results[name][key]) for name in SCORES]))
        if key in ("std", "pooled"):
            of = {"std": "ci95", "pooled": "pooled_ci95"}[key]
            label = f"95 % of {'mean' if key == 'std' else 'pooled'}"
            lines.append((of, label, [_interval(results[name][of]) or "-" for name in SCORES]))
    foot = "".join(
        f'<tr{" class=headline" if key == results["headline"] else ""}><th scope="row"{" colspan=2" if many else ""}>{label}</th>'
        + "".join(f'<td class="n">{value}</td>' for value in values)
        + f'<td colspan="{len(head) - 4 - many}">{"headline" if key == results["headline"] else ""}</td></tr>'
        for key, label, values in lines
    )
    by_fold: dict[str, list[Mapping[str, Any]]] = {}
    for fold in results["folds"]:
        by_fold.setdefault(fold["id"], []).append(fold)
    pairs = {name: (fmean(f["wa"] for f in of), fmean(f["ua"] for f in of)) for name, of in by_fold.items()}
    means = (results["wa"]["mean"], results["ua"]["mean"])
    picture = fold_picture(pairs, means, 1 / len(results["classes"]), _is_oracle(results))
    oracle = " ORACLE: selected on the test speaker." if _is_oracle(results) else ""
    return f"""<h2>Folds</h2>
<p>How much depends on who speaks. “Epoch” is the pass over the training data that was selected, of all that were made:
the one with the highest WA + UA on the speakers of “Validated on”.{oracle}</p>
{_table(head, rows, foot, numbers=("Seed", "WA", "UA", "F1", "Utterances", "Epoch"))}
<figure class="wide">{picture}
<figcaption>Each fold{" (mean of its seeds)" if many else ""}; vertical lines are the means of the folds, and what blind guessing gives.</figcaption></figure>"""


def _classes(record: Record) -> str:
    results = record.results
    classes, confusion = results["classes"], results["confusion"]
    rows = []
    for k, name in enumerate(classes):
        recall, row = results["recalls"][name], confusion[k]
        wrong = max((count, -j) for j, count in enumerate([0 if j == k else c for j, c in enumerate(row)]))
        bar = "" if recall is None else f'<span class="bar"><i style="width:{100 * recall:.1f}%"></i></span>'
        other = f"{escaped(classes[-wrong[1]])} ({wrong[0] / sum(row):.0%})" if wrong[0] else "-"
        rows.append([name, sum(row), _percent(recall), _Html(bar), _Html(other)])
    seeds = len(results["seeds"])
    counted = f" Every utterance counts {seeds} times, once for each seed." if seeds > 1 else ""
    counts = _table(["", *classes], [[n, *row] for n, row in zip(classes, confusion, strict=True)], numbers=classes)
    return f"""<h2>Emotions</h2>
<p>“Recall” is the share of an emotion's utterances that were recognised, all folds together.{counted}</p>
{_table(["Emotion", "Utterances", "Recall", "", "Most often taken for"], rows, numbers=("Utterances", "Recall"))}
<figure class="wide">{confusion_picture(confusion, classes, _is_oracle(results))}
<figcaption>Confusion matrix: each row is an emotion as it was labelled and sums to 100 %; the columns say as what it was
recognised. The diagonal is right. Small numbers are utterances.</figcaption></figure>
<details><summary>The counts as a table</summary>{counts}</details>"""
