"""Writing a shard: killed, interrupted, on a full disk, in any order, it comes out the same."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from places import FACTORIES
from shard_factory import FRAME_SHAPE, RECIPE, flip, open_files, origin_of, utterance, write, writer

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.store.shard import read_shard, verify_shard
from mfhca_cache.store.writer import ShardWriter

LENGTHS = {f"u{i:02d}": i % 4 for i in range(12)}


@pytest.fixture
def expected(tmp_path: Path) -> str:
    """The digest of LENGTHS, written without anything happening."""
    (tmp_path / "expected").mkdir()
    return write(tmp_path / "expected", LENGTHS).digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def append_in_pieces(w: ShardWriter, name: str, segments: int) -> None:
    """One segment at a time."""
    _, origin, values, valid = utterance(name, segments)
    for first in range(max(1, segments)):
        last = first >= segments - 1
        w.append(name, origin if last else None, values[first : first + 1], valid[first : first + 1], first)


def complete(folder: Path) -> str:
    """Goes on with LENGTHS until the shard is there; its digest."""
    with writer(folder) as w:
        for name, segments in LENGTHS.items():
            if name not in w.done:
                append_in_pieces(w, name, segments)
        path = w.finish(None, (), {})
    assert path is not None
    shard = read_shard(path)
    verify_shard(shard)
    assert {file.name for file in path.parent.iterdir()} == {"03.h5", ".03.h5.lock"}
    return shard.digest


@contextlib.contextmanager
def one_line(match: str) -> Iterator[None]:
    with pytest.raises(MfhcaError, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)


# What a killed process leaves

CHILD = """
import sys
from pathlib import Path
from shard_factory import utterance, writer
print("ready", flush=True)
with writer(Path(sys.argv[1])) as w:
    for i in range(int(sys.argv[2])):
        if f"u{i:02d}" not in w.done:
            w.append(*utterance(f"u{i:02d}", 200))
            w.flush()
    w.finish(None, (), {})
"""


def test_killed_writers_lose_nothing_that_was_safe(tmp_path: Path) -> None:
    count = 60
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(FACTORIES), *sys.path])}
    generator = random.Random()

    def start(folder: Path) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), str(count)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    begun = time.monotonic()
    with start(tmp_path / "whole") as child:
        assert child.wait() == 0
    whole = time.monotonic() - begun
    expected = read_shard(tmp_path / "whole" / "03.h5").digest

    folder = tmp_path / "killed"
    killed, safe = 0, 0
    for _ in range(5):
        with start(folder) as child:
            # A short life each, so that all of them do not finish the work; some end within `finish`.
            time.sleep(generator.uniform(0, whole / 5))
            child.send_signal(signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
        shard = folder / "03.h5"
        if shard.exists():
            verify_shard(read_shard(shard))
            assert read_shard(shard).digest == expected
        with writer(folder) as w:
            assert len(w.done) >= safe or shard.exists()
            safe = len(w.done)
    assert killed >= 3
    with start(folder) as child:
        assert child.wait() == 0
    verify_shard(read_shard(folder / "03.h5"))
    assert read_shard(folder / "03.h5").digest == expected
    assert {path.name for path in folder.iterdir()} == {"03.h5", ".03.h5.lock"}


def test_killed_at_every_system_call_that_changes_a_file(tmp_path: Path, expected: str) -> None:
    """Each write, sync, truncation and rename in turn is the last thing that the process does."""
    names = ("pwrite", "fsync", "ftruncate", "replace", "posix_fallocate")

    def run(folder: Path, last: int) -> int:
        """Forks a writer that dies before its `last`-th such call; its exit status."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that other threads do not live on in the child is no loss
            child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        calls = 0

        def dying(real):  # type: ignore[no-untyped-def]
            def call(*arguments):  # type: ignore[no-untyped-def]
                nonlocal calls
                calls += 1
                if calls > last:
                    os._exit(9)
                return real(*arguments)

            return call

        for name in names:
            setattr(os, name, dying(getattr(os, name)))
        try:
            complete(folder)
            os._exit(0)
        except BaseException:
            os._exit(1)

    for last in range(200):
        folder = tmp_path / f"{last}"
        status = run(folder, last)
        if status == 0:
            break
        assert status == 9
        assert complete(folder) == expected
    assert last > 20


# History


def test_digest_does_not_depend_on_history(folder: Path, expected: str) -> None:
    names = list(LENGTHS)
    generator = random.Random(3)
    for _ in range(5):
        generator.shuffle(names)
        cut = generator.randrange(1, len(names))
        keep, kept = None, []
        # An increment: some utterances first, one of them with other audio, then the rest.
        with writer(folder) as w:
            for name in names[:cut]:
                w.append(*utterance(name, LENGTHS[name], take=int(name == names[0])))
            path = w.finish(None, (), {"threads": 1})
        assert path is not None
        keep = read_shard(path)
        assert keep.digest != expected
        kept = names[1:cut]
        # Two interrupted sessions, the second repeating an utterance.
        with writer(folder) as w:
            for name in names[cut : cut + 2]:
                w.append(*utterance(name, LENGTHS[name], take=1))
        with writer(folder) as w:
            assert set(w.done) == set(names[cut : cut + 2])
            for name in [*names[cut:], names[0]]:
                w.append(*utterance(name, LENGTHS[name]))
            w.append(*utterance(names[0], LENGTHS[names[0]]))
            path = w.finish(keep, kept, {"threads": 2})
        assert path is not None
        assert read_shard(path).digest == expected
        verify_shard(read_shard(path))
        path.unlink()


def test_a_writer_that_ends_within_an_utterance_has_not_done_it(folder: Path, expected: str) -> None:
    with writer(folder) as w:
        append_in_pieces(w, "u02", 2)
        _, _, values, valid = utterance("u03", 3)
        w.append("u03", None, values[:2], valid[:2])
    with writer(folder) as w:
        assert set(w.done) == {"u02"}
    assert complete(folder) == expected


def test_content_changes_the_digest(tmp_path: Path, expected: str) -> None:
    for number, (lengths, dtype) in enumerate([(LENGTHS | {"u03": 2}, "float16"), (LENGTHS, "float32")]):
        assert write(tmp_path / f"{number}", lengths, dtype=dtype).digest != expected
    assert write(tmp_path / "speaker", LENGTHS, speaker="04").digest != expected


def test_kept_rows_win_over_debris_of_the_same_name(folder: Path) -> None:
    keep = write(folder, {"u": 2})
    with writer(folder) as w:
        w.append(*utterance("u", 2, take=1))
    with writer(folder) as w:
        assert w.done == {"u": origin_of("u", 1)}
        w.finish(keep, ["u"], {})
    assert read_shard(keep.path).digest == keep.digest


def test_keep_must_be_sound_and_of_this_shard(folder: Path, tmp_path: Path) -> None:
    keep = write(folder, {"u": 2, "v": 1})
    other = write(tmp_path / "other", {"u": 2}, speaker="08")
    with writer(folder) as w:
        with one_line("has .*'08'.*, expected .*'03'"):
            w.finish(other, ["u"], {})
        with pytest.raises(ValueError, match="has no utterance w to keep"):
            w.finish(keep, ["u", "w"], {})
        flip(keep.path, keep.offset + 3)
        with one_line("was replaced while in use"):
            w.finish(keep, ["u"], {})
        with one_line("does not match its digest"):
            w.finish(read_shard(keep.path), ["u"], {})
        w.append(*utterance("u", 2))
        w.append(*utterance("v", 1))
        w.finish(read_shard(keep.path), [], {})
    assert read_shard(keep.path).digest == keep.digest


def test_nothing_to_write_leaves_what_is_there(folder: Path) -> None:
    with writer(folder) as w:
        assert w.finish(None, (), {}) is None
    keep = write(folder, {"u": 2})
    with writer(folder) as w:
        assert w.finish(keep, (), {}) is None
    assert read_shard(keep.path).stat == keep.stat


# Values


@pytest.mark.parametrize(
    ("value", "dtype", "match"),
    [
        (
            70_000.0,
            "float16",
            r"utterance u: 70000\.0 in segment 1, frame 2, column 0 .* use --dtype float32",
        ),
        (-65_520.0, "float16", "does not fit float16"),
        (np.nan, "float16", "utterance u: nan in segment 1, frame 2, column 0 .* check its audio"),
        (np.inf, "float32", "utterance u: inf .* check its audio"),
        (-np.inf, "float16", "utterance u: -inf .* check its audio"),
    ],
)
def test_values_that_do_not_fit_are_refused(folder: Path, value: float, dtype: str, match: str) -> None:
    name, audio, features, valid = utterance("u", 2)
    features[1, 2, 0] = value
    with writer(folder, dtype=dtype) as w:
        with one_line(match):
            w.append(name, audio, features, valid)
        w.append(*utterance("v", 1))
        path = w.finish(None, (), {})
    assert path is not None
    assert read_shard(path).utterance_ids == ("v",)


def test_value_that_does_not_fit_names_its_layer(folder: Path) -> None:
    name, audio, features, valid = utterance("u", 2, (5, *FRAME_SHAPE))
    features[1, 4, 2, 0] = 1e6
    shape = (5, *FRAME_SHAPE)
    with (
        ShardWriter(folder, RECIPE.key, RECIPE.kind, "03", shape, "float16") as w,
        one_line(
            "1000000.0 in segment 1, layer 4, frame 2, column 0 does not fit float16; use --dtype float32"
        ),
    ):
        w.append(name, audio, features, valid)


def test_largest_values_fit(folder: Path) -> None:
    name, audio, features, valid = utterance("u", 1)
    features[:] = 65_504
    with writer(folder) as w:
        w.append(name, audio, features, valid)


def test_append_refuses_what_is_not_an_utterance(folder: Path) -> None:
    name, audio, features, valid = utterance("u", 2)
    with writer(folder) as w:
        for bad in (
            (name, audio, features[:1], valid),
            (name, audio, features[:, :3], valid),
            (name, audio, features.astype(int), valid),
            (name, audio, features, valid + FRAME_SHAPE[0] + 1),
            (name, replace(audio, audio_sha256="audio"), features, valid),
        ):
            with pytest.raises(ValueError, match=r"^u: "):
                w.append(*bad)
        for odd in ("", "a\0b", "\ud800"):
            with one_line("its id is empty or not valid text"):
                w.append(odd, audio, features, valid)
        w.append(name, audio, features, valid)
        w.finish(None, (), {})
        with pytest.raises(ValueError, match="the shard is finished"):
            w.append(name, audio, features, valid)


# Safety of what was appended


def test_what_was_appended_is_safe_after_an_error(folder: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), writer(folder) as w:
        w.append(*utterance("u", 2))
        raise KeyboardInterrupt
    with writer(folder) as w:
        assert w.done == {"u": origin_of("u")}


def test_append_flushes_by_size_and_by_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer(folder) as w:
        w.append(*utterance("a", 2))
        assert w.done == {}
        monkeypatch.setattr("mfhca_cache.store.writer.FLUSH_BYTES", 100)
        w.append(*utterance("b", 3))
        assert set(w.done) == {"a", "b"}
        monkeypatch.setattr("mfhca_cache.store.writer.FLUSH_SECONDS", 0.0)
        w.append(*utterance("c", 0))
        assert set(w.done) == {"a", "b", "c"}


def test_part_of_another_dtype_is_not_gone_on_with(folder: Path) -> None:
    with writer(folder, dtype="float32") as w:
        w.append(*utterance("u", 2))
    with writer(folder) as w:
        assert w.done == {}


def test_debris_of_dead_writers_is_cleared(folder: Path) -> None:
    folder.mkdir()
    for name in (".03.h5.abc.tmp", ".033.h5.abc.tmp", ".recipe.json.abc.tmp"):
        (folder / name).touch()
    with writer(folder):
        pass
    left = {path.name for path in folder.iterdir()}
    assert ".03.h5.abc.tmp" not in left
    assert {".033.h5.abc.tmp", ".recipe.json.abc.tmp"} < left


def test_second_writer_of_a_shard_is_refused(folder: Path) -> None:
    with writer(folder) as w:
        w.append(*utterance("u", 2))
        with one_line(r"03\.h5 is in use by another process"), writer(folder):
            pass
        with writer(folder, "08") as other:
            other.append(*utterance("v", 2))
        w.finish(None, (), {})
    with writer(folder):
        pass


def test_writer_gives_its_descriptors_back(folder: Path) -> None:
    before = open_files()
    write(folder, LENGTHS)
    keep = read_shard(folder / "03.h5")
    with writer(folder) as w:
        w.finish(keep, ["u01"], {})
    with contextlib.suppress(MfhcaError), writer(folder), writer(folder):
        pass
    assert open_files() == before


def test_shard_that_cannot_be_read_back_is_not_published(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = write(folder, {"u": 1})
    real = os.fsync

    def rotten(descriptor: int) -> None:
        name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if name.endswith(".tmp"):
            flip(Path(name), keep.offset)
        real(descriptor)

    with writer(folder) as w:
        w.append(*utterance("v", 1))
        monkeypatch.setattr(os, "fsync", rotten)
        with one_line(r"03\.h5: was written incompletely; check the disk"):
            w.finish(None, (), {})
        monkeypatch.undo()
        assert read_shard(keep.path).digest == keep.digest
        assert not list(folder.glob(".*.tmp"))
        w.finish(None, (), {})
    assert read_shard(keep.path).utterance_ids == ("v",)


# Full and read-only disks


def is_refused(folder: Path, reason: str) -> bool:
    """Whether LENGTHS cannot be written; if so in one line, and without debris."""
    try:
        complete(folder)
    except MfhcaError as error:
        said = str(error)
    else:
        return False
    assert "\n" not in said
    assert reason in said
    assert not (folder / "03.h5").exists()
    assert not list(folder.glob(".*.tmp"))
    return True


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes (Python ignores SIGXFSZ, so that writes fail with EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_limit_on_file_sizes_is_one_line_and_loses_nothing(tmp_path: Path, expected: str) -> None:
    size = (tmp_path / "expected" / "03.h5").stat().st_size
    refused = 0
    for limit in [*range(0, 600, 60), *range(600, size + 1000, 1500)]:
        folder = tmp_path / f"{limit}"
        with file_size_limit(limit):
            refused += is_refused(folder, "File too large")
        assert complete(folder) == expected
    assert refused > 15


def test_file_system_that_cannot_reserve_space_will_do(
    folder: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert complete(folder) == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system needs root and mount(8)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_is_one_line_and_loses_nothing(small_disk: Path, expected: str) -> None:
    filler, folder = small_disk / "filler", small_disk / "cache"
    refused = 0
    for pages in range(1, 30, 2):
        with contextlib.suppress(OSError):
            filler.write_bytes(bytes(2 << 20))
        os.truncate(filler, filler.stat().st_size // 4096 * 4096 - pages * 4096)
        refused += is_refused(folder, "No space left on device")
        filler.unlink()
        assert complete(folder) == expected
        shutil.rmtree(folder)
    assert 2 < refused < 14


def test_read_only_disk_is_one_line(small_disk: Path) -> None:
    write(small_disk, {"u": 1})
    with writer(small_disk) as w:
        w.append(*utterance("v", 1))
        w.flush()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with one_line(r"cannot be written \(Read-only file system\)"), writer(small_disk):
        pass
    verify_shard(read_shard(small_disk / "03.h5"))


def test_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with one_line("cannot be written"), writer(tmp_path / "cache"):
        pass


def test_folder_that_goes_away_is_one_line(folder: Path) -> None:
    with writer(folder) as w:
        w.append(*utterance("u", 1))
        w.flush()
        folder.rename(folder.with_name("moved"))
        with one_line(r"03\.h5: cannot be written \(No such file or directory\)"):
            w.finish(None, (), {})
