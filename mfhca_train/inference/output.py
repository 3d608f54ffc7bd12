"""Predictions as a table for people, as CSV and as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.inference.prediction import Attention, Failure, Prediction
from mfhca_train.results.files import csv_text

DIGITS = 6  # of a probability; the last bits depend on the processor
WIDEST = 60  # characters of a file's name in the table


def as_table(predictions: Sequence[Prediction], ensemble: Ensemble) -> str:
    """A line a recording: its likeliest class with spread and the number of networks that agree, then all classes."""
    if not predictions:
        return ensemble.title
    classes, many = ensemble.classes, len(ensemble.members) > 1
    names = [_shortened(shown(prediction.name)) for prediction in predictions]
    width = max(len(name) for name in (*names, "file"))
    label = max(len(name) for name in (*classes, "emotion"))
    head = f"{'file':<{width}}  {'seconds':>7}  {'emotion':<{label}}  {'%':>5}"
    head += f"  {'± sd':>5}  {'agree':>7}" if many else ""
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
    lines.append(f"per cent; {ensemble.title}")
    return "\n".join(lines)


def as_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """A row a recording; probabilities as fractions, `sd_` columns empty for a single network."""
    header = ["file", "seconds", "segments", "emotion", *(f"p_{name}" for name in classes)]
    header += [*(f"sd_{name}" for name in classes), *(f"votes_{name}" for name in classes), "heard_by"]
    rows = []
    for found in predictions:
        spread = [""] * len(classes) if found.spread is None else _rounded(found.spread)
        votes = [found.votes[name] for name in classes]
        about = [shown(found.name), round(found.seconds, DIGITS), found.segments, found.emotion]
        rows.append([*about, *_rounded(found.probabilities), *spread, *votes, found.heard_by])
    return csv_text(header, rows)


def attention_csv(predictions: Sequence[Prediction]) -> str:
    """A row for every frame of the encoder that holds audio."""
    rows: list[list[Any]] = []
    for found in predictions:
        if found.attention is not None:
            name = shown(found.name)
            frames = zip(*_columns(found.attention).values(), strict=True)
            rows += [[name, found.emotion, *frame] for frame in frames]
    return csv_text(["file", "emotion", "segment", "start_s", "end_s", "weight"], rows)


def as_json(
    predictions: Sequence[Prediction], failures: Sequence[Failure], ensemble: Ensemble, left_out: str
) -> str:
    """Everything: the networks, the predictions, what could not be used, what was left out."""
    card = ensemble.card
    value = {
        "model": {
            **{key: card[key] for key in ("corpus", "label_set", "protocol", "oracle")},
            "classes": list(ensemble.classes),
            "networks": [
                {"fold": member.about["fold"], "seed": member.about["seed"]} for member in ensemble.members
            ],
        },
        "predictions": [_plain(prediction) for prediction in predictions],
        "failed": [{"file": shown(failure.name), "reason": failure.reason} for failure in failures],
        "left_out": left_out,
    }
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def shown(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8 become \\x escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _plain(found: Prediction) -> dict[str, Any]:
    spread = found.spread
    value: dict[str, Any] = {
        "file": shown(found.name),
        "seconds": round(found.seconds, DIGITS),
        "segments": found.segments,
        "emotion": found.emotion,
        "probabilities": dict(zip(found.classes, _rounded(found.probabilities), strict=True)),
        "sd": None if spread is None else dict(zip(found.classes, _rounded(spread), strict=True)),
        "votes": found.votes,
        "heard_by": found.heard_by,
    }
    if found.attention is not None:
        padding = _rounded(found.attention.padding)
        value["attention"] = {**_columns(found.attention), "padding_of_segments": padding}
    return value


def _columns(attention: Attention) -> dict[str, list[Any]]:
    """A value for each frame."""
    return {
        "segment": attention.segment.tolist(),
        "start_s": _rounded(attention.starts),
        "end_s": _rounded(attention.ends),
        "weight": _rounded(attention.weights, DIGITS + 3),
    }


def _rounded(values: Any, digits: int = DIGITS) -> list[float]:
    return [round(float(value), digits) for value in values]


def _shortened(name: str) -> str:
    return name if len(name) <= WIDEST else "…" + name[1 - WIDEST :]
