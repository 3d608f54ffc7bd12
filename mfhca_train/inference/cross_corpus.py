"""A trained run on another corpus: the ensemble and each network scored on its cached features."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.errors import MfhcaError, listing
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import Manifest, read_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import RecipeFolder, explain
from mfhca_cache.recipe.kinds import KINDS, key_of
from mfhca_cache.store.reader import list_recipes
from mfhca_train.data.corpus import Corpus
from mfhca_train.inference.class_map import ClassMap, class_map
from mfhca_train.inference.ensemble import Ensemble
from mfhca_train.inference.prediction import normalised
from mfhca_train.results.files import csv_text
from mfhca_train.results.metrics import Array, confusion_matrix, mean_over_segments, scores
from mfhca_train.results.schema import SCORES
from mfhca_train.results.statistics import fold_summary, speaker_bootstrap
from mfhca_train.training.evaluate import EVALUATION_BATCH, predict_batch

OPTIONS = {  # of `mfhca-cache features`, by the field of a recipe that each sets
    "tail": "--tail",
    "minimum_tail_samples": "--minimum-tail",
    "pre_emphasis": "--pre-emphasis",
    "db_reference": "--db-reference",
    "dtype": "--dtype",
    "compute_dtype": "--compute-dtype",
    "layer": "--layer",
}


@dataclass(frozen=True)
class Transfer:
    """What came of it.

    Attributes:
        results: as written to evaluation-CORPUS.json.
        predictions: CSV text, a row an utterance: its class, the ensemble's, and the probabilities.
    """

    results: dict[str, Any]
    predictions: str


def transfer(
    ensemble: Ensemble,
    manifest_path: Path,
    cache: Path,
    label_set: str | None = None,
    given: Mapping[str, str] | None = None,
    device: str = "cpu",
    advance: Callable[[int], Any] = lambda _: None,
) -> Transfer:
    """Scores networks on a corpus they have never heard.

    Args:
        ensemble: the networks.
        manifest_path: of the other corpus.
        cache: its features, by the networks' own recipes.
        label_set: of the other corpus; None for its default.
        given: see `classmap.class_map`.
        device: cpu, cuda or mps.
        advance: called with a number of segments, each network's counted, when so many are judged.

    Raises:
        MfhcaError: no class is known to the networks, features are missing, damaged or of other recipes, or the
            networks were trained or selected on some of this audio.
    """
    manifest = read_manifest(manifest_path)
    manifest.warn()
    theirs = manifest.label_set(label_set)
    mapped = class_map(theirs.classes, ensemble.classes, given or {})
    chosen, excluded = _select(manifest, theirs, mapped)
    recipes = find_recipes(ensemble, manifest_path, cache, label_set)
    raw = {label: mapped.mapping[name] for label, name in theirs.mapping.items() if name in mapped.mapping}
    with Corpus(recipes, chosen, LabelSet(theirs.name, raw)) as corpus:
        _refuse_heard(ensemble, corpus, manifest_path)
        corpus.verify()
        outputs = _judge(ensemble, corpus, device, advance)  # (M, U, K)
        segments, digest = len(corpus.segments(np.arange(len(chosen)))), corpus.digest()
    classes = ensemble.classes
    reference = np.array([classes.index(raw[u.emotion]) for u in chosen], np.int64)
    probabilities = normalised(outputs).mean(axis=0)  # (U, K)
    card = ensemble.card
    results = {
        "corpus": manifest.card.name if manifest.card else manifest_path.stem,
        "label_set": theirs.name,
        "data_digest": digest,
        "model": {
            **{key: card[key] for key in ("corpus", "label_set", "protocol", "oracle", "row", "identity")},
            "networks": len(ensemble.members),
            "title": ensemble.title,
        },
        "classes": list(classes),
        "map": dict(mapped.mapping),
        "excluded": {name: excluded[name] for name in mapped.excluded},
        "classes_absent": [name for k, name in enumerate(classes) if not (reference == k).any()],
        "n_utterances": len(chosen),
        "n_segments": segments,
        **_figures(ensemble, chosen, reference, outputs, probabilities.argmax(axis=1)),
    }
    header = ["utterance", "speaker", "label", "prediction", *(f"p_{name}" for name in classes)]
    rows = [
        [u.utterance, u.speaker, classes[k], classes[int(p.argmax())], *(float(value) for value in p)]
        for u, k, p in zip(chosen, reference, probabilities, strict=True)
    ]
    return Transfer(results, csv_text(header, rows))


def find_recipes(
    ensemble: Ensemble, manifest: Path, cache: Path, label_set: str | None = None
) -> dict[str, RecipeFolder]:
    """The folders of a cache with the features that the networks read.

    Raises:
        MfhcaError: one is not there; the message has the command that makes it.
    """
    there = list_recipes(cache)
    by_key = {recipe.key: recipe for recipe in there}
    wanted = {side: dict(recipe) for side, recipe in ensemble.inputs.recipes.items()}
    found = {side: by_key[key_of(recipe)] for side, recipe in wanted.items() if key_of(recipe) in by_key}
    lacking = {side: recipe for side, recipe in wanted.items() if side not in found}
    if not lacking:
        return found
    near = [
        f"{folder.path.name} differs: {'; '.join(explain(folder.recipe, recipe, ('in the cache', 'in the run')))}"
        for recipe in lacking.values()
        for folder in there
        if folder.kind == recipe["kind"]
    ]
    kinds = " and ".join(recipe["kind"] for recipe in lacking.values())
    command = features_command(ensemble, manifest, cache, label_set)
    encoder = ensemble.inputs.names.get("ssl", "")
    called = f" (ENCODER: {encoder.removeprefix('ssl-')})" if encoder.startswith("ssl-") else ""
    raise MfhcaError(
        f"{cache}: no {kinds} features like those the networks were trained on; run{called}\n  {command}"
        + (f"\n{listing(near)}" if near else "")
    )


def features_command(ensemble: Ensemble, manifest: Path, cache: Path, label_set: str | None = None) -> str:
    """The command that computes what the networks read for another corpus."""
    parts = [f"mfhca-cache features {manifest} --root DIR --cache {cache}"]
    options: dict[str, Any] = {} if label_set is None else {"--label-set": label_set}
    for recipe in ensemble.inputs.recipes.values():
        parts.append(f"--kind {recipe['kind']}")
        defaults = {field.name: field.default for field in fields(KINDS[recipe["kind"]])}
        options |= {
            option: recipe[name]
            for name, option in OPTIONS.items()
            if name in recipe and recipe[name] != defaults[name]
        }
    if "ssl" in ensemble.inputs.recipes:
        parts.append("--backbone ENCODER")
    return " ".join([*parts, *(f"{option} {value}" for option, value in options.items())])


def _select(manifest: Manifest, theirs: LabelSet, mapped: ClassMap) -> tuple[list[Utterance], Counter[str]]:
    """The utterances whose class the networks know, and how many there are of each other class."""
    chosen, excluded = [], Counter[str]()
    for u in manifest.select(theirs):
        name = theirs.mapping[u.emotion]
        if name in mapped.mapping:
            chosen.append(u)
        else:
            excluded[name] += 1
    if not chosen:
        raise MfhcaError(f"{manifest.path}: no utterance of the classes {', '.join(mapped.mapping)}")
    return chosen, excluded


def _refuse_heard(ensemble: Ensemble, corpus: Corpus, manifest: Path) -> None:
    digests = corpus.audio_digests(np.arange(len(corpus.utterances)))
    heard = [
        u.utterance
        for u, digest in zip(corpus.utterances, digests, strict=True)
        if any(member.inputs.seen_in_training(digest) for member in ensemble.members)
    ]
    if heard:
        raise MfhcaError(
            f"{manifest}: {len(heard)} of {len(digests)} utterances are recordings that networks of "
            f"{ensemble.source} were trained or selected on; strike them from the manifest (a run's scores on its "
            f"own corpus are in its results.json):\n{listing(heard, 5)}"
        )


def _judge(ensemble: Ensemble, corpus: Corpus, device: str, advance: Callable[[int], Any]) -> Array:
    """(M, U, K), each network's mean log-probabilities of each utterance."""
    everything = np.arange(len(corpus.utterances))
    segments = corpus.segments(everything)
    order = np.arange(len(segments))
    found = []
    for member, model in zip(ensemble.members, ensemble.build(device), strict=True):
        parts = []
        for batch in corpus.batches(segments, order, EVALUATION_BATCH, member.inputs.normalisers, device):
            parts.append(predict_batch(model, batch, device, ensemble.config.train.precision)[0])
            advance(len(parts[-1]))
        found.append(mean_over_segments(np.concatenate(parts), segments.utterance, len(everything)))
    return np.stack(found)


def _figures(
    ensemble: Ensemble, chosen: list[Utterance], reference: Array, outputs: Array, guess: Array
) -> dict[str, Any]:
    """Scores of the ensemble, of each network and of each speaker."""
    classes = ensemble.classes
    count = len(classes)
    speakers = np.array([u.speaker for u in chosen])
    of_speaker = {
        speaker: confusion_matrix(reference[speakers == speaker], guess[speakers == speaker], count)
        for speaker in sorted(set(speakers.tolist()))
    }
    confusion = confusion_matrix(reference, guess, count)
    judged = scores(confusion)
    each = [scores(confusion_matrix(reference, output.argmax(axis=1), count)) for output in outputs]
    about = [member.about for member in ensemble.members]
    seeds, folds = (list(dict.fromkeys(one[key] for one in about)) for key in ("seed", "fold"))
    at = {(one["seed"], one["fold"]): found for one, found in zip(about, each, strict=True)}
    networks: dict[str, Any] = {}
    for name in SCORES:
        summary = fold_summary(np.array([[getattr(at[s, f], name) for f in folds] for s in seeds]))
        # No interval: all networks were scored on the same utterances.
        networks[name] = {key: summary[key] for key in ("mean", "std", "seed_std")}
    return {
        "ensemble": {
            **{
                name: {
                    "value": getattr(judged, name),
                    "ci95": speaker_bootstrap(list(of_speaker.values()), functools.partial(_score, name)),
                }
                for name in SCORES
            },
            "confusion": confusion.tolist(),
            "recalls": dict(zip(classes, judged.recalls, strict=True)),
        },
        "networks": networks
        | {
            "each": [
                {"fold": one["fold"], "seed": one["seed"]} | {name: getattr(found, name) for name in SCORES}
                for one, found in zip(about, each, strict=True)
            ]
        },
        "speakers": {
            speaker: {"n": int(own.sum()), "wa": scores(own).wa, "ua": scores(own).ua}
            for speaker, own in of_speaker.items()
        },
    }


def _score(name: str, confusion: Array) -> float:
    return float(getattr(scores(confusion), name))
