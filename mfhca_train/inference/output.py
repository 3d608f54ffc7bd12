"""Predictions and evaluations as text: tables for people, CSV and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mfhca_cache.common.typed import plain
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.inference.prediction import Attention, Failure, Prediction
from mfhca_train.results.files import csv_text
from mfhca_train.results.schema import SCORES
from mfhca_train.results.summary import percent

DIGITS = 6  # of a probability; the last bits depend on the processor
LONGEST_NAME = 60  # characters of a file name in the table


def as_table(predictions: Sequence[Prediction], ensemble: Ensemble) -> str:
    """One line per recording: predicted class, spread, number of networks that agree, probability of every class."""
    if not predictions:
        return ensemble.title
    classes, several = ensemble.classes, len(ensemble.members) > 1
    names = [_shortened(shown(prediction.name)) for prediction in predictions]
    width = max(len(name) for name in (*names, "file"))
    label = max(len(name) for name in (*classes, "emotion"))
    head = f"{'file':<{width}}  {'seconds':>7}  {'emotion':<{label}}  {'%':>5}"
    head += f"  {'± sd':>5}  {'agree':>7}" if several else ""
    lines = [head + "".join(f"  {name:>{max(5, len(name))}}" for name in classes)]
    for name, prediction in zip(names, predictions, strict=True):
        k = classes.index(prediction.emotion)
        spread, networks = prediction.spread, len(prediction.log_probabilities)
        line = f"{name:<{width}}  {prediction.seconds:>7.2f}  {prediction.emotion:<{label}}"
        line += f"  {100 * prediction.probabilities[k]:>5.1f}"
        if spread is not None:
            line += f"  {100 * spread[k]:>5.1f}  {f'{prediction.votes[prediction.emotion]}/{networks}':>7}"
        values = zip(classes, prediction.probabilities, strict=True)
        lines.append(line + "".join(f"  {100 * p:>{max(5, len(name))}.1f}" for name, p in values))
    lines += [f"probabilities in %; {ensemble.title}", *_trust(ensemble)]
    return "\n".join(lines)


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
            "transductive": ensemble.config.transductive,
            "calibration": None if card.scores.calibration is None else plain(card.scores.calibration),
            "classes": list(ensemble.classes),
            "networks": [{"fold": member.card.fold, "seed": member.card.seed} for member in ensemble.members],
        },
        "predictions": [_plain(prediction) for prediction in predictions],
        "failed": [{"file": shown(failure.name), "reason": failure.reason} for failure in failures],
        "skipped": skipped,
    }
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def evaluation_table(results: Mapping[str, Any]) -> str:
    """The scores on another corpus, as `evaluate` prints them.

    Args:
        results: see `cross_corpus.Evaluation`.
    """
    return "\n".join(_evaluation_lines(results))


def _evaluation_lines(results: Mapping[str, Any]) -> Iterator[str]:
    speakers = results["speakers"]
    yield results["model"]["title"]
    yield (
        f"scored on {results['corpus']}, label set {results['label_set']}: {results['n_utterances']} utterances, "
        f"{results['n_segments']} segments, {len(speakers)} speakers"
    )
    renamed = [f"{name} as {ours}" for name, ours in results["map"].items() if name != ours]
    if renamed:
        yield f"class names mapped: {', '.join(renamed)}"
    if results["excluded"]:
        left = ", ".join(f"{name} {count}" for name, count in results["excluded"].items())
        yield f"excluded, without a class of the networks: {left}"
    if results["classes_absent"]:
        absent = ", ".join(results["classes_absent"])
        yield f"no utterance of these classes, so that predicting one is an error: {absent}"
    yield ""
    yield f"{'':>12}     WA     UA     F1"
    ensemble, networks = results["ensemble"], results["networks"]
    yield f"{'ensemble':>12} {' '.join(percent(ensemble[name]['value']) for name in SCORES)}"
    for label, end in (("lower", 0), ("upper", 1)):
        ends = [ensemble[name]["ci95"] for name in SCORES]
        if None not in ends:
            note = "  approximate 95 % interval, by speaker" if not end else ""
            yield f"{label:>12} {' '.join(percent(interval[end]) for interval in ends)}{note}"
    yield f"{'networks':>12} {' '.join(percent(networks[name]['mean']) for name in SCORES)}  mean"
    if len(networks["each"]) > 1:
        yield f"{'':>12} {' '.join(percent(networks[name]['std']) for name in SCORES)}  sd over folds"
    yield ""
    classes, confusion = results["classes"], ensemble["confusion"]
    width = max(6, *(len(name) for name in classes))
    yield f"{'label / prediction':>{width + 8}} {' '.join(f'{name:>{width}}' for name in classes)} {'recall':>6}"
    for name, row in zip(classes, confusion, strict=True):
        counts = " ".join(f"{count:>{width}}" for count in row)
        yield f"{name:>{width + 8}} {counts} {percent(ensemble['recalls'][name])}"
    yield ""
    longest = max(7, *(len(speaker) for speaker in speakers))
    yield f"{'speaker':>{longest}} {'n':>5}     WA     UA"
    for speaker, own in speakers.items():
        yield f"{speaker:>{longest}} {own['n']:>5} {percent(own['wa'])} {percent(own['ua'])}"


def shown(name: str) -> str:
    """A file name as text: bytes that are not UTF-8 become \\x escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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
