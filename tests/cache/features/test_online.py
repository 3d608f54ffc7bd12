"""Features on the fly are those of a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_factory import SEGMENTS, manifest_of, sound, write_corpus
from click.testing import CliRunner

from mfhca_cache.cli import main
from mfhca_cache.common.audio_digest import digest_of
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.features.online import AudioFile, OnlineExtractor, Recording, Samples
from mfhca_cache.recipe.kinds import LogSpec
from mfhca_cache.store.reader import Features, list_recipes


@pytest.mark.parametrize("tail", ["pad", "overlap"])
def test_every_value_is_that_of_the_cache(tmp_path: Path, tail: str) -> None:
    rows = write_corpus(tmp_path / "data")
    manifest = manifest_of(tmp_path / "corpus.csv", rows)
    cache = tmp_path / "cache"
    arguments = [manifest.path, "--root", tmp_path / "data", "--cache", cache, "--tail", tail]
    kinds = [part for kind in ("logspec", "mfcc") for part in ("--kind", kind)]
    done = CliRunner().invoke(main, ["features", *map(str, arguments), *kinds])
    assert done.exit_code == 0, done.output
    recipes = list_recipes(cache)
    stream = OnlineExtractor([recipe.recipe for recipe in recipes])
    found = list(stream.run(AudioFile(tmp_path / "data" / u.path) for u in rows))
    assert [index for index, _ in found] == list(range(len(rows)))
    for recipe in recipes:
        with Features.open(recipe, "abc") as features:
            for u, (_, one) in zip(rows, found, strict=True):
                assert isinstance(one, Recording)
                shard, first, count = features.rows(u.utterance)
                cached = features.gather(np.full(count, shard), np.arange(first, first + count))
                values, valid = one.features[recipe.kind]
                np.testing.assert_array_equal(values, cached)
                assert values.dtype == cached.dtype
                np.testing.assert_array_equal(
                    valid, features.shards[shard].valid_frames[first : first + count]
                )
                assert one.digest == digest_of((tmp_path / "data" / u.path).read_bytes())
                assert count == len(one.starts) == SEGMENTS[u.utterance]
    seconds = {u.utterance: one for u, (_, one) in zip(rows, found, strict=True)}["a4"]
    assert isinstance(seconds, Recording)
    assert (seconds.seconds, seconds.starts.tolist()) == (4.5, [0, 1.5 if tail == "overlap" else 3])


def test_samples_are_heard_like_the_file_that_holds_them(tmp_path: Path) -> None:
    samples = sound("x", 3.5, 22_050, 2).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples, 22_050, subtype="FLOAT")
    stream = OnlineExtractor([LogSpec().to_dict()])
    (_, file), (_, array) = stream.run([AudioFile(tmp_path / "x.wav"), Samples(samples, 22_050, "x")])
    assert isinstance(file, Recording)
    assert isinstance(array, Recording)
    np.testing.assert_array_equal(file.features["logspec"][0], array.features["logspec"][0])
    assert file.seconds == array.seconds


def test_failures_are_told_apart_from_the_rest(tmp_path: Path) -> None:
    stream = OnlineExtractor([LogSpec().to_dict()])
    samples = sound("x", 1.0, 16_000)[:, 0]
    outcome = dict(
        stream.run([Samples(samples, 0, "never"), Samples(samples, 16_000, "good"), AudioFile(tmp_path)])
    )
    assert "never: float64 of shape (16000,) at 0 Hz" in str(outcome[0])
    assert isinstance(outcome[1], Recording)
    assert isinstance(outcome[2], MfhcaError)
    empty = dict(stream.run([Samples(np.zeros(0), 16_000, "empty")]))
    assert "empty: has no audio" in str(empty[0])


def test_channels_first_is_refused_and_silence_has_no_prediction() -> None:
    extractor = OnlineExtractor([LogSpec().to_dict()])
    samples = sound("x", 1.0, 16_000)
    result = dict(
        extractor.run(
            [
                Samples(samples.T, 16_000, "first"),
                Samples(np.zeros(16_000), 16_000, "silent"),
                Samples(np.concatenate([samples, -samples], axis=1), 16_000, "opposite"),
            ]
        )
    )
    assert "first: shape (1, 16000) has more channels than samples, expected (n, channels)" in str(result[0])
    assert "silent: a recording of digital silence; there is nothing to predict" in str(result[1])
    assert "opposite: a recording whose channels cancel each other out" in str(result[2])


def test_unusual_audio_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    extractor = OnlineExtractor([LogSpec().to_dict()])
    loud = 20.0 * sound("x", 1.0, 16_000)
    result = list(extractor.run(Samples(loud, 16_000, name) for name in ("a", "b")))
    assert all(isinstance(recording, Recording) for _, recording in result)
    assert [record.getMessage() for record in caplog.records] == [
        "a: a recording with a peak above 4 times full scale; others like it are not reported"
    ]
