"""What a portrait is made of: one row's networks run over the speakers they did not learn from.

Every fold gives figures: silhouettes, attention on padding, how peaked attention
is and whether it follows the level, how far the gates differ. The chosen fold
gives the pictures' data besides: features and t-SNE of its test speaker, and of a
sample of its other speakers; and the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common import hardware
from mfhca_train.analysis import attention, embedding, probe
from mfhca_train.analysis import examples as exemplar
from mfhca_train.analysis.stored import Choice
from mfhca_train.config.settings import Config
from mfhca_train.data.corpus import Array, Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.model.fusion import TIME
from mfhca_train.model.network import MFHCA
from mfhca_train.model.saved import Inputs, load_network
from mfhca_train.runs.plan import Plan
from mfhca_train.training import process

MOST_POINTS = 400  # of the test, and as many of the others: more cannot be told apart in a picture
TEST, VALIDATION, TRAINING = range(3)  # roles of a point's speaker


def sit(
    corpus: Corpus,
    plan: Plan,
    folders: Sequence[Path],
    choice: Choice,
    device: str,
    root: Path | None = None,
    on_fold: Callable[[], Any] = lambda: None,
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Computes a row's portrait.

    Args:
        corpus: the open features of the row.
        plan: the row.
        folders: its finished units of one seed.
        choice: which fold and utterances the pictures show.
        device: as asked for.
        root: of the audio, for waveforms.
        on_fold: called after each fold.

    Returns:
        What is to be said, as plain values, and the arrays.
    """
    process.prepare_process(int(plan.identity["threads"]))
    device = hardware.resolve_device(device)
    config, classes = plan.row.config, corpus.classes
    by_folder = {folder.name: fold for fold in plan.row.folds for folder in folders if _is_of(folder, fold)}
    figures: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    about: dict[str, Any] = {}
    for folder in folders:
        fold = by_folder[folder.name]
        model, inputs = load_network(folder, config.model, len(classes), device)
        figures.append({"id": fold.id, **_figures(model, inputs, corpus, fold, config, device)})
        if fold.id == choice.fold:
            points, found = _points(model, inputs, corpus, fold, config, device)
            model, inputs = load_network(folder, config.model, len(classes))  # on the CPU
            examples, shown = exemplar.examples(model, inputs, corpus, choice.utterances, config)
            waves = exemplar.waveforms(corpus, choice.utterances, root) if root and examples else {}
            arrays = found | shown | waves
            about = {"fold": fold.id, "points": points, "examples": examples, "spec": _scale(inputs)}
            about["waveforms"] = bool(waves) if examples else None
        on_fold()
    attended = probe.attended(config.model)
    return {
        "classes": list(classes),
        "seed": plan.row.seeds[0],
        "protocol": plan.row.protocol,
        "config": config.to_dict(),
        "attended": attended,
        "folds": figures,
        **about,
    }, arrays


def _is_of(folder: Path, fold: Fold) -> bool:
    from urllib.parse import quote

    return folder.name == f"fold-{quote(fold.id, safe='')}"


def _scale(inputs: Inputs) -> dict[str, Any] | None:
    """Seconds of a segment, and what the spectrogram's bins are."""
    if "spec" not in inputs.recipes:
        return None
    recipe = inputs.recipes["spec"]
    linear = recipe["kind"] == "logspec"
    rate = recipe["sample_rate"]
    return {
        "seconds": recipe["frames"] * recipe["hop_samples"] / rate,
        "kind": recipe["kind"],
        "top_khz": recipe["bins"] * rate / recipe["dft"] / 1000 if linear else recipe["high_hz"] / 1000,
    }


def _figures(
    model: MFHCA, inputs: Inputs, corpus: Corpus, fold: Fold, config: Config, device: str
) -> dict[str, Any]:
    """What is measured in every fold: attention on its test speakers, silhouettes of its validation speakers too."""
    test = corpus.of_speakers(fold.test)
    segments = corpus.segments(test)
    features = np.zeros((len(segments), 0))
    parts: dict[str, list[Array]] = {name: [] for name in ("mass", "share", "frames", "level")}
    gates: list[tuple[list[Array], list[Array]]] = []
    for sight in probe.behold(model, corpus, segments, inputs.normalisers, device, config.train.precision):
        if not features.size:
            features = np.zeros((len(segments), sight.features.shape[1]))
        features[sight.at] = sight.features
        if sight.weights is not None and probe.attended(config.model) == TIME:
            valid = segments.valid["ssl"][sight.at]
            for name, found in zip(
                ("mass", "share"), attention.padding_mass(sight.weights, valid), strict=True
            ):
                parts[name].append(found)
            parts["frames"].append(attention.effective_frames(sight.weights, valid))
            levels = attention.level(exemplar.stored_spec(corpus, segments, sight.at))
            parts["level"].append(attention.level_correlation(sight.weights, valid, levels))
        elif sight.weights is not None:
            whole = np.full(len(sight.weights), sight.weights.shape[1])
            parts["frames"].append(attention.effective_frames(sight.weights, whole))
        for k, (g_h, g_w) in enumerate(sight.gates):
            if len(gates) == k:
                gates.append(([], []))
            if sight.spec is not None:
                valid = segments.valid["spec"][sight.at]
                for kept, found in zip(
                    gates[k],
                    attention.gate_measures(attention.gate_map(g_h, g_w), sight.spec, valid),
                    strict=True,
                ):
                    kept.append(found)
    test_features = probe.mean_of_segments(features, segments, len(test))
    return {
        "utterances": len(test),
        "segments": len(segments),
        "silhouette": _silhouettes(model, inputs, corpus, fold, config, device, test, test_features),
        "attention": {name: attention.mean_and_count(found) for name, found in parts.items()},
        "gates": [
            {
                "low": float(np.concatenate(ends)[:, 0].mean()),
                "high": float(np.concatenate(ends)[:, 1].mean()),
                "spec": attention.mean_and_count(found),
            }
            for ends, found in gates
        ],
    }


def _silhouettes(
    model: MFHCA,
    inputs: Inputs,
    corpus: Corpus,
    fold: Fold,
    config: Config,
    device: str,
    test: Array,
    test_features: Array,
) -> dict[str, float | None]:
    """By class among the test speakers; by class and by speaker among all that the network did not learn from."""
    others = corpus.of_speakers(sorted(set(fold.validation) - set(fold.test)))
    features = test_features
    if len(others):
        features = np.concatenate(
            [test_features, _features(model, inputs, corpus, others, config, device)[0]]
        )
    unseen = np.concatenate([test, others]).astype(np.int64)
    names = sorted({u.speaker for u in corpus.utterances})
    speakers = np.array([names.index(corpus.utterances[i].speaker) for i in unseen])
    return {
        "class_test": embedding.silhouette(test_features, corpus.labels[test]),
        "class_unseen": embedding.silhouette(features, corpus.labels[unseen]),
        "speaker_unseen": embedding.silhouette(features, speakers),
    }


def _features(
    model: MFHCA, inputs: Inputs, corpus: Corpus, chosen: Array, config: Config, device: str
) -> tuple[Array, Array]:
    """Final features (n, d) and log-probabilities (n, K) of utterances: means over their segments."""
    segments = corpus.segments(chosen)
    sights = list(probe.behold(model, corpus, segments, inputs.normalisers, device, config.train.precision))
    features = np.concatenate([sight.features for sight in sights])
    logp = np.concatenate([sight.log_probabilities for sight in sights])
    count = len(chosen)
    return probe.mean_of_segments(features, segments, count), probe.mean_of_segments(logp, segments, count)


def _points(
    model: MFHCA, inputs: Inputs, corpus: Corpus, fold: Fold, config: Config, device: str
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Features of the test utterances and of a sample of the others, in one space, and where t-SNE puts them."""
    random = np.random.default_rng(embedding.SEED)
    validation = sorted(set(fold.validation) - set(fold.test))
    training = sorted(set(fold.train) - set(fold.test) - set(validation))
    test, rest = corpus.of_speakers(fold.test), corpus.of_speakers([*validation, *training])
    test, rest = (
        np.sort(random.choice(found, MOST_POINTS, replace=False)) if len(found) > MOST_POINTS else found
        for found in (test, rest)
    )
    chosen = np.concatenate([test, rest]).astype(np.int64)
    features, logp = _features(model, inputs, corpus, chosen, config, device)
    features = features.astype(np.float32)
    utterances = [corpus.utterances[i] for i in chosen]
    role = np.array(
        [
            TEST if u.speaker in fold.test else VALIDATION if u.speaker in validation else TRAINING
            for u in utterances
        ],
        np.uint8,
    )
    arrays = {
        "points.features": features,
        "points.label": corpus.labels[chosen].astype(np.int16),
        "points.prediction": logp.argmax(axis=1).astype(np.int16),
        "points.role": role,
    }
    coordinates = embedding.tsne(features)
    if coordinates is not None:
        arrays["points.coordinates"] = coordinates
    return {
        "utterances": [u.utterance for u in utterances],
        "speakers": {"test": list(fold.test), "validation": validation, "training": training},
    }, arrays
