"""Datasets for models of one's own: the trainer's numbers, in any process, and nothing of a test speaker."""

from __future__ import annotations

import gc
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import layer_factory
import numpy as np
import pytest
import torch
from corpus_factory import CLASSES, SPEC, SSL, SSL_SHAPE, request, utterances, write_features
from corpus_factory import _features as features_of
from torch.utils.data import DataLoader, default_collate

from mfhca_cache import Features, MfhcaError, find_recipe, write_manifest
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.recipe.folder import folder_for
from mfhca_cache.store.writer import ShardWriter
from mfhca_train import FeatureDataset, collate, fold_datasets, make_folds, utterance_features
from mfhca_train.config.settings import Config, TrainConfig
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.folds import PROTOCOLS
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.training.fit import normalisers

AS_TRAINER = {"spec": "standard", "ssl": "none"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with corpus.csv and cache/ of six speakers in three sessions; not to be written to."""
    made = tmp_path_factory.mktemp("corpus")
    request(made, utterances(speakers=6, sessions=True))
    return made


@pytest.fixture(scope="module")
def dataset(folder: Path) -> FeatureDataset:
    return FeatureDataset(folder / "corpus.csv", folder / "cache")


def content(dataset: Any) -> list[tuple[Any, ...]]:
    """Every item in a form that can be compared."""
    return [
        (
            {side: (values.shape, values.numpy().tobytes()) for side, values in item.features.items()},
            item.valid,
            item.label,
            item.speaker,
            item.utterance,
        )
        for item in (dataset[index] for index in range(len(dataset)))
    ]


def equal(first: Any, second: Any) -> bool:
    """Whether all fields of two batches are equal, to the bit."""
    return (
        all(
            torch.equal(getattr(first, name)[side], values)
            for name in ("features", "valid")
            for side, values in getattr(second, name).items()
        )
        and first.label.tolist() == second.label.tolist()
        and [*map(list, first[3:])] == [*map(list, second[3:])]
    )


def test_items_are_the_segments_as_stored(folder: Path, dataset: FeatureDataset) -> None:
    at = 0
    for u in utterances(speakers=6, sessions=True):
        for side, kind in (("spec", "logspec"), ("ssl", "ssl")):
            with Features.open(find_recipe(folder / "cache", kind), [u.speaker]) as features:
                values, valid = features.utterance(u.utterance)
            for step, (segment, frames) in enumerate(zip(values, valid, strict=True)):
                item = dataset[at + step]
                assert item.features[side].numpy().tobytes() == segment.tobytes()
                assert item.valid[side] == frames
                assert (item.speaker, item.utterance) == (u.speaker, u.utterance)
                assert dataset.classes[item.label] == u.emotion
        at += len(values)
    assert len(dataset) == at
    assert dataset.speakers == [item.speaker for item in map(dataset.__getitem__, range(at))]
    assert dataset.shapes == {"spec": (24, 16), "ssl": (12, 32)}
    assert dataset[-1].utterance == dataset.utterances[-1]
    with pytest.raises(IndexError, match=f"item {at} of {at}"):
        _ = dataset[at]


def test_batches_are_the_trainers_to_the_bit(folder: Path) -> None:
    train = fold_datasets(folder / "corpus.csv", folder / "cache", "strict", "s1", norm=AS_TRAINER).train
    label_set = LabelSet("x", {name: name for name in CLASSES})
    rows = utterances(speakers=6, sessions=True)
    with Corpus(choose_recipes(folder / "cache", "both"), rows, label_set) as corpus:
        fold = next(f for f in make_folds(rows, "strict") if f.id == "s1")
        chosen = corpus.of_fold(fold, "train")
        segments = corpus.segments(chosen)
        order = np.random.default_rng(0).permutation(len(segments))
        ours = DataLoader(train, batch_size=8, sampler=order.tolist(), collate_fn=collate)
        theirs = corpus.batches(segments, order, 8, normalisers(corpus, chosen, Config()))
        for mine, reference in zip(ours, theirs, strict=True):
            assert torch.equal(mine.features["spec"], reference.spec[:, 0])
            assert torch.equal(mine.features["ssl"], reference.ssl)
            assert torch.equal(mine.valid["ssl"], reference.ssl_valid)
            assert torch.equal(mine.label, reference.label)


def test_scaling_is_over_the_valid_frames_of_the_training_speakers(folder: Path) -> None:
    train, validation, _ = fold_datasets(folder / "corpus.csv", folder / "cache", "strict", "s2")
    raw = FeatureDataset(folder / "corpus.csv", folder / "cache", speakers=set(train.speakers))
    pairs = [(raw[index], train[index]) for index in range(len(raw))]
    for side in ("spec", "ssl"):
        frames = torch.cat([a.features[side][: a.valid[side]] for a, _ in pairs]).double()
        mean, deviation = frames.mean(dim=0), frames.std(dim=0, unbiased=False)
        for a, b in pairs:
            torch.testing.assert_close(
                b.features[side].double(), (a.features[side] - mean) / deviation, atol=1e-4, rtol=0
            )
    assert {*validation.speakers} == {"s3"}, "the rest of the session"
    smallest = fold_datasets(folder / "corpus.csv", folder / "cache", "strict", "s2", norm="minmax").train
    values = torch.cat(
        [
            item.features["spec"][: item.valid["spec"]]
            for item in map(smallest.__getitem__, range(len(smallest)))
        ]
    )
    torch.testing.assert_close(values.amin(dim=0), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.amax(dim=0), torch.ones(16), atol=1e-5, rtol=0)


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name not in ("column", "corpus")])
def test_sides_are_those_of_the_fold_and_disjoint(folder: Path, protocol: str) -> None:
    config = TrainConfig(groups=3)
    fold = make_folds(utterances(speakers=6, sessions=True), protocol, config)[0]
    sides = fold_datasets(
        folder / "corpus.csv", folder / "cache", protocol, fold.id, config=config, inputs="ssl"
    )
    train, validation, test = (set(side.utterances) for side in sides)
    assert [{*side.speakers} for side in sides] == [{*fold.train}, {*fold.validation}, {*fold.test}]
    assert not train & (validation | test)
    assert validation == test if protocol.startswith("oracle") else not validation & test


@pytest.mark.parametrize("what", ["labels", "features"])
def test_nothing_of_the_test_speaker_reaches_the_other_sides(tmp_path: Path, what: str) -> None:
    """Its labels are dealt again, or its features become noise; train and validation stay, bit for bit."""
    rows = utterances(speakers=6)
    changed, noise = rows, None
    if what == "labels":
        own = [u.emotion for u in rows if u.speaker == "s3"]
        random.Random(1).shuffle(own)
        assert own != [u.emotion for u in rows if u.speaker == "s3"]
        dealt = iter(own)
        changed = [replace(u, emotion=next(dealt)) if u.speaker == "s3" else u for u in rows]
    else:
        noise = "s3"
    found = []
    for name, these, noisy in (("a", rows, None), ("b", changed, noise)):
        (tmp_path / name).mkdir()
        write_manifest(tmp_path / name / "corpus.csv", these)
        write_features(tmp_path / name / "cache", rows, noisy)
        sides = fold_datasets(tmp_path / name / "corpus.csv", tmp_path / name / "cache", "strict", "s3")
        found.append([content(side) for side in sides])
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2]


def test_an_official_split_is_followed(tmp_path: Path) -> None:
    """Also where it puts a speaker on two sides, if that is accepted."""
    rows = [replace(u, fold=("train", "train", "test")[i % 3]) for i, u in enumerate(utterances(each=6))]
    request(tmp_path, rows)
    arguments = (tmp_path / "corpus.csv", tmp_path / "cache", "column")
    fold = make_folds(rows, "column", TrainConfig(shared_speakers=True))[0]
    sides = fold_datasets(*arguments, fold.id, config=TrainConfig(shared_speakers=True), inputs="ssl")
    assert set(sides.test.utterances) == {u.utterance for u in rows if u.fold == "test"}
    assert not set(sides.test.utterances) & set(sides.train.utterances)
    with pytest.raises(MfhcaError, match="protocol column"):
        fold_datasets(*arguments, fold.id)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_give_the_same_batches(folder: Path, method: str) -> None:
    train = fold_datasets(folder / "corpus.csv", folder / "cache", "strict", "s0").train
    options: dict[str, Any] = {"batch_size": 16, "collate_fn": collate}
    ours = list(DataLoader(train, **options))
    theirs = list(DataLoader(train, num_workers=1, multiprocessing_context=method, **options))
    assert len(ours) == len(theirs) > 1
    assert all(equal(mine, their) for mine, their in zip(ours, theirs, strict=True))


def test_a_copy_notices_that_the_cache_has_changed(tmp_path: Path) -> None:
    rows = utterances()
    places = request(tmp_path, rows)
    kept = FeatureDataset(places.manifest, places.cache)
    copy = pickle.loads(pickle.dumps(kept))
    assert content(copy) == content(kept)
    late = pickle.loads(pickle.dumps(kept))
    shard = folder_for(places.cache, SPEC) / "s1.h5"
    shard.write_bytes(shard.read_bytes())
    with pytest.raises(MfhcaError, match=r"s1\.h5: changed since the Dataset was made; make it again"):
        _ = late[0]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_files_are_closed_with_the_last_dataset(folder: Path) -> None:
    gc.collect()
    before = open_files()
    sides = fold_datasets(folder / "corpus.csv", folder / "cache", "strict", "s0")
    assert open_files() == before + 12, "six speakers, two kinds"
    test = sides.test
    del sides
    gc.collect()
    assert test[0].speaker == "s0"
    del test
    gc.collect()
    assert open_files() == before


def test_collate_takes_items_that_a_program_has_changed(dataset: FeatureDataset) -> None:
    items = dataset.__getitems__([3, 1, 2])
    batch = collate(items)
    assert equal(batch, collate(list(items)))
    assert equal(batch, default_collate(list(items)))
    assert batch.features["spec"].shape == (3, 24, 16)
    assert batch.utterance == [dataset.utterances[index] for index in (3, 1, 2)]
    doubled = [item._replace(features={"ssl": 2 * item.features["ssl"]}, label=0) for item in items]
    changed = collate(doubled)
    assert torch.equal(changed.features["ssl"], 2 * batch.features["ssl"])
    assert changed.label.tolist() == [0, 0, 0]
    assert set(changed.features) == {"ssl"}


def test_all_layers_or_one(tmp_path: Path) -> None:
    manifest = layer_factory.write_corpus(tmp_path)
    layer_factory.write_hidden_states(tmp_path / "cache")
    options: dict[str, Any] = {"inputs": "ssl", "norm": "standard", "norm_speakers": ["s1", "s2"]}
    every = FeatureDataset(manifest, tmp_path / "cache", **options)
    assert every.shapes["ssl"] == (4, 10, 12)
    for layer in (0, 2):
        one = FeatureDataset(manifest, tmp_path / "cache", ssl_layer=layer, **options)
        for index in (0, 5):
            torch.testing.assert_close(one[index].features["ssl"], every[index].features["ssl"][layer])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"speakers": ["s9"]}, "no speaker 's9'; "),
        ({"speakers": []}, "speakers is empty"),
        ({"norm": "standard"}, "norm='standard' needs norm_speakers"),
        ({"norm": "standart"}, "norm: 'standart' does not exist; did you mean standard"),
        ({"norm": {"mfcc": "none"}}, "norm: no input 'mfcc' is read"),
        ({"norm": "minmax", "norm_speakers": ["x"]}, "no speaker 'x'"),
        ({"inputs": "spectrogram"}, r"model\.inputs = 'spectrogram' does not fit: expected both\|spec\|ssl"),
        ({"label_set": "six"}, "no label set 'six'"),
        ({"mfcc": True}, "no mfcc features"),
        ({"ssl_layer": 3}, "holds only layer -1"),
    ],
)
def test_wrong_arguments_are_errors(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MfhcaError, match=message):
        FeatureDataset(folder / "corpus.csv", folder / "cache", **arguments)


def test_an_unknown_fold_lists_those_there_are(folder: Path) -> None:
    with pytest.raises(MfhcaError, match="no fold is called 's9'; there are: s0, s1"):
        fold_datasets(folder / "corpus.csv", str(folder / "cache"), "strict", "s9")


def test_a_recording_of_two_speakers_is_refused(tmp_path: Path) -> None:
    rows = utterances()
    places = request(tmp_path, rows)
    shard = folder_for(places.cache, SSL) / "s1.h5"
    shard.unlink()
    with ShardWriter(shard.parent, SSL.key, "ssl", "s1", SSL_SHAPE, SSL.dtype) as writer:
        for u in rows[6:12]:  # the first of s1 is the first of s0 again
            _, _, values, valid = features_of(rows[0] if u is rows[6] else u, "ssl", SSL_SHAPE, False, {})
            writer.append(u.utterance, features_of(u, "ssl", SSL_SHAPE, False, {})[1], values, valid)
        writer.finish(None, (), {})
    arguments: dict[str, Any] = {"inputs": "ssl"}
    with pytest.raises(MfhcaError, match="s0_0"):
        FeatureDataset(places.manifest, places.cache, **arguments)
    with pytest.raises(MfhcaError, match="s1_0"):
        utterance_features(places.manifest, places.cache)
    assert len(FeatureDataset(places.manifest, places.cache, accept_copies=True, **arguments)) > 0


def test_the_checks_of_a_run_are_made(tmp_path: Path) -> None:
    rows = utterances()
    places = request(tmp_path, rows)
    write_manifest(places.manifest, [*rows, replace(rows[0], utterance="new_0", path="new.wav")])
    with pytest.raises(MfhcaError, match="no features of 1 of 25 utterances"):
        FeatureDataset(places.manifest, places.cache)
    write_manifest(
        places.manifest, [replace(rows[0], path="s0_1.wav"), replace(rows[1], path="s0_0.wav"), *rows[2:]]
    )
    with pytest.raises(MfhcaError, match="were computed from other files"):
        fold_datasets(places.manifest, places.cache, "strict", "s0")
