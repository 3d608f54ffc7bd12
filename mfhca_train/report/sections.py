"""The sections of a report below its headline, from the folds to the network; the last ones are in origin.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from mfhca_train.report.beside import beside
from mfhca_train.report.html import Markup, interval, names, per_cent, plural, table
from mfhca_train.report.plots.curves import curve_picture
from mfhca_train.report.plots.svg import MOST_LINES, confusion_picture, fold_picture
from mfhca_train.report.repeat import origin, settings
from mfhca_train.results import layer_weights
from mfhca_train.results.record import Record
from mfhca_train.results.schema import SCORES
from mfhca_train.results.summary import DURATIONS

MODULES = {  # of model.py
    "mf": "multi-spatial fusion: convolutions over the spectrogram",
    "alexnet": "the baseline's convolutions over the spectrogram",
    "mfcc": "the baseline's recurrent layers over MFCCs",
    "spec_out": "spectrogram features to one vector",
    "layers": "weights of the speech encoder's layers in their sum",
    "bilstm": "recurrent layer over the speech encoder's features",
    "fusion": "attention that joins the two inputs",
    "ssl_out": "speech encoder's features to one vector",
    "classifier": "from the vectors to the emotions",
}
GROUPS = {
    "duration": ("By duration", "Utterances of different length, as the manifest gives it."),
    "session": ("By session", "Sessions are recordings of the same people in one sitting."),
    "style": ("By style", "Played without and with a script (IEMOCAP)."),
}
FEW = 6  # speakers whose names fit into a table


def folds(record: Record) -> str:
    """Every fold, what they come to together, and their bars."""
    results = record.results
    order = list(dict.fromkeys(unit["id"] for unit in results["folds"]))
    units = sorted(results["folds"], key=lambda unit: (order.index(unit["id"]), unit["seed"]))
    many, grouped = len(results["seeds"]) > 1, any(unit["test_speakers"] != [unit["id"]] for unit in units)
    lacking = any(unit["classes_absent"] for unit in units)
    head = ["Fold", *(["Seed"] if many else []), "WA", "UA", "F1", "Utterances", "Epoch", "Validated on"]
    head += [*(["Not in the test"] if lacking else []), *(["Tested on"] if grouped else [])]
    rows = [
        [
            unit["id"],
            *([unit["seed"]] if many else []),
            *(per_cent(unit[name]) for name in SCORES),
            unit["n_utterances"],
            f"{unit['best_epoch']} of {unit['epochs']}",
            _people(unit["validation_speakers"]),
            *([names(unit["classes_absent"])] if lacking else []),
            *([_people(unit["test_speakers"])] if grouped else []),
        ]
        for unit in units
    ]
    lines: list[tuple[str, str, Callable[[Any], str]]] = [
        ("mean", "mean", per_cent),
        ("sd over folds", "std", per_cent),
        *([("sd over seeds", "seed_std", per_cent)] if many else []),
        ("95 % of mean", "ci95", _two_lines),
        ("pooled", "pooled", per_cent),
        ("95 % of pooled", "pooled_ci95", _two_lines),
    ]
    lines = [line for line in lines if any(results[name][line[1]] is not None for name in SCORES)]
    foot = [
        [label, *[""] * many, *(show(results[name][key]) for name in SCORES), *[""] * (len(head) - 4 - many)]
        for label, key, show in lines
    ]
    strong = [k for k, (_, key, _) in enumerate(lines) if key == results["headline"]]
    by_fold: dict[str, list[Mapping[str, Any]]] = {}
    for unit in units:
        by_fold.setdefault(unit["id"], []).append(unit)
    pairs = {name: (fmean(u["wa"] for u in of), fmean(u["ua"] for u in of)) for name, of in by_fold.items()}
    means = (results["wa"]["mean"], results["ua"]["mean"])
    picture = fold_picture(pairs, means, record.chance, record.oracle)
    selection = "the speakers under “Validated on”"
    selection += (
        ", who are the TEST speakers here (oracle)" if record.oracle else ", who are never those of the test"
    )
    return f"""<h2>Folds{_mark(record)}</h2>
<p>How much depends on who speaks. An epoch is one pass over the training data; the one with the highest
WA + UA was selected, judged on {selection}. “Pooled” counts the utterances of all folds together.</p>
{table(head, rows, foot, range(1, 6 + many), "folds", strong)}
<figure>{picture}
<figcaption>Each fold{", mean of its seeds" if many else ""}. Lines: the means of the folds, and what blind
guessing would give (UA).</figcaption></figure>"""


def published(record: Record) -> str:
    """This run beside what others published on the same corpus."""
    figures = record.results.get("yardsticks") or []
    label = Markup(f"<b>this run</b>{_mark(record)}")
    ours = [(label, record.results, form, None) for form in dict.fromkeys(f["score"] for f in figures)]
    shown = beside(record.results, ours, [(figure["system"], figure) for figure in figures])
    return f"<h2>Beside published figures{_mark(record)}</h2>\n{shown}" if shown else ""


def emotions(record: Record) -> str:
    """Recall of every class and the confusion matrix."""
    results = record.results
    classes, confusion, seeds = results["classes"], results["confusion"], len(results["seeds"])
    rows, head = [], ["Emotion", "Utterances", "Recall", "", "Most often taken for"]
    for k, (name, row) in enumerate(zip(classes, confusion, strict=True)):
        recall = results["recalls"][name]
        wrong, other = max((0 if j == k else count, -j) for j, count in enumerate(row))
        bar = "" if recall is None else f'<i class="bar"><i style="width:{100 * recall:.1f}%"></i></i>'
        taken = f"{classes[-other]} ({wrong / sum(row):.0%})" if wrong else "–"
        rows.append([name, sum(row), per_cent(recall), Markup(bar), taken])
    numbers = range(1, len(classes) + 1)
    counts = [[name, *row] for name, row in zip(classes, confusion, strict=True)]
    repeated = f" Every utterance counts {seeds} times, once a seed." if seeds > 1 else ""
    return f"""<h2>Emotions{_mark(record)}</h2>
<p>Recall is the share of an emotion's utterances that were recognised, all folds together.{repeated}</p>
{table(head, rows, (), (1, 2), "recall of each emotion")}
<figure>{confusion_picture(confusion, classes, record.oracle)}
<figcaption>Confusion matrix. A row holds the utterances labelled with one emotion and sums to 100 %; the
column says as what they were recognised. The diagonal is right. Small numbers count utterances.</figcaption>
</figure>
<details><summary>Counts as a table</summary>
{table(["labelled as", *classes], counts, (), numbers, "confusion matrix, counts")}</details>"""


def training(record: Record) -> str:
    """Learning curves."""
    results = record.results
    best = [unit["best_epoch"] for unit in results["folds"]]
    where = "test speaker" if record.oracle else "validation"
    losses = {
        "training": [history["train_loss"] for history in record.histories],
        where: [history["validation_loss"] for history in record.histories],
    }
    pictures = [curve_picture("loss", "Loss (nats)", losses, best, record.oracle)]
    curves = {
        key: [[100 * value for value in history[f"validation_{key}"]] for history in record.histories]
        for key in ("wa", "ua")
    }
    lowest = min(value for of in curves.values() for curve in of for value in curve)
    limits = (max(0.0, lowest - 4), 102)  # the same for WA and UA, so that the two can be compared
    for key, of in curves.items():
        title = f"{key.upper()} (per cent)"
        pictures.append(curve_picture(f"curve-{key}", title, {where: of}, best, record.oracle, limits))
    panels = "\n".join(f"<figure>{picture}</figure>" for picture in pictures)
    unit = "fold with one seed" if len(results["seeds"]) > 1 else "fold"
    lines = f"A line is the one {unit}"
    if len(best) > MOST_LINES:
        lines = "A thick line is the median of the networks still in training (as long as half of them are), "
        lines += "a shade is where eight in ten of them lie"
    elif len(best) > 1:
        lines = f"A thin line is one {unit}, a thick line the median of those still in training"
        lines += " (as long as half of them are)"
    return f"""<h2>Training{_mark(record)}</h2>
<p>{lines}, a dot is the selected epoch. The loss says how surprised the
network is by the right answer: lower is better. Where it falls in training but rises in validation, the
network begins to learn its training speakers by heart. It is taken over segments in training and over whole
utterances in validation.</p>
<div class="panels">
{panels}
</div>"""


def groups(record: Record) -> str:
    """WA and UA by duration, session and style, as far as they are known."""
    order = [name for name, _, _ in DURATIONS]
    parts = []
    for kind, (title, meaning) in GROUPS.items():
        found = record.results["breakdown"].get(kind) or {}
        at = sorted(found, key=lambda name: (order.index(name) if name in order else 0, name))
        rows = [
            [name, found[name]["n"], per_cent(found[name]["wa"]), per_cent(found[name]["ua"])] for name in at
        ]
        if rows:
            shown = table(["Group", "Utterances", "WA", "UA"], rows, (), (1, 2, 3), title)
            parts.append(f'<section><h3>{title}</h3>\n<p class="small">{meaning}</p>\n{shown}</section>')
    if not parts:
        return ""
    again = " Utterances count once for each seed." if len(record.results["seeds"]) > 1 else ""
    return f"""<h2>Groups of utterances{_mark(record)}</h2>
<p>All folds together. UA is the mean over the emotions that occur in the group, so compare groups with
different emotions with care.{again}</p>
<div class="panels">
{"".join(parts)}
</div>"""


def network(record: Record) -> str:
    """Parameters of each module."""
    results = record.results
    modules = {name: count for name, count in results["parameters_by_module"].items() if name != "total"}
    rows = [[name, MODULES.get(name, ""), f"{count:,}"] for name, count in modules.items()]
    foot = [["total", "", f"{results['parameters']:,}"]]
    return f"""<h2>Network</h2>
<p>Parameters are the numbers that training can change. The speech encoder is frozen, no part of the network,
and not counted.</p>
{table(["Module", "What it does", "Parameters"], rows, foot, (2,), "parameters", (0,))}"""


def layers(record: Record) -> str:
    """The weight of each layer of the speech encoder, where their sum was learned."""
    weights, rows = record.results.get(layer_weights.KEY) or {}, []
    for name, of in weights.items():
        bar = f'<i class="bar"><i style="width:{100 * of["mean"]:.1f}%"></i></i>'
        rows.append([name, per_cent(of["mean"]), per_cent(of["std"]), Markup(bar)])
    shown = table(["Layer", "Weight", "sd", ""], rows, (), (0, 1, 2), "weights of the layers")
    if not rows:
        return ""
    return f"""<h2>Layers of the speech encoder</h2>
<p>The network reads a weighted sum of all layers. {layer_weights.MEANING}</p>
{shown}"""


ALL = (folds, published, emotions, training, groups, network, layers, settings, origin)


def _mark(record: Record) -> str:
    return ' <span class="mark">oracle</span>' if record.oracle else ""


def _people(speakers: Sequence[str]) -> Markup:
    """A few names, or how many there are, with the names behind it."""
    if len(speakers) <= FEW:
        return names(speakers)
    count = plural(len(speakers), "speaker")
    return Markup(f"<details><summary>{count}</summary>{names(speakers)}</details>")


def _two_lines(ends: Sequence[float] | None) -> Markup:
    return Markup(interval(ends).replace(" to ", "<br>to "))
