"""Features of another program in a cache: segments, identity, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audio_factory import RATE as SAMPLE_RATE
from audio_factory import write_audio
from command_factory import call, done, failed
from corpus_factory import utterances
from external_factory import RATE, WIDTH, frames_of, imported, prepare

from mfhca_cache.common.audio_digest import file_digest
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.exchange.cutting import cut_frames
from mfhca_cache.exchange.external import content_digest
from mfhca_cache.exchange.frames import Frames
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import from_dict, read_recipe
from mfhca_cache.recipe.kinds import External
from mfhca_cache.store.reader import Features
from mfhca_cache.store.shard import read_shard, verify_shard


def test_segments_valid_frames_and_moments_are_as_of_any_other_kind(tmp_path: Path) -> None:
    rows = prepare(tmp_path, features=False)
    result = imported(tmp_path)
    assert (result.utterances, result.segments, result.frame_shape) == (24, 24, (24, WIDTH))
    recipe = read_recipe(result.folder)
    assert result.folder.name == f"external-other-{recipe.key}"
    with Features.open(recipe, ["s0", "s3"]) as features:
        for u in rows:
            if u.speaker in ("s0", "s3"):
                values, valid = features.utterance(u.utterance)
                assert valid.tolist() == [16]
                np.testing.assert_array_equal(values[0, :16], frames_of(u))
                assert not values[0, 16:].any()
        shard = features.shards[0]
        verify_shard(shard)
        expected = np.stack([frames_of(u).astype(np.float64).sum(axis=0) for u in rows if u.speaker == "s0"])
        np.testing.assert_allclose(shard.moments("sum"), expected, rtol=1e-12)


def recipe_of(tail: str = "pad", minimum: int = 0, rate: float = 50.0) -> External:
    return External("", rate, round(3 * rate), tail=tail, minimum_tail_samples=minimum)


@pytest.mark.parametrize("tail", ["pad", "overlap", "drop"])
@pytest.mark.parametrize("seconds", [0.5, 2.999, 3.0, 3.004, 3.5, 6.0, 7.25])
def test_frames_are_cut_where_the_audio_is_cut(tail: str, seconds: float) -> None:
    """Against the cut of the samples: each frame carries its own number, and so the time at which it begins."""
    from mfhca_cache.features.segments import cut

    recipe = recipe_of(tail)
    count = round(50 * seconds)
    numbers = np.arange(count, dtype=np.float32)
    values, valid = cut_frames(Frames(np.stack([numbers, numbers], axis=1)), seconds, recipe)
    samples = np.arange(round(16000 * seconds), dtype=np.float32)
    pieces, lengths = cut(samples, recipe.segment_samples, tail)
    assert len(values) == len(pieces)
    for k in range(len(pieces)):
        assert 1 <= valid[k] <= recipe.frames
        assert abs(valid[k] - lengths[k] / 320) <= 1
        first = min(pieces[k, 0] / 320, count - 1)  # of a tail of a few milliseconds, the last frame
        assert abs(values[k, 0, 0] - first) <= 0.5
        np.testing.assert_array_equal(np.diff(values[k, : valid[k], 0]), 1)
        assert not values[k, valid[k] :].any()


def test_segments_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = prepare(tmp_path, features=False)
    shutil.rmtree(tmp_path / "external")
    (tmp_path / "external").mkdir()
    for u in rows:
        values = np.stack([frames_of(u)] * 1)
        np.savez(tmp_path / f"external/{u.utterance}.npz", features=values, valid_frames=[7])
    result = imported(tmp_path, frame_rate=None)
    assert result.frame_shape == (16, WIDTH)
    with Features.open(result.folder, ["s1"]) as features:
        values, valid = features.utterance("s1_2")
        assert valid.tolist() == [7]
        (u,) = [u for u in rows if u.utterance == "s1_2"]
        np.testing.assert_array_equal(values[0], frames_of(u))


def test_the_content_is_the_identity_whatever_the_file(tmp_path: Path) -> None:
    """npz or npy, float32 or float64, another name or place: one recipe. One other value: another recipe."""
    for name in ("a", "b", "c"):
        prepare(tmp_path / name, features=False, suffix=".npz" if name == "b" else ".npy")
    u = utterances()[0]
    np.save(tmp_path / f"b/external/{u.utterance}.npy", 0)
    (tmp_path / f"b/external/{u.utterance}.npy").unlink()
    changed = frames_of(u)
    changed[3, 2] += 1e-3
    np.save(tmp_path / f"c/external/{u.utterance}.npy", changed)
    first, second, third = (imported(tmp_path / name, name=name).folder.name for name in ("a", "b", "c"))
    assert first.removeprefix("external-a-") == second.removeprefix("external-b-")
    assert first.removeprefix("external-a-") != third.removeprefix("external-c-")
    digests = [
        read_shard(next((tmp_path / name / "cache").glob("*/s0.h5"))).digest for name in ("a", "b", "c")
    ]
    assert digests[0] == digests[1] != digests[2]
    assert content_digest(Frames(changed)) != content_digest(Frames(frames_of(u)))


def test_a_second_import_writes_nothing_and_mends_what_is_damaged(tmp_path: Path) -> None:
    prepare(tmp_path, features=False)
    first = imported(tmp_path)
    assert (first.shards, imported(tmp_path).shards) == (4, 0)
    shard = first.folder / "s1.h5"
    digest = read_shard(shard).digest
    shard.write_bytes(shard.read_bytes()[:-1])
    assert imported(tmp_path).shards == 1
    assert read_shard(shard).digest == digest


def test_without_audio_the_digests_are_those_the_cache_has_recorded(tmp_path: Path) -> None:
    prepare(tmp_path)
    shard = read_shard(imported(tmp_path).folder / "s0.h5")
    own = read_shard(next((tmp_path / "cache").glob("logspec-*/s0.h5")))
    assert shard.audio_sha256 == own.audio_sha256
    prepare(tmp_path / "alone", features=False)
    alone = read_shard(imported(tmp_path / "alone").folder / "s0.h5")
    expected = [content_digest(Frames(frames_of(u))) for u in utterances() if u.speaker == "s0"]
    assert list(alone.audio_sha256) == expected


def test_with_audio_digests_and_lengths_are_those_of_the_files(tmp_path: Path) -> None:
    write_audio(tmp_path / "audio/a/1.wav", "1", 4.0)
    write_audio(tmp_path / "audio/a/2.wav", "2", 1.0)
    rows = [Utterance("x/1", "a/1.wav", "a", "joy"), Utterance("x/2", "a/2.wav", "a", "joy")]
    write_manifest(tmp_path / "corpus.csv", rows)
    (tmp_path / "external/a").mkdir(parents=True)
    np.save(tmp_path / "external/a/1.npy", np.ones((32, 3)))  # called as the audio, not as the utterance
    np.save(tmp_path / "external/x%2F2.npy", 2 * np.ones((8, 3)))
    with pytest.raises(MfhcaError, match=r"no samples and sample_rate of 2 utterances(.|\n)*x/1"):
        imported(tmp_path)
    result = imported(tmp_path, root=tmp_path / "audio")
    assert result.segments == 3
    shard = read_shard(result.folder / "a.h5")
    assert shard.audio_sha256 == tuple(file_digest(tmp_path / f"audio/a/{n}.wav") for n in (1, 2))
    assert shard.valid_frames.tolist() == [24, 8, 8]


def save(folder: Path, values: object, name: str = "s0_0") -> None:
    np.save(folder / f"external/{name}.npy", values)


FIRST = utterances()[0]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (
            frames_of(FIRST),
            {"frame_rate": None},
            "utterance s0_0: 16 frames of the whole utterance of 2.00 s; pass",
        ),
        (frames_of(FIRST), {"frame_rate": 50.0}, "16 frames, but its audio of 2.00 s has 100 at 50 Hz"),
        (frames_of(FIRST)[:8], {}, "8 frames, but its audio of 2.00 s has 16 at 8 Hz"),
        (frames_of(FIRST)[:, :4], {}, "s0_1: 6 values per frame, .* but s0_0 has 4 values"),
        (frames_of(FIRST).mean(axis=0), {}, r"has shape \(6,\), expected \(frames, width\)"),
        (np.full((16, WIDTH), np.nan), {}, "utterance s0_0: features: nan in segment 0, frame 0, column 0"),
        (
            np.full((16, WIDTH), 1e6),
            {"dtype": "float16"},
            "1000000.0 in .* does not fit float16; use --dtype float32",
        ),
        (np.full((16, WIDTH), "a"), {}, "is <U1, expected an array of real numbers"),
        (np.zeros((1, 16, WIDTH)), {}, "without valid_frames; segments have three dimensions"),
        (frames_of(utterances()[6]), {}, "identical recordings under two speakers"),
    ],
)
def test_features_that_cannot_be_right_are_refused(
    tmp_path: Path, values: np.ndarray, options: dict[str, object], message: str
) -> None:
    prepare(tmp_path, features=False)
    save(tmp_path, values)
    with pytest.raises(MfhcaError, match=message):
        imported(tmp_path, **options)
    assert not list(tmp_path.glob("cache/*/*.h5"))


def test_segments_must_be_as_many_as_the_audio_has(tmp_path: Path) -> None:
    rows = prepare(tmp_path, features=False)
    for u in rows:
        (tmp_path / f"external/{u.utterance}.npy").unlink()
        np.savez(tmp_path / f"external/{u.utterance}.npz", features=np.ones((2, 5, 3)), valid_frames=[5, 2])
    with pytest.raises(MfhcaError, match=r"2 segments, but its audio of 2.00 s has 1"):
        imported(tmp_path, frame_rate=None, accept_copies=True)
    np.savez(tmp_path / "external/s0_0.npz", features=np.ones((1, 5, 3)), valid_frames=[6])
    with pytest.raises(MfhcaError, match=r"valid_frames must be a number of 0 to 5"):
        imported(tmp_path, frame_rate=None)


def test_missing_and_ambiguous_files_are_named(tmp_path: Path) -> None:
    prepare(tmp_path, features=False)
    (tmp_path / "external/s2_3.npy").unlink()
    with pytest.raises(MfhcaError, match=r"no features of 1 of 24 utterances(.|\n)*s2_3 \(s2_3.wav\)"):
        imported(tmp_path)
    np.savez(tmp_path / "external/s0_0.npz", features=frames_of(FIRST))
    with pytest.raises(MfhcaError, match=r"two files are called s0_0"):
        imported(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MfhcaError, match=r"has no .npy or .npz file"):
        imported(tmp_path, source=tmp_path / "empty")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    prepare(tmp_path, features=False)
    for name, content in (("s0_0.npy", b"\x93NUMPY"), ("s0_0.npz", b"PK\x03\x04 no archive")):
        (tmp_path / "external/s0_0.npy").unlink(missing_ok=True)
        (tmp_path / f"external/{name}").write_bytes(content)
        with pytest.raises(MfhcaError, match=rf"{name}: (not readable|damaged)"):
            imported(tmp_path)
    np.savez(tmp_path / "external/s0_0.npz", a=1, b=2)
    with pytest.raises(MfhcaError, match=r"has the arrays a, b; call one of them features"):
        imported(tmp_path)


def test_an_scp_of_kaldi_gives_the_same_recipe(tmp_path: Path) -> None:
    kaldiio = pytest.importorskip("kaldiio")
    rows = prepare(tmp_path, features=False)
    ark, scp = tmp_path / "kaldi/feats.ark", tmp_path / "kaldi/feats.scp"
    ark.parent.mkdir()
    kaldiio.save_ark(str(ark), {u.utterance: frames_of(u) for u in rows}, scp=str(scp))
    whole = imported(tmp_path)
    assert imported(tmp_path, source=scp).folder == whole.folder
    scp.write_text(scp.read_text().replace(f"{ark.parent}/", ""))  # relative to the scp
    assert imported(tmp_path, source=scp).folder == whole.folder
    os.mkfifo(tmp_path / "fifo")
    for line, message in (
        ("s0_0 echo 1 |", "line 1 is not `KEY FILE:OFFSET`; commands in an scp are not run"),
        (f"s0_0 touch {tmp_path}/executed |:0", "commands in an scp are not run"),
        (f"s0_0 |touch {tmp_path}/executed", "commands in an scp are not run"),
        (f"s0_0 {tmp_path}/fifo:0", r"s0_0 cannot be read from .*fifo:0 \(no such file\)"),
        ("s0_0 nowhere.ark:5", "s0_0 cannot be read from"),
        ("s0_1 nowhere.ark:5", "line 2 has the key s0_1 once more"),
    ):
        scp.write_text("\n".join([line, *scp.read_text().splitlines()[1:]]))
        with pytest.raises(MfhcaError, match=message):
            imported(tmp_path, source=scp)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(MfhcaError, match=r"an ark has no index; run `copy-feats"):
        imported(tmp_path, source=ark)


def test_new_audio_has_no_such_features(tmp_path: Path) -> None:
    prepare(tmp_path, features=False)
    recipe = json.loads((imported(tmp_path).folder / "recipe.json").read_text())["recipe"]
    with pytest.raises(MfhcaError, match=r"features that another program made(.|\n)*there is no encoder"):
        from_dict(recipe)


def test_the_command_says_how_to_train_and_verify_and_prune_know_the_folder(tmp_path: Path) -> None:
    prepare(tmp_path, features=False)
    places = [
        str(tmp_path / "corpus.csv"),
        "--cache",
        str(tmp_path / "cache"),
        "--features",
        str(tmp_path / "external"),
    ]
    said = done("import", *places, "--name", "emotion2vec/plus", "--frame-rate", str(RATE))
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.name.startswith("external-emotion2vec_plus-")
    assert "24 utterances, 24 segments of 24 frames of 6 values" in said
    assert f"--ssl {folder.name}`" in said
    assert "4 shards are valid" in done("verify", "--cache", str(tmp_path / "cache"))
    assert "nothing to remove" in done("prune", "--cache", str(tmp_path / "cache"), "--dry-run")
    assert "50 for HuBERT" in failed("import", *places, "--name", "x")
    assert call("import", *places, "--name", "x", "--frame-rate", "0").exit_code == 2


def test_the_manifest_s_own_lengths_of_spans_count(tmp_path: Path) -> None:
    row = replace(FIRST, samples=10 * SAMPLE_RATE, sample_rate=SAMPLE_RATE, start_s=1.0, end_s=5.0)
    write_manifest(tmp_path / "corpus.csv", [row])
    (tmp_path / "external").mkdir()
    save(tmp_path, frames_of(FIRST, 4.0))
    assert imported(tmp_path).segments == 2
