"""Features in a device's memory are those of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from corpus_factory import CLASSES, request, utterances

from mfhca_cache.manifest.card import LabelSet
from mfhca_train.data import on_device
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return request(tmp_path).cache


def open_corpus(cache: Path, rows: list | None = None, inputs: str = "both") -> Corpus:
    rows = utterances() if rows is None else rows
    return Corpus(choose_recipes(cache, inputs), rows, LabelSet("x", {c: c for c in CLASSES}))


def segments_of(corpus: Corpus, side: str) -> np.ndarray:
    return corpus.segments(np.arange(len(corpus.utterances))).rows[side].T


def test_features_on_the_device_give_the_same_batches_without_the_files(cache: Path) -> None:
    with open_corpus(cache, utterances()[3:-2]) as corpus:
        chosen = corpus.of_speakers(["s1", "s2"])
        segments = corpus.segments(chosen)
        scale = {side: corpus.normaliser(side, "standard", chosen) for side in ("spec", "ssl")}
        order = np.random.default_rng(1).permutation(len(segments))
        read = list(corpus.batches(segments, order, 4, scale))
        held = sum(f.gather(*segments_of(corpus, side)).nbytes for side, f in corpus.features.items())
        assert corpus.stored_bytes() == held
        corpus.copy_to("cpu")
        for features in corpus.features.values():
            features.close()  # nothing may be read any more
        for a, b in zip(read, corpus.batches(segments, order, 4, scale), strict=True):
            assert torch.equal(a.spec, b.spec)
            assert torch.equal(a.ssl, b.ssl)


def test_chunks_are_copied_in_order_and_other_segments_are_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "CHUNK", 3)
    with open_corpus(cache) as corpus:
        features, rows = corpus.features["ssl"], segments_of(corpus, "ssl").T
        rows = np.random.default_rng(0).permutation(rows)
        copied = on_device.DeviceFeatures(features, rows[:-1], "cpu")
        wanted = rows[[7, 2, 2, 0]]
        found = copied.gather(copied.indices(wanted)).numpy()
        np.testing.assert_array_equal(found, features.gather(wanted[:, 0], wanted[:, 1]))
        with pytest.raises(IndexError, match="a segment is not on the device"):
            copied.indices(rows[-2:])
