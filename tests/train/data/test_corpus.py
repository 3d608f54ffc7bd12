from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus_factory import CLASSES, SPEC, SSL, manifest_of, request, utterances, write_features

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.recipe.folder import folder_for
from mfhca_train.data.corpus import Corpus
from mfhca_train.data.inputs import choose_recipes


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return request(tmp_path).cache


def open_corpus(cache: Path, rows: list | None = None, inputs: str = "both") -> Corpus:
    rows = utterances() if rows is None else rows
    return Corpus(choose_recipes(cache, inputs), rows, LabelSet("x", {c: c for c in CLASSES}))


def test_batches_hold_the_stored_values_normalised_and_in_order(cache: Path) -> None:
    with open_corpus(cache) as corpus:
        chosen = corpus.of_speakers(["s1", "s3"])
        segments = corpus.segments(chosen)
        scale = {side: corpus.normaliser(side, "standard", chosen) for side in ("spec", "ssl")}
        order = np.random.default_rng(0).permutation(len(segments))
        batches = list(corpus.batches(segments, order, 4, scale))
        assert [len(b.label) for b in batches] == [4] * (len(order) // 4) + [len(order) % 4] * (
            len(order) % 4 > 0
        )
        at = 0
        for batch in batches:
            for b in range(len(batch.label)):
                segment = order[at]
                u = chosen[segments.utterance[segment]]
                step = segment - np.flatnonzero(segments.utterance == segments.utterance[segment])[0]
                for side, found in (("spec", batch.spec[b, 0]), ("ssl", batch.ssl[b])):
                    shard, first, _ = corpus.features[side].rows(corpus.utterances[u].utterance)
                    stored = corpus.features[side].gather(np.array([shard]), np.array([first + step]))[0]
                    expected = stored * scale[side].scale + scale[side].shift
                    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)
                assert batch.label[b] == corpus.labels[u]
                at += 1


def test_segments_of_an_utterance_are_consecutive_and_complete(cache: Path) -> None:
    with open_corpus(cache) as corpus:
        chosen = np.arange(len(corpus.utterances))
        segments = corpus.segments(chosen)
        expected = [1 + int(u.utterance[-1]) % 2 for u in corpus.utterances]
        assert np.bincount(segments.utterance).tolist() == expected
        assert (np.diff(segments.utterance) >= 0).all()


def test_utterances_outside_the_manifest_change_nothing(tmp_path: Path) -> None:
    rows = utterances()
    plain, with_more = tmp_path / "a", tmp_path / "b"
    write_features(plain, rows)
    write_features(with_more, utterances(extra_label="fru"))
    found = []
    for cache in (plain, with_more):
        with open_corpus(cache, rows) as corpus:
            chosen = np.arange(len(rows))
            segments = corpus.segments(chosen)
            scale = {side: corpus.normaliser(side, "standard", chosen) for side in ("spec", "ssl")}
            batches = list(corpus.batches(segments, np.arange(len(segments)), 7, scale))
            found.append((corpus.digest(), batches))
    assert found[0][0] == found[1][0]
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(a.spec, b.spec)
        assert torch.equal(a.ssl, b.ssl)


def test_one_input_opens_one_kind(cache: Path) -> None:
    with open_corpus(cache, inputs="ssl") as corpus:
        assert set(corpus.features) == {"ssl"}
        batch = next(corpus.batches(corpus.segments(np.arange(3)), np.arange(3), 3, {"ssl": None}))
        assert batch.spec is None


def test_the_digest_follows_the_audio(tmp_path: Path) -> None:
    rows = utterances()
    for name, version in (("a", {}), ("b", {"s1_0": 1})):
        write_features(tmp_path / name, rows, version=version)
    digests = []
    for name in ("a", "b"):
        with open_corpus(tmp_path / name) as corpus:
            digests.append(corpus.digest())
    assert digests[0] != digests[1]


def test_missing_utterances_are_counted_and_named(cache: Path) -> None:
    rows = utterances(each=8)
    with pytest.raises(
        MfhcaError, match=r"no features of 8 of 32 utterances.*mfhca-cache features(.|\n)*s0_6"
    ):
        open_corpus(cache, rows)


def test_a_missing_shard_is_named_with_the_remedy(cache: Path) -> None:
    (folder_for(cache, SSL) / "s2.h5").unlink()
    with pytest.raises(MfhcaError, match="no features of speaker s2; run `mfhca-cache features MANIFEST "):
        open_corpus(cache)


def test_a_shard_of_another_recipe_is_refused(cache: Path) -> None:
    spec, ssl = folder_for(cache, SPEC), folder_for(cache, SSL)
    (ssl / "s2.h5").write_bytes((spec / "s2.h5").read_bytes())
    with pytest.raises(MfhcaError, match="expected"):
        open_corpus(cache)


def test_kinds_from_different_audio_are_refused(tmp_path: Path) -> None:
    rows = utterances()
    write_features(tmp_path / "a", rows)
    write_features(tmp_path / "b", rows, version={"s1_0": 1})
    target, source = folder_for(tmp_path / "a", SSL), folder_for(tmp_path / "b", SSL)
    (target / "s1.h5").write_bytes((source / "s1.h5").read_bytes())
    with pytest.raises(MfhcaError, match=r"utterance s1_0 \(s1_0\.wav\): .* different audio"):
        open_corpus(tmp_path / "a")


def test_a_speaker_that_changed_in_the_manifest_is_refused(cache: Path) -> None:
    rows = [replace(u, speaker="s1") if u.utterance == "s0_0" else u for u in utterances()]
    with pytest.raises(MfhcaError, match=r"the manifest says speaker s1, the cache s0"):
        open_corpus(cache, rows)


def test_a_shard_replaced_after_the_check_is_refused(cache: Path) -> None:
    with open_corpus(cache) as corpus:
        stats = {str(s.path): s.stat for s in corpus.shards}
        corpus.expect_unchanged(stats)
        path = corpus.shards[0].path
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    with open_corpus(cache) as corpus, pytest.raises(MfhcaError, match="changed while the run was starting"):
        corpus.expect_unchanged(stats)


def test_manifest_of_the_factory_is_valid(tmp_path: Path) -> None:
    request(tmp_path)
    assert manifest_of(tmp_path).label_set().classes == CLASSES
