"""A run's scores on another corpus, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mfhca_train.results.schema import SCORES
from mfhca_train.results.summary import percent


def table(results: Mapping[str, Any]) -> str:
    """What `evaluate` prints.

    Args:
        results: see `transfer.Transfer`.
    """
    return "\n".join(_lines(results))


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    speakers = results["speakers"]
    yield results["model"]["title"]
    yield (
        f"scored on {results['corpus']}, label set {results['label_set']}: {results['n_utterances']} utterances, "
        f"{results['n_segments']} segments, {len(speakers)} speakers"
    )
    renamed = [f"{name} as {ours}" for name, ours in results["map"].items() if name != ours]
    if renamed:
        yield f"taken: {', '.join(renamed)}"
    if results["excluded"]:
        left = ", ".join(f"{name} {count}" for name, count in results["excluded"].items())
        yield f"left out, for they become no class of the networks: {left}"
    if results["classes_absent"]:
        yield f"without an utterance, so that predicting it is an error: {', '.join(results['classes_absent'])}"
    yield ""
    yield f"{'':>12}     WA     UA     F1"
    ensemble, networks = results["ensemble"], results["networks"]
    yield f"{'ensemble':>12} {' '.join(percent(ensemble[name]['value']) for name in SCORES)}"
    for label, end in (("from", 0), ("to", 1)):
        ends = [ensemble[name]["ci95"] for name in SCORES]
        if None not in ends:
            note = "  approximate 95 %, by speaker" if not end else ""
            yield f"{label:>12} {' '.join(percent(interval[end]) for interval in ends)}{note}"
    yield f"{'networks':>12} {' '.join(percent(networks[name]['mean']) for name in SCORES)}  mean"
    if len(networks["each"]) > 1:
        yield f"{'':>12} {' '.join(percent(networks[name]['std']) for name in SCORES)}  sd over folds"
    yield ""
    classes, confusion = results["classes"], ensemble["confusion"]
    width = max(6, *(len(name) for name in classes))
    yield f"{'is / taken as':>{width + 8}} {' '.join(f'{name:>{width}}' for name in classes)} {'recall':>6}"
    for name, row in zip(classes, confusion, strict=True):
        counts = " ".join(f"{count:>{width}}" for count in row)
        yield f"{name:>{width + 8}} {counts} {percent(ensemble['recalls'][name])}"
    yield ""
    longest = max(7, *(len(speaker) for speaker in speakers))
    yield f"{'speaker':>{longest}} {'n':>5}     WA     UA"
    for speaker, own in speakers.items():
        yield f"{speaker:>{longest}} {own['n']:>5} {percent(own['wa'])} {percent(own['ua'])}"
