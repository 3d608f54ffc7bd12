"""Evaluation on another corpus: the ensemble and each network are scored on cached features."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.text import csv_text
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import Manifest, read_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.users import note_other_manifests
from mfhca_train.data.corpus import Corpus
from mfhca_train.inference.class_map import ClassMap, class_map
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.inference.recipes import find_recipes
from mfhca_train.inference.seen import refuse_training_audio, warn_of_same_corpus
from mfhca_train.results.metrics import Array, confusion_matrix, mean_over_segments, score_of, scores
from mfhca_train.results.probabilities import normalised
from mfhca_train.results.schema import SCORES
from mfhca_train.results.statistics import fold_summary, speaker_interval
from mfhca_train.training.evaluate import EVALUATION_BATCH, predict_batch


@dataclass(frozen=True)
class Evaluation:
    """The scores of networks on another corpus.

    Attributes:
        results: as written to evaluation-CORPUS.json.
        predictions: CSV text, one row per utterance: label, predicted class and probabilities.
    """

    results: dict[str, Any]
    predictions: str


def evaluate(
    ensemble: Ensemble,
    manifest_path: Path,
    cache: Path,
    label_set: str | None = None,
    given: Mapping[str, str] | None = None,
    named: Mapping[str, str] | None = None,
    device: str = "cpu",
    advance: Callable[[int], Any] = lambda _: None,
    begin: Callable[[int], Any] = lambda _: None,
) -> Evaluation:
    """Scores networks on a corpus they were not trained on.

    Args:
        ensemble: the networks.
        manifest_path: of the other corpus.
        cache: its features, computed with the recipes of the training features.
        label_set: of the other corpus; None for its default.
        given: see `class_map.class_map`.
        named: side -> name of the features of another program that are read for it, see `find_recipes`.
        device: cpu, cuda or mps.
        advance: called with the number of segments after each batch of each network.
        begin: called once with the number of segments of all networks together.

    Raises:
        MfhcaError: no class has a counterpart, features are missing, damaged or of other recipes, or the networks
            were trained or selected on some of this audio.
    """
    manifest = read_manifest(manifest_path)
    manifest.warn()
    corpus_name = manifest.corpus
    theirs = manifest.label_set(label_set)
    mapped = class_map(theirs.classes, ensemble.classes, given or {})
    selected, excluded = _select(manifest, theirs, mapped)
    recipes = find_recipes(ensemble, manifest_path, cache, label_set, named or {})
    for recipe in recipes.values():
        note_other_manifests(recipe.path, manifest_path)
    raw = {label: mapped.mapping[name] for label, name in theirs.mapping.items() if name in mapped.mapping}
    with Corpus(recipes, selected, LabelSet(theirs.name, raw)) as corpus:
        refuse_training_audio(ensemble, corpus, manifest_path)
        warn_of_same_corpus(ensemble, corpus_name, selected)
        corpus.verify()
        segments = len(corpus.segments(np.arange(len(selected))))
        digests = {"data_digest": corpus.digest(), "features_digest": corpus.features_digest()}
        begin(len(ensemble.members) * segments)
        outputs = _log_probabilities(ensemble, corpus, device, advance)  # (M, U, K)
    classes = ensemble.classes
    reference = np.array([classes.index(raw[u.emotion]) for u in selected], np.int64)
    probabilities = normalised(outputs).mean(axis=0)  # (U, K)
    card = ensemble.card
    results = {
        "corpus": corpus_name,
        "label_set": theirs.name,
        **digests,
        "model": {
            **{
                key: getattr(card, key)
                for key in ("corpus", "label_set", "protocol", "oracle", "row", "identity")
            },
            "networks": len(ensemble.members),
            "title": ensemble.title,
        },
        **({"transductive": True} if ensemble.config.scales_by_test else {}),
        "classes": list(classes),
        "map": dict(mapped.mapping),
        "excluded": {name: excluded[name] for name in mapped.excluded},
        "classes_absent": [name for k, name in enumerate(classes) if not (reference == k).any()],
        "n_utterances": len(selected),
        "n_segments": segments,
        **_scores(ensemble, selected, reference, outputs, probabilities.argmax(axis=1)),
    }
    header = ["utterance", "speaker", "label", "prediction", *(f"p_{name}" for name in classes)]
    rows = [
        [u.utterance, u.speaker, classes[k], classes[int(p.argmax())], *(float(value) for value in p)]
        for u, k, p in zip(selected, reference, probabilities, strict=True)
    ]
    return Evaluation(results, csv_text(header, rows))


def _select(manifest: Manifest, theirs: LabelSet, mapped: ClassMap) -> tuple[list[Utterance], Counter[str]]:
    """The utterances whose class the networks have, and the number of utterances of every other class."""
    selected, excluded = [], Counter[str]()
    for u in manifest.select(theirs):
        name = theirs.mapping[u.emotion]
        if name in mapped.mapping:
            selected.append(u)
        else:
            excluded[name] += 1
    if not selected:
        raise MfhcaError(f"{manifest.path}: no utterance of the classes {', '.join(mapped.mapping)}")
    return selected, excluded


def _log_probabilities(
    ensemble: Ensemble, corpus: Corpus, device: str, advance: Callable[[int], Any]
) -> Array:
    """(M, U, K), the mean log-probabilities of each utterance by each network."""
    everything = np.arange(len(corpus.utterances))
    segments = corpus.segments(everything)
    order = np.arange(len(segments))
    outputs = []
    for member, model in zip(ensemble.members, ensemble.build(device), strict=True):
        parts = []
        for batch in corpus.batches(segments, order, EVALUATION_BATCH, member.inputs.normalisers, device):
            parts.append(predict_batch(model, batch, device, ensemble.config.train.precision)[0])
            advance(len(parts[-1]))
        outputs.append(mean_over_segments(np.concatenate(parts), segments.utterance, len(everything)))
    return np.stack(outputs)


def _scores(
    ensemble: Ensemble, selected: list[Utterance], reference: Array, outputs: Array, guess: Array
) -> dict[str, Any]:
    """Scores of the ensemble, of each network and of each speaker."""
    classes = ensemble.classes
    count = len(classes)
    speakers = np.array([u.speaker for u in selected])
    of_speaker = {
        speaker: confusion_matrix(reference[speakers == speaker], guess[speakers == speaker], count)
        for speaker in sorted(set(speakers.tolist()))
    }
    confusion = confusion_matrix(reference, guess, count)
    of_ensemble = scores(confusion)
    each = [scores(confusion_matrix(reference, output.argmax(axis=1), count)) for output in outputs]
    cards = [member.card for member in ensemble.members]
    seeds = list(dict.fromkeys(card.seed for card in cards))
    folds = list(dict.fromkeys(card.fold for card in cards))
    at = {(card.seed, card.fold): own for card, own in zip(cards, each, strict=True)}
    networks: dict[str, Any] = {}
    for name in SCORES:
        summary = fold_summary(np.array([[getattr(at[s, f], name) for f in folds] for s in seeds]))
        # No interval: all networks were scored on the same utterances.
        networks[name] = {key: summary[key] for key in ("mean", "std", "seed_std")}
    return {
        "ensemble": {
            **{
                name: {
                    "value": getattr(of_ensemble, name),
                    "ci95": speaker_interval(list(of_speaker.values()), functools.partial(score_of, name)),
                }
                for name in SCORES
            },
            "confusion": confusion.tolist(),
            "recalls": dict(zip(classes, of_ensemble.recalls, strict=True)),
        },
        "networks": networks
        | {
            "each": [
                {"fold": card.fold, "seed": card.seed} | {name: getattr(own, name) for name in SCORES}
                for card, own in zip(cards, each, strict=True)
            ]
        },
        "speakers": {
            speaker: {"n": int(own.sum()), "wa": scores(own).wa, "ua": scores(own).ua}
            for speaker, own in of_speaker.items()
        },
    }
