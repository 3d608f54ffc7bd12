"""The analysis of one row: its networks are run on the speakers they were not trained on.

Measures of every fold: silhouettes, attention on padding, how concentrated attention is and whether it follows
the level, and how much the gates vary. The selected fold also gives the data of the figures: features and t-SNE
of its test speakers and of a sample of its other speakers, and the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfhca_cache.common.hardware import resolve_device
from mfhca_cache.recipe.kinds import External
from mfhca_train.analysis import attention, embedding, examples, probe
from mfhca_train.analysis.selection import Selection, TrainedRow
from mfhca_train.analysis.stored import TEST, TRAINING, VALIDATION, Axes, FoldMeasures, Measures, Points
from mfhca_train.config.settings import Config
from mfhca_train.data.batch import Array
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import Fold
from mfhca_train.model.fusion import TIME, attention_of
from mfhca_train.model.saved import Inputs, load_network
from mfhca_train.results.metrics import mean_over_segments
from mfhca_train.training import process

MAX_POINTS = 400  # of the test speakers, and as many of the others: more would overlap in a figure


@dataclass(frozen=True)
class FoldRun:
    """A fold's network with the corpus it is run on."""

    network: probe.Network
    corpus: Corpus
    fold: Fold
    config: Config

    def features(self, utterances: Array) -> tuple[Array, Array]:
        """Final features (n, d) and log-probabilities (n, K) of utterances: means over their segments."""
        segments = self.corpus.segments(utterances)
        outputs = list(probe.run_segments(self.network, self.corpus, segments))
        features = np.concatenate([one.features for one in outputs])
        logp = np.concatenate([one.log_probabilities for one in outputs])
        count = len(utterances)
        return (
            mean_over_segments(features, segments.utterance, count),
            mean_over_segments(logp, segments.utterance, count),
        )


def measure_row(
    corpus: Corpus,
    row: TrainedRow,
    selection: Selection,
    device: str,
    roots: Mapping[str, Path] | None = None,
    on_fold: Callable[[], Any] = lambda: None,
) -> tuple[Measures, dict[str, Array]]:
    """Computes the analysis of a row.

    Args:
        corpus: the row's open features.
        row: the row and its units.
        selection: the fold and the utterances of the figures.
        device: auto, cpu, cuda or mps.
        roots: folders of the audio by corpus, for waveforms; see `analyse_rows`.
        on_fold: called after each fold.

    Returns:
        The measures, and the arrays of the figures by name.
    """
    process.prepare_process(row.threads)
    device = resolve_device(device)
    config, precision = row.config, row.config.train.precision
    weights = attention_of(config.model)
    measures: Measures = {
        "classes": list(corpus.classes),
        "seed": row.seed,
        "protocol": row.protocol,
        "config": config.to_dict(),
        "attended": weights.over if weights else None,
        "weights": weights.description if weights else None,
        "folds": [],
    }
    arrays: dict[str, Array] = {}
    for fold, folder in row.units:
        model, inputs = load_network(folder, config.model, len(corpus.classes), device)
        run = FoldRun(probe.Network(model, inputs.normalisers, device, precision), corpus, fold, config)
        measures["folds"].append(measure_fold(run))
        if fold.id == selection.fold:
            points, arrays = points_of(run)
            on_cpu, _ = load_network(folder, config.model, len(corpus.classes))
            network = probe.Network(on_cpu, inputs.normalisers, "cpu", precision)
            shown, example_arrays = examples.examples(network, corpus, selection.utterances)
            waves = examples.waveforms(corpus, selection.utterances, roots) if roots and shown else {}
            arrays |= example_arrays | waves
            measures |= {
                "fold": fold.id,
                "points": points,
                "examples": shown,
                "waveforms": bool(waves) if shown else None,
            }
            if "spec" in inputs.recipes:
                measures["spec"] = _axes(inputs)
        on_fold()
    return measures, arrays


def _axes(inputs: Inputs) -> Axes:
    """The axes of the spectrogram."""
    recipe = inputs.recipes["spec"]
    rate = recipe["sample_rate"]
    if recipe["kind"] == External.kind:
        width = float(inputs.shapes["spec"][-1])
        return {"seconds": recipe["segment_samples"] / rate, "kind": recipe["kind"], "top_khz": width}
    linear = recipe["kind"] == "logspec"
    return {
        "seconds": recipe["frames"] * recipe["hop_samples"] / rate,
        "kind": recipe["kind"],
        "top_khz": recipe["bins"] * rate / recipe["dft"] / 1000 if linear else recipe["high_hz"] / 1000,
    }


def measure_fold(run: FoldRun) -> FoldMeasures:
    """Attention and gates on a fold's test speakers, and silhouettes, also of its validation speakers."""
    corpus, over_time = run.corpus, False
    test = corpus.of_fold(run.fold, "test")
    segments = corpus.segments(test)
    if kind := attention_of(run.config.model):
        over_time = kind.over == TIME
    features: list[Array] = []
    values: dict[str, list[Array]] = {name: [] for name in ("mass", "share", "frames", "level")}
    gates: list[tuple[list[Array], list[Array]]] = []  # per GRF block: percentiles, correlations
    for output in probe.run_segments(run.network, corpus, segments):
        features.append(output.features)
        if output.weights is not None and over_time:
            valid = segments.valid["ssl"][output.segments]
            mass, share = attention.padding_mass(output.weights, valid)
            stored = examples.stored_spec(corpus, segments, output.segments)
            levels = attention.level(stored, examples.in_decibels(corpus))
            values["mass"].append(mass)
            values["share"].append(share)
            values["frames"].append(attention.effective_frames(output.weights, valid))
            values["level"].append(attention.level_correlation(output.weights, valid, levels))
        elif output.weights is not None:
            every = np.full(len(output.weights), output.weights.shape[1])
            values["frames"].append(attention.effective_frames(output.weights, every))
        gates = gates or [([], []) for _ in output.gates]
        cells: dict[
            tuple[int, ...], Array
        ] = {}  # the spectrogram at the sizes of the maps; most blocks share one
        for (percentiles, correlations), (g_h, g_w) in zip(gates, output.gates, strict=True):
            if output.spec is not None:
                maps = attention.gate_map(g_h, g_w)
                height, width = maps.shape[1:]
                if (height, width) not in cells:
                    cells[height, width] = attention.resized(output.spec, height, width)
                valid, frames = segments.valid["spec"][output.segments], output.spec.shape[1]
                ends, follows = attention.gate_measures(maps, cells[height, width], valid, frames)
                percentiles.append(ends)
                correlations.append(follows)
    per_utterance = mean_over_segments(np.concatenate(features), segments.utterance, len(test))
    return {
        "id": run.fold.id,
        "utterances": len(test),
        "segments": len(segments),
        "silhouette": _silhouettes(run, test, per_utterance),
        "attention": {name: attention.mean_and_count(parts) for name, parts in values.items()},
        "gates": [
            {
                "low": float(np.concatenate(percentiles)[:, 0].mean()),
                "high": float(np.concatenate(percentiles)[:, 1].mean()),
                "spec": attention.mean_and_count(correlations),
            }
            for percentiles, correlations in gates
        ],
    }


def _silhouettes(run: FoldRun, test: Array, test_features: Array) -> dict[str, float | None]:
    """By class for the test speakers; by class and by speaker for test and validation speakers."""
    corpus, fold = run.corpus, run.fold
    validation = np.setdiff1d(corpus.of_fold(fold, "validation"), test)
    features = test_features
    if len(validation):
        features = np.concatenate([test_features, run.features(validation)[0]])
    unseen = np.concatenate([test, validation]).astype(np.int64)
    names = sorted({u.speaker for u in corpus.utterances})
    speakers = np.array([names.index(corpus.utterances[i].speaker) for i in unseen])
    return {
        "class_test": embedding.silhouette(test_features, corpus.labels[test]),
        "class_unseen": embedding.silhouette(features, corpus.labels[unseen]),
        "speaker_unseen": embedding.silhouette(features, speakers),
    }


def points_of(run: FoldRun) -> tuple[Points, dict[str, Array]]:
    """Features of the test utterances and of a sample of the others, from one network, and their t-SNE."""
    corpus, fold = run.corpus, run.fold
    random = np.random.default_rng(embedding.SEED)
    validation = sorted(set(fold.validation) - set(fold.test))
    training = sorted(set(fold.train) - set(fold.test) - set(validation))
    test, validating = corpus.of_fold(fold, "test"), corpus.of_fold(fold, "validation")
    parts = test, np.setdiff1d(corpus.of_fold(fold, "validation", "train"), test)
    samples = [
        np.sort(random.choice(part, MAX_POINTS, replace=False)) if len(part) > MAX_POINTS else part
        for part in parts
    ]
    indices = np.concatenate(samples).astype(np.int64)
    means, logp = run.features(indices)
    features = means.astype(np.float32)
    utterances = [corpus.utterances[i] for i in indices]
    roles = np.where(
        np.isin(indices, test), TEST, np.where(np.isin(indices, validating), VALIDATION, TRAINING)
    )
    arrays = {
        "points.features": features,
        "points.label": corpus.labels[indices].astype(np.int16),
        "points.prediction": logp.argmax(axis=1).astype(np.int16),
        "points.role": roles.astype(np.uint8),
    }
    coordinates = embedding.tsne(features)
    if coordinates is not None:
        arrays["points.coordinates"] = coordinates
    return {
        "utterances": [u.utterance for u in utterances],
        "speakers": {"test": list(fold.test), "validation": validation, "training": training},
    }, arrays
