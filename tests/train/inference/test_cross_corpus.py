"""A run's networks on another corpus."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus_factory import CLASSES, request, utterances, write_features
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.inference import cross_corpus
from mfhca_train.inference.cross_corpus import Evaluation
from mfhca_train.inference.ensemble import Ensemble, read_run
from mfhca_train.inference.output import evaluation_table
from mfhca_train.inference.recipes import features_command
from mfhca_train.model.saved import load_network
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.training.evaluate import evaluate

OTHER = {
    "anger": "wrath",
    "joy": "joy",
    "neutral": "neutral",
    "sorrow": "boredom",
}  # what the other corpus calls them


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds with two seeds each on the small corpus; the last speaker is in none of their data."""
    folder = tmp_path_factory.mktemp("run")
    wanted = request(
        folder, utterances(4), {"train.epochs": "12", "train.lr": "1e-2"}, folds=("s0", "s1"), seeds=(0, 1)
    )
    cross_validate(wanted)
    return wanted.out


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Manifest and cache of three other speakers, who name their classes in another way."""
    folder = tmp_path_factory.mktemp("other")
    rows = [u for u in utterances(7) if u.speaker in ("s4", "s5", "s6")]
    write_features(folder / "cache", rows)
    renamed = [replace(u, emotion=OTHER[u.emotion]) for u in rows]
    write_manifest(folder / "other.csv", renamed)
    return folder / "other.csv", folder / "cache"


def scored(run: Path, other: tuple[Path, Path], **given: str) -> Evaluation:
    torch.set_num_threads(1)
    return cross_corpus.evaluate(read_run(run), *other, given={"wrath": "anger", **given})


def test_the_figures_are_those_of_an_independent_count(run: Path, other: tuple[Path, Path]) -> None:
    found = scored(run, other)
    results = found.results
    rows = list(csv.DictReader(io.StringIO(found.predictions)))
    labels, guess = [row["label"] for row in rows], [row["prediction"] for row in rows]
    assert len(rows) == results["n_utterances"] == 3 * 5  # one of six is bored, whom the networks do not know
    assert results["excluded"] == {"boredom": 3}
    assert results["classes_absent"] == ["sorrow"]
    assert results["map"] == {"joy": "joy", "neutral": "neutral", "wrath": "anger"}
    ensemble = results["ensemble"]
    assert ensemble["wa"]["value"] == pytest.approx(accuracy_score(labels, guess))
    present = [name for name in CLASSES if name in labels]
    recall = recall_score(labels, guess, labels=present, average="macro", zero_division=0)
    assert ensemble["ua"]["value"] == pytest.approx(recall)
    assert ensemble["confusion"] == confusion_matrix(labels, guess, labels=list(CLASSES)).tolist()
    assert ensemble["wa"]["ci95"][0] <= ensemble["wa"]["value"] <= ensemble["wa"]["ci95"][1]
    for speaker, own in results["speakers"].items():
        pairs = [(row["label"], row["prediction"]) for row in rows if row["speaker"] == speaker]
        assert own["n"] == len(pairs) == 5
        assert own["wa"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert ensemble["wa"]["value"] > 0.6  # the patterns of the classes are the same for all speakers


def test_networks_and_ensemble_are_those_of_the_units(run: Path, other: tuple[Path, Path]) -> None:
    """Each unit's network, loaded and run by itself."""
    found = scored(run, other)
    rows = list(csv.DictReader(io.StringIO(found.predictions)))
    config = read_run(run).config
    theirs = [u for u in utterances(7) if u.speaker in ("s4", "s5", "s6") and u.emotion != "sorrow"]

    raised = []
    each = {(one["fold"], one["seed"]): one for one in found.results["networks"]["each"]}
    with Corpus(choose_recipes(other[1], "both"), theirs, LabelSet("all", {n: n for n in CLASSES})) as corpus:
        everything = np.arange(len(theirs))
        for seed in (0, 1):
            for fold in ("s0", "s1"):
                network, inputs = load_network(run / f"model/seed-{seed}/fold-{fold}", config.model, 4)
                scale = inputs.normalisers
                judged = evaluate(
                    network, corpus, everything, corpus.segments(everything), scale, "cpu", "float32"
                )
                assert each[fold, seed]["wa"] == judged.scores.wa
                p = np.exp(judged.log_probabilities)
                raised.append(p / p.sum(axis=1, keepdims=True))
    expected = np.mean(raised, axis=0)
    probabilities = [[float(row[f"p_{name}"]) for name in CLASSES] for row in rows]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-9)
    values = np.array([[each[fold, seed]["wa"] for fold in ("s0", "s1")] for seed in (0, 1)])
    networks = found.results["networks"]["wa"]
    assert networks["mean"] == pytest.approx(values.mean())
    assert networks["std"] == pytest.approx(values.mean(axis=0).std(ddof=1))


def test_the_table_lists_excluded_classes(run: Path, other: tuple[Path, Path]) -> None:
    results = scored(run, other).results
    text = evaluation_table(results)
    (line,) = [line for line in text.splitlines() if line.startswith("ensemble ")]
    assert line.split()[1:] == [
        f"{100 * results['ensemble'][name]['value']:.2f}" for name in ("wa", "ua", "f1")
    ]
    for k, name in enumerate(CLASSES):
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert line.split()[1:-1] == [str(count) for count in results["ensemble"]["confusion"][k]]
    assert all(len(line) <= 40 for line in evaluation_table(results, 40).splitlines())
    assert "4 networks of 2 folds, trained on corpus" in text
    assert "scored on other, label set all: 15 utterances" in text
    assert "class names mapped: wrath as anger" in text
    assert "excluded, without a class of the networks: boredom 3" in text
    assert "predicting one is an error: sorrow" in text
    mapped = evaluation_table(scored(run, other, boredom="sorrow").results)
    assert "excluded" not in mapped
    assert "is an error" not in mapped


def test_audio_that_a_network_has_heard_is_refused(run: Path, tmp_path: Path) -> None:
    """Under another name too: what counts is the audio."""
    own = run.parent
    with pytest.raises(MfhcaError, match=r"networks of .* were trained or selected on 24 of 24 utterances"):
        cross_corpus.evaluate(read_run(run), own / "corpus.csv", own / "cache")
    rows = [u for u in utterances(4) if u.speaker == "s0"]
    write_features(tmp_path / "cache", rows)
    write_manifest(tmp_path / "held.csv", rows)
    alone = read_run(run).of_folds(["s0"])  # whose networks never met s0
    assert (
        cross_corpus.evaluate(alone, tmp_path / "held.csv", tmp_path / "cache").results["n_utterances"] == 6
    )


def test_other_audio_under_the_ids_and_speakers_of_training_is_warned_of(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As of the training corpus at another sample rate, which no digest recognises."""
    rows = utterances(4)
    write_features(tmp_path / "cache", rows, version={u.utterance: 1 for u in rows})
    write_manifest(tmp_path / "copy.csv", rows)
    with caplog.at_level("WARNING", "mfhca"):
        cross_corpus.evaluate(read_run(run), tmp_path / "copy.csv", tmp_path / "cache")
    assert (
        "the ids and speakers of 24 of 24 utterances are those of utterances that networks were trained"
        in caplog.text
    )
    caplog.clear()
    renamed = [replace(u, utterance=f"x{u.utterance}") for u in rows]
    write_manifest(tmp_path / "corpus.csv", renamed)
    write_features(tmp_path / "renamed", renamed)
    with caplog.at_level("WARNING", "mfhca"):
        cross_corpus.evaluate(read_run(run), tmp_path / "corpus.csv", tmp_path / "renamed")
    assert "trained on a corpus of the same name, corpus" in caplog.text


def test_missing_features_name_the_command(run: Path, other: tuple[Path, Path], tmp_path: Path) -> None:
    def of(ensemble: Ensemble, **fields: object) -> Ensemble:
        first = ensemble.members[0]
        recipes = {**first.inputs.recipes, "ssl": {**first.inputs.recipes["ssl"], **fields}}
        return replace(ensemble, members=(replace(first, inputs=replace(first.inputs, recipes=recipes)),))

    ensemble = read_run(run)
    with pytest.raises(
        MfhcaError, match=r"no logspec and ssl features .*; run\n.*--kind logspec --kind ssl --backbone ENC"
    ):
        cross_corpus.evaluate(ensemble, other[0], tmp_path / "empty", given={"wrath": "anger"})
    changed = of(ensemble, layer=6, tail="drop")
    assert features_command(changed, Path("x.csv"), Path("c"), "four") == (
        "mfhca-cache features x.csv --root DIR --cache c --kind logspec --kind ssl --backbone ENCODER "
        "--label-set four --dtype float32 --tail drop --layer 6"
    )
    with pytest.raises(
        MfhcaError,
        match=r"no ssl features of the recipe .*\n.*\n  ssl-\w+ differs: .*layer: -1 in the cache, 6 in the run",
    ):
        cross_corpus.evaluate(changed, other[0], other[1], given={"wrath": "anger"})


def test_damage_and_nothing_to_score_are_named(run: Path, tmp_path: Path) -> None:
    rows = [u for u in utterances(6) if u.speaker == "s5"]
    write_features(tmp_path / "cache", rows)
    write_manifest(tmp_path / "one.csv", [u for u in rows if u.emotion == "sorrow"])
    with pytest.raises(MfhcaError, match="no class of the corpus"):
        cross_corpus.evaluate(read_run(run), tmp_path / "one.csv", tmp_path / "cache", given={"sorrow": ""})
    shard = next((tmp_path / "cache").glob("ssl-*/*.h5"))
    data = bytearray(shard.read_bytes())
    data[-9] ^= 1
    shard.write_bytes(data)
    with pytest.raises(MfhcaError, match=r"\.h5"):
        cross_corpus.evaluate(read_run(run), tmp_path / "one.csv", tmp_path / "cache")
