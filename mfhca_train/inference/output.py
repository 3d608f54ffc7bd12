"""Predictions and evaluations as text: tables for people, CSV and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mfhca_cache.common.columns import Column, fitted, paragraph
from mfhca_cache.common.text import csv_text, plural
from mfhca_cache.common.typed import plain
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.inference.prediction import Attention, Failure, Prediction
from mfhca_train.results.schema import SCORES
from mfhca_train.results.summary import percent

DIGITS = 6  # of a probability; the last bits depend on the processor
LONGEST_NAME = 60  # characters of a file name in the table


def as_table(predictions: Sequence[Prediction], ensemble: Ensemble, width: int | None = None) -> str:
    """One line per recording: predicted class, spread, number of networks that agree, probability of every class.

    Args:
        predictions: of the recordings.
        ensemble: that made them.
        width: characters per line; None for no limit.
    """
    if not predictions:
        return ensemble.title
    classes, several = ensemble.classes, len(ensemble.members) > 1
    places = [classes.index(prediction.emotion) for prediction in predictions]
    best = [_percent(one.probabilities[k]) for one, k in zip(predictions, places, strict=True)]
    columns = [
        Column("file", [_shortened(shown(one.name)) for one in predictions], left=True),
        Column("seconds", [f"{one.seconds:.2f}" for one in predictions], 4),
        Column("emotion", [one.emotion for one in predictions], left=True),
        Column("%", best),
    ]
    if several:
        spreads = [
            "" if one.spread is None else _percent(one.spread[k])
            for one, k in zip(predictions, places, strict=True)
        ]
        votes = [f"{one.votes[one.emotion]}/{len(one.log_probabilities)}" for one in predictions]
        columns += [Column("± sd", spreads, 2), Column("agree", votes, 1)]
    for k, name in enumerate(classes):
        columns.append(Column(name, [_percent(one.probabilities[k]) for one in predictions], 3))
    lines = fitted(columns, width, "--format csv or json has them")
    for text in (f"probabilities in %; {ensemble.title}", *_trust(ensemble)):
        lines += paragraph(text, width)
    return "\n".join(lines)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _trust(ensemble: Ensemble) -> Iterator[str]:
    """How far such probabilities could be trusted on the test speakers of the run."""
    found = ensemble.card.scores.calibration
    if found:
        yield (
            f"in the cross-validation the most probable class had {100 * found.confidence:.1f} on average and was "
            f"right in {100 * found.accuracy:.1f} % of the test utterances (expected calibration error "
            f"{100 * found.ece:.1f}); other recordings may differ more"
        )


def as_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """One row per recording; probabilities as fractions, `sd_` columns empty for a single network."""
    header = ["file", "seconds", "segments", "emotion", *(f"p_{name}" for name in classes)]
    header += [*(f"sd_{name}" for name in classes), *(f"votes_{name}" for name in classes), "seen_by"]
    rows = []
    for prediction in predictions:
        spread = [""] * len(classes) if prediction.spread is None else _rounded(prediction.spread)
        votes = [prediction.votes[name] for name in classes]
        start = [
            shown(prediction.name),
            round(prediction.seconds, DIGITS),
            prediction.segments,
            prediction.emotion,
        ]
        rows.append([*start, *_rounded(prediction.probabilities), *spread, *votes, prediction.seen_by])
    return csv_text(header, rows)


def attention_csv(predictions: Sequence[Prediction]) -> str:
    """One row per encoder frame that holds audio."""
    rows: list[list[Any]] = []
    for prediction in predictions:
        if prediction.attention is not None:
            name = shown(prediction.name)
            frames = zip(*_columns(prediction.attention).values(), strict=True)
            rows += [[name, prediction.emotion, *frame] for frame in frames]
    return csv_text(["file", "emotion", "segment", "start_s", "end_s", "weight"], rows)


def as_json(
    predictions: Sequence[Prediction], failures: Sequence[Failure], ensemble: Ensemble, skipped: str
) -> str:
    """Everything: the networks, the predictions, the files that could not be used, the skipped files."""
    card = ensemble.card
    value = {
        "model": {
            **{key: getattr(card, key) for key in ("corpus", "label_set", "protocol", "oracle")},
            "transductive": ensemble.config.is_transductive(card.protocol),
            "calibration": None if card.scores.calibration is None else plain(card.scores.calibration),
            "classes": list(ensemble.classes),
            "networks": [{"fold": member.card.fold, "seed": member.card.seed} for member in ensemble.members],
        },
        "predictions": [_plain(prediction) for prediction in predictions],
        "failed": [{"file": shown(failure.name), "reason": failure.reason} for failure in failures],
        "skipped": skipped,
    }
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def evaluation_table(results: Mapping[str, Any], width: int | None = None) -> str:
    """The scores on another corpus, as `evaluate` prints them.

    Args:
        results: see `cross_corpus.Evaluation`.
        width: characters per line; None for no limit.
    """
    lines = [line for text in _described(results) for line in paragraph(text, width)]
    return "\n".join([*lines, "", *_evaluation_scores(results, width)])


def _described(results: Mapping[str, Any]) -> Iterator[str]:
    """What was scored."""
    speakers = results["speakers"]
    yield results["model"]["title"]
    yield (
        f"scored on {results['corpus']}, label set {results['label_set']}: "
        f"{plural(results['n_utterances'], 'utterance')}, {plural(results['n_segments'], 'segment')}, "
        f"{plural(len(speakers), 'speaker')}"
    )
    renamed = [f"{name} as {ours}" for name, ours in results["map"].items() if name != ours]
    if renamed:
        yield f"class names mapped: {', '.join(renamed)}"
    if results["excluded"]:
        left = ", ".join(f"{name} {count}" for name, count in results["excluded"].items())
        yield f"excluded, without a class of the networks: {left}"
    if results.get("transductive"):
        yield "transductive: unlabelled utterances of this corpus normalise its features"
    if results["classes_absent"]:
        absent = ", ".join(results["classes_absent"])
        yield f"no utterance of these classes, so that predicting one is an error: {absent}"


def _evaluation_scores(results: Mapping[str, Any], width: int | None) -> Iterator[str]:
    """Scores, confusion matrix and speakers."""
    in_file = "the JSON file has them"
    ensemble, networks = results["ensemble"], results["networks"]
    lines = [("ensemble", *(percent(ensemble[name]["value"]) for name in SCORES))]
    ends = [ensemble[name]["ci95"] for name in SCORES]
    if None not in ends:
        for label, end in (("  approximate 95 % interval, by speaker: from", 0), ("  to", 1)):
            lines.append((label, *(percent(interval[end]) for interval in ends)))
    lines.append(("networks, mean", *(percent(networks[name]["mean"]) for name in SCORES)))
    if len(networks["each"]) > 1:
        lines.append(("  sd over folds", *(percent(networks[name]["std"]) for name in SCORES)))
    names, *columns = zip(*lines, strict=True)
    heads = (("WA", 1), ("UA", 0), ("F1", 2))
    scores = [Column(head, cells, rank) for (head, rank), cells in zip(heads, columns, strict=True)]
    yield from fitted([Column("", names, left=True), *scores], width, in_file)
    yield ""
    classes, confusion = results["classes"], ensemble["confusion"]
    counts = [
        Column(name, [str(row[k]) for row in confusion], 1, "predictions") for k, name in enumerate(classes)
    ]
    recall = Column("recall", [percent(ensemble["recalls"][name]) for name in classes])
    yield from fitted([Column("label", classes, left=True), *counts, recall], width, in_file)
    yield ""
    speakers = results["speakers"].values()
    numbers = [Column("n", [str(own["n"]) for own in speakers], 1)]
    numbers += [Column(name.upper(), [percent(own[name]) for own in speakers]) for name in ("wa", "ua")]
    yield from fitted([Column("speaker", list(results["speakers"]), left=True), *numbers], width, in_file)


def shown(name: str) -> str:
    """A file name as text: bytes that are not UTF-8 become \\x escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def among(names: Sequence[str], files: int) -> str:
    """How many files of those that were passed, with an example.

    >>> among(["a.wav"], 1), among(["a.wav"], 3)
    ('this file', '1 of these 3 files (the first: a.wav)')
    """
    return (
        "this file" if files == 1 else f"{len(names)} of these {files} files (the first: {shown(names[0])})"
    )


def _plain(prediction: Prediction) -> dict[str, Any]:
    spread = prediction.spread
    value: dict[str, Any] = {
        "file": shown(prediction.name),
        "seconds": round(prediction.seconds, DIGITS),
        "segments": prediction.segments,
        "emotion": prediction.emotion,
        "probabilities": dict(zip(prediction.classes, _rounded(prediction.probabilities), strict=True)),
        "sd": None if spread is None else dict(zip(prediction.classes, _rounded(spread), strict=True)),
        "votes": prediction.votes,
        "seen_by": prediction.seen_by,
    }
    if prediction.attention is not None:
        padding = _rounded(prediction.attention.padding)
        value["attention"] = {**_columns(prediction.attention), "padding_of_segments": padding}
    return value


def _columns(attention: Attention) -> dict[str, list[Any]]:
    """One value per frame."""
    return {
        "segment": attention.segment.tolist(),
        "start_s": _rounded(attention.starts),
        "end_s": _rounded(attention.ends),
        "weight": _rounded(attention.weights, DIGITS + 3),
    }


def _rounded(values: Any, digits: int = DIGITS) -> list[float]:
    return [round(float(value), digits) for value in values]


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]
