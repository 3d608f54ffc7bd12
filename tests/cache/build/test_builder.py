"""Building a cache: features, resuming, damaged files and shards, full disks."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_factory import FILES, SEGMENTS, manifest_of, recorded, sound, write_audio
from build_factory import build, plan_for

from mfhca_cache.build import builder, compute, distribute
from mfhca_cache.build.builder import Builder
from mfhca_cache.build.plan import Target, make_targets
from mfhca_cache.build.verify import verify
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import lock
from mfhca_cache.common.progress import progress
from mfhca_cache.features import extract
from mfhca_cache.features.audio import read_audio
from mfhca_cache.features.backbone import Backbone, resolve
from mfhca_cache.features.encoder import Encoder
from mfhca_cache.features.segments import cut
from mfhca_cache.features.spectrum import logspec
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.choices import Settings
from mfhca_cache.recipe.kinds import LogSpec, Ssl
from mfhca_cache.store import journal
from mfhca_cache.store.reader import Features
from mfhca_cache.store.shard import read_shard
from mfhca_cache.store.writer import ShardWriter


def test_both_features_of_every_kind_of_file_come_from_one_decoding(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone, decoded: list[str]
) -> None:
    outcome = build(rows, root, tmp_path / "cache", Settings(), backbone, jobs=2)
    assert outcome.failed == {}
    assert sorted(decoded) == sorted(SEGMENTS)
    assert (outcome.utterances, outcome.segments) == (len(SEGMENTS), sum(SEGMENTS.values()))
    assert outcome.shards == 6
    assert outcome.stored_bytes == outcome.segments * (300 * 200 + 149 * 64) * 2

    spec, ssl = make_targets(tmp_path / "cache", Settings(), backbone)
    assert isinstance(spec.recipe, LogSpec)
    assert isinstance(ssl.recipe, Ssl)
    encoder = Encoder(backbone, ssl.recipe, "cpu")
    with Features.open(spec.folder, "abc") as spectra, Features.open(ssl.folder, "abc") as states:
        for row in rows:
            segments, real = cut(read_audio(root / row.path, 16_000).samples, 48_000)
            for features, (expected, valid) in (
                (spectra, logspec(segments, real, spec.recipe)),
                (states, (_encoded(encoder, segments, real), backbone.valid_frames(real))),
            ):
                shard, first, count = features.rows(row.utterance)
                assert count == SEGMENTS[row.utterance]
                stored = features.gather(np.full(count, shard), np.arange(first, first + count))
                assert stored.dtype == np.float16
                np.testing.assert_array_equal(stored, expected.astype(np.float16))
                shard_valid = features.shards[shard].valid_frames[first : first + count]
                np.testing.assert_array_equal(shard_valid, valid)
                assert features.shards[shard].provenance["packages"]["numpy"] == np.__version__
        assert states.shards[0].provenance["threads"] >= 1
        assert states.shards[0].provenance["segments_per_second"] > 0


def _encoded(encoder: Encoder, segments: np.ndarray, real: np.ndarray) -> np.ndarray:
    """One segment at a time."""
    inputs = encoder.prepare(segments, real)
    return np.concatenate([encoder.forward(inputs[i : i + 1], real[i : i + 1]) for i in range(len(real))])


def test_threads_and_batches_change_no_digest(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone
) -> None:
    build(rows, root, tmp_path / "one", Settings(), backbone, jobs=1)
    build(rows, root, tmp_path / "two", Settings(), backbone, jobs=3, batch_size=16)
    assert recorded(tmp_path / "one") == recorded(tmp_path / "two")
    assert len(recorded(tmp_path / "one")) == 6


def test_changed_audio_alone_is_computed_again(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache, Settings(), backbone)
    decoded.clear()
    write_audio(root / "a/a1.wav", "another", 3.5)
    os.utime(root / "a/a1.wav", (0, 0))  # an old date changes nothing
    os.utime(root / "b/b1.wav")  # nor does a new one
    todo = plan_for(rows, root, cache, Settings(), backbone)
    assert {key: state.stale for key, state in todo.states.items() if not state.complete} == {
        ("logspec", "a"): ("a1",),
        ("ssl", "a"): ("a1",),
    }
    build(rows, root, cache, Settings(), backbone)
    assert decoded == ["a1"]
    build(rows, root, tmp_path / "fresh", Settings(), backbone)
    assert recorded(cache) == recorded(tmp_path / "fresh")


def test_changed_recipe_leaves_the_other_kind_alone(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache, Settings(), backbone)
    before = recorded(cache)
    changed = Settings(db_reference="utterance")
    todo = plan_for(rows, root, cache, changed, backbone)
    assert [target.kind for target in todo.incomplete] == ["logspec"]
    build(rows, root, cache, changed, backbone)
    after = recorded(cache)
    assert before.items() < after.items()
    assert len(after) == len(before) + 3


def test_utterances_outside_the_manifest_are_kept(
    rows: list[Utterance], root: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    joy = [row for row in rows if row.emotion == "joy"]
    build(joy, root, cache)
    decoded.clear()
    build([row for row in rows if row.emotion == "anger"], root, cache)
    assert sorted(decoded) == ["a1", "a3", "b1", "c1"]
    assert plan_for(rows, root, cache).speakers == ()
    build(rows, root, tmp_path / "fresh")
    assert recorded(cache) == recorded(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "no file a/a2.wav in"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"RIFF nothing"), "not readable as audio"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cut short"),
        (lambda path: soundfile.write(path, np.zeros(0), 16_000), "has a header and no audio"),
        (lambda path: soundfile.write(path, np.full(9, np.nan), 16_000, "FLOAT"), "is not a finite number"),
    ],
    ids=["missing", "empty", "garbage", "truncated", "header only", "not a number"],
)
def test_bad_file_is_named_and_the_others_are_finished(
    rows: list[Utterance],
    root: Path,
    tmp_path: Path,
    decoded: list[str],
    spoil: Callable[[Path], Any],
    message: str,
) -> None:
    cache, good = tmp_path / "cache", tmp_path / "good.wav"
    shutil.copy(root / "a/a2.wav", good)
    spoil(root / "a/a2.wav")
    outcome = build(rows, root, cache)
    assert list(outcome.failed) == ["a2"]
    assert message in outcome.failed["a2"]
    assert read_shard(next(cache.glob("*/a.h5"))).utterance_ids == ("a1", "a3", "a4")
    shutil.copy(good, root / "a/a2.wav")
    decoded.clear()
    assert build(rows, root, cache).failed == {}
    assert decoded == ["a2"]
    build(rows, root, tmp_path / "fresh")
    assert recorded(cache) == recorded(tmp_path / "fresh")


def test_row_of_changed_audio_that_cannot_be_decoded_is_dropped(
    rows: list[Utterance], root: Path, tmp_path: Path
) -> None:
    build(rows, root, tmp_path / "cache")
    (root / "a/a2.wav").write_bytes(b"not audio")
    (root / "c/c1.wav").write_bytes(b"not audio")
    assert list(build(rows, root, tmp_path / "cache").failed) == ["a2", "c1"]
    shards = {path.name: read_shard(path) for path in (tmp_path / "cache").glob("*/*.h5")}
    assert shards["a.h5"].utterance_ids == ("a1", "a3", "a4")
    assert "c.h5" not in shards  # its only row was known to be wrong


def test_rows_survive_when_the_corpus_is_out_of_reach(
    rows: list[Utterance], root: Path, tmp_path: Path
) -> None:
    build(rows, root, tmp_path / "cache")
    before = recorded(tmp_path / "cache")
    empty = tmp_path / "unmounted"
    empty.mkdir()
    assert len(build(rows, empty, tmp_path / "cache").failed) == len(FILES)
    assert recorded(tmp_path / "cache") == before


@pytest.mark.parametrize("value", [np.nan, 1e30])
@pytest.mark.parametrize("piece", [16, 3])
def test_features_that_cannot_be_stored_are_a_failure_of_their_utterance(
    rows: list[Utterance],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    piece: int,
) -> None:
    calls: list[int] = []

    def spoiled(segments: np.ndarray, *arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        spectra, valid = logspec(segments, *arguments)
        if len(segments) == min(12, piece):
            calls.append(len(segments))
            if len(calls) == 2 or piece == 16:
                spectra[1, 2, 1] = value
        return spectra, valid

    monkeypatch.setattr(extract, "logspec", spoiled)
    monkeypatch.setattr(extract, "PIECE", piece)
    outcome = build(rows, root, tmp_path / "cache")
    assert list(outcome.failed) == ["b1"]
    segment = 1 if piece == 16 else 4
    assert f"in segment {segment}, frame 2, column 1 does not fit float16" in outcome.failed["b1"]
    assert read_shard(next((tmp_path / "cache").glob("*/b.h5"))).utterance_ids == ("b2",)
    assert (outcome.utterances, outcome.segments) == (6, 8)


def test_a_long_recording_that_ends_in_an_error_leaves_nothing(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "PIECE", 2)
    build(rows, root, tmp_path / "expected")
    path = root / next(row.path for row in rows if row.utterance == "b1")
    whole, samples = path.read_bytes(), sound("b1", 34.0, 16_000)
    samples[-1] = np.nan
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    outcome = build(rows, root, tmp_path / "cache")
    assert "sample 543999 is not a finite number" in outcome.failed["b1"]
    assert (outcome.utterances, outcome.segments) == (6, 8)
    assert read_shard(next((tmp_path / "cache").glob("*/b.h5"))).utterance_ids == ("b2",)
    path.write_bytes(whole)
    assert build(rows, root, tmp_path / "cache").utterances == 1
    assert recorded(tmp_path / "cache") == recorded(tmp_path / "expected")


def test_memory_does_not_grow_with_the_length_of_an_utterance(
    root: Path, tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    monkeypatch.setattr(builder, "MAX_UNWRITTEN", 1 << 22)
    monkeypatch.setattr(journal, "READ_BYTES", 1 << 20)

    def peak(minutes: int) -> float:
        row = Utterance("a", write_long(root / f"{minutes}.flac", minutes), "s", "joy")
        tracemalloc.start()
        assert build([row], root, tmp_path / f"{minutes}", Settings(), backbone).segments == 20 * minutes
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found / 1e6

    def write_long(path: Path, minutes: int) -> str:
        path.parent.mkdir(exist_ok=True)
        with soundfile.SoundFile(path, "w", 16_000, 1) as file:
            for minute in range(minutes):
                file.write(sound(f"{minute}", 60.0, 16_000))
        return path.name

    peak(1)  # imports and caches
    short, long = peak(3), peak(12)
    assert long < short + 10  # 12 minutes are 46 MB of samples and 58 MB of spectra


def test_damaged_shard_is_made_again_and_said_so(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache)
    before = recorded(cache)
    path = next(cache.glob("*/a.h5"))
    path.write_bytes(path.read_bytes()[:-1000])
    state = plan_for(rows, root, cache).states["logspec", "a"]
    assert state.damage is not None
    outcome = build(rows, root, cache)
    assert len(outcome.notes) == 1
    assert "recomputed: " in outcome.notes[0]
    assert str(path) in outcome.notes[0]
    assert recorded(cache) == before


def test_no_row_is_copied_from_a_shard_whose_features_changed(
    rows: list[Utterance], root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache)
    path = next(cache.glob("*/a.h5"))
    shard = read_shard(path)
    data = bytearray(path.read_bytes())
    data[shard.offset + 5] ^= 1  # one bit of the features, which only the digest can tell
    path.write_bytes(data)
    write_audio(root / "a/a4.flac", "another", 1.0)
    outcome = build(rows, root, cache)
    assert (outcome.utterances, len(outcome.notes)) == (4, 1)
    build(rows, root, tmp_path / "fresh")
    assert recorded(cache) == recorded(tmp_path / "fresh")


@pytest.mark.parametrize("other", ["another speaker", "another recipe"])
def test_shard_in_the_wrong_place_is_made_again(
    rows: list[Utterance], root: Path, tmp_path: Path, other: str
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache)
    before = recorded(cache)
    if other == "another speaker":
        shutil.copy(next(cache.glob("*/b.h5")), next(cache.glob("*/a.h5")))
    else:
        changed = Settings(kinds=("logspec",), tail="drop")
        build(rows, root, tmp_path / "drop", changed)
        shutil.copy(next((tmp_path / "drop").glob("*/a.h5")), next(cache.glob("*/a.h5")))
    assert len(build(rows, root, cache).notes) == 1
    assert recorded(cache) == before


def test_speaker_in_use_by_another_process_is_left_to_it(
    rows: list[Utterance], root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    target = plan_for(rows, root, cache).targets[0]
    with lock(target.folder / ".b.h5.lock", "b"):
        outcome = build(rows, root, cache)
    assert list(outcome.failed) == ["b"]
    assert "is in use by another process; wait for it or stop it" in outcome.failed["b"]
    assert sorted(path.name for path in target.folder.glob("*.h5")) == ["a.h5", "c.h5"]
    assert build(rows, root, cache).failed == {}


def test_what_another_process_finished_meanwhile_is_not_computed_again(
    rows: list[Utterance], root: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    todo = plan_for(rows, root, cache)
    build(rows, root, cache)
    decoded.clear()
    outcome = Builder(todo.incomplete, todo.sources).run(todo.speakers, tmp_path / "rows.csv")
    assert (decoded, outcome.utterances, outcome.shards) == ([], 0, 0)


def test_full_disk_stops_the_run_and_what_is_done_is_kept(
    rows: list[Utterance], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    original = ShardWriter.append

    def full(self: ShardWriter, name: str, *args: Any) -> None:
        if name == "b2":
            raise MfhcaError("b.h5: cannot be written (No space left)") from OSError(errno.ENOSPC, "No space")
        original(self, name, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "append", full)
        with pytest.raises(MfhcaError, match="No space left"):
            build(rows, root, cache)
    decoded.clear()
    outcome = build(rows, root, cache)
    assert (decoded, outcome.resumed) == (["b2", "c1"], 1)  # b1 was safe in the part file
    build(rows, root, tmp_path / "fresh")
    assert recorded(cache) == recorded(tmp_path / "fresh")


def test_interrupted_run_goes_on_and_ends_with_the_same_digests(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, tmp_path / "fresh", Settings(), backbone)
    interrupted = 0
    for stop in (1, 2, 2):  # what the writer is ahead by when an interruption comes is not always the same
        seen = 0

        def interrupt(_: int, stop: int = stop) -> None:
            nonlocal seen, interrupted
            seen += 1
            if seen == stop:
                interrupted += 1
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            build(rows, root, cache, Settings(), backbone, advance=interrupt)
    assert interrupted
    decoded.clear()
    outcome = build(rows, root, cache, Settings(), backbone)
    assert outcome.resumed + 2 * outcome.utterances <= 2 * len(FILES)
    assert len(decoded) < len(FILES)
    assert recorded(cache) == recorded(tmp_path / "fresh")


def test_cache_that_cannot_be_made_is_one_line(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MfhcaError, match=r"cannot be written \(Not a directory\)"):
        build(rows, root, tmp_path / "file/cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_cache_is_one_line(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o500)
    with pytest.raises(MfhcaError, match=r"cannot be written \(Permission denied\)"):
        build(rows, root, cache)


def test_encoder_that_does_not_load_leaves_no_trace(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone
) -> None:
    broken = Path(shutil.copytree(backbone.folder, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises(MfhcaError, match="backbone broken: cannot be loaded"):
        build(rows, root, tmp_path / "cache", Settings(), resolve(str(broken)))
    assert not (tmp_path / "cache").exists()


def test_encoder_is_not_loaded_for_spectra_alone(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    build(rows, root, cache, Settings(), backbone)
    monkeypatch.setattr(builder, "Encoder", None)
    assert build(rows, root, cache, Settings(tail="pad", db_reference="utterance"), backbone).shards == 3


def test_the_remaining_time_is_estimated_from_the_first_utterance_on(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, elapsed, load = [0.0], [], distribute.Encoder

    def slowly(*arguments: Any) -> Any:
        late[0] += 3600
        return load(*arguments)

    @contextlib.contextmanager
    def noted(*arguments: Any) -> Iterator[Any]:
        with progress(*arguments) as bar:
            yield bar
            elapsed.append(bar.format_dict["elapsed"])

    monkeypatch.setattr(distribute, "Encoder", slowly)
    monkeypatch.setattr("tqdm.std.time", lambda: time.time() + late[0])
    monkeypatch.setattr(compute, "progress", noted)
    manifest = manifest_of(tmp_path / "rows.csv", rows[:2]).path
    request = compute.Request(
        manifest, root, tmp_path / "cache", Settings(kinds=("ssl",)), str(backbone.folder)
    )
    compute.compute(request, lambda _: None, device="cpu", threads=1)
    assert late == [3600]
    assert elapsed[-1] < 3600


def test_tail_rule_and_pre_emphasis_reach_both_kinds(
    rows: list[Utterance], root: Path, tmp_path: Path, backbone: Backbone
) -> None:
    settings = Settings(tail="drop", pre_emphasis=0.97, dtype="float32")
    build(rows[:4], root, tmp_path / "cache", settings, backbone)
    samples = read_audio(root / "a/a4.flac", 16_000, pre_emphasis=0.97).samples
    segments, real = cut(samples, 48_000, "drop")
    spec, ssl = make_targets(tmp_path / "cache", settings, backbone)
    assert _stored(spec, "a4").shape == (1, 300, 200)
    np.testing.assert_array_equal(_stored(spec, "a4"), logspec(segments, real, LogSpec())[0])
    assert isinstance(ssl.recipe, Ssl)
    expected = _encoded(Encoder(backbone, ssl.recipe, "cpu"), segments, real)
    np.testing.assert_array_equal(_stored(ssl, "a4"), expected)


def _stored(target: Target, name: str) -> np.ndarray:
    with Features.open(target.folder, "a") as features:
        shard, first, count = features.rows(name)
        return features.gather(np.full(count, shard), np.arange(first, first + count))


@pytest.mark.parametrize("speaker", ["\u6f22" * 29, "s" * 255, "a" * 400], ids=["CJK", "255", "400"])
def test_speakers_with_long_names_have_shards(root: Path, tmp_path: Path, speaker: str) -> None:
    write_audio(root / "x.wav", "x")
    rows = [Utterance("x", "x.wav", speaker, "joy"), Utterance("y", "x.wav", speaker, "joy", end_s=0.5)]
    assert build(rows, root, tmp_path / "cache").failed == {}
    assert plan_for(rows, root, tmp_path / "cache").speakers == ()
    with Features.open(next((tmp_path / "cache").iterdir()), [speaker]) as features:
        assert features.shards[0].speaker == speaker
    assert verify(tmp_path / "cache") == (1, [])
