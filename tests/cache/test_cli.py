"""The command `mfhca-cache`: exit codes, output, imports, and kill -9."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audio_factory import SEGMENTS, manifest_of, notes, recorded, write_audio
from command_factory import call, command, done, failed, modules_after, recipe_name, size

from mfhca_cache.common.text import size_text
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import read_recipe
from mfhca_cache.store.reader import Features

HEAVY = ("numpy", "torch", "h5py", "transformers", "librosa", "soundfile", "scipy", "soxr")
TOTAL = sum(SEGMENTS.values())


@pytest.mark.parametrize("arguments", [["--help"], ["features", "--help"], ["prune", "-h"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    modules, printed = modules_after(arguments)
    assert modules == set()
    assert printed.strip()


def test_features_then_nothing_to_do_without_importing_torch(corpus: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = done(*command(corpus, cache, ssl=True))
    assert f"computed {len(SEGMENTS)} utterances, {TOTAL} segments, 2.8 MB in " in first
    assert first.rstrip().endswith("6 shards written")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    modules, again = modules_after(command(corpus, cache, ssl=True))
    assert not modules & {"torch", "transformers", "librosa"}
    assert "nothing to compute" in again
    assert f"{len(SEGMENTS)} utterances present, 0 to compute" in again
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    assert notes(cache) == [str(corpus / "rows.csv")]


def test_spectra_need_neither_torch_nor_an_encoder(corpus: Path, tmp_path: Path) -> None:
    modules, printed = modules_after(command(corpus, tmp_path / "cache"))
    assert not modules & {"torch", "transformers", "librosa"}
    assert "3 shards written" in printed


def test_dry_run_tells_segments_and_bytes_and_writes_nothing(corpus: Path, tmp_path: Path) -> None:
    printed = done(*command(corpus, tmp_path / "cache", "--dry-run", ssl=True))
    assert re.search(rf"to compute: {TOTAL} segments, 2\.8 MB, time about \d+\.\d s$", printed, re.M)
    assert not (tmp_path / "cache").exists()


def test_dry_run_estimates_time_from_an_earlier_run(own: Path) -> None:
    done(*command(own, own / "cache"))
    write_audio(own / "audio/a/a1.wav", "other", 1.0)
    printed = done(*command(own, own / "cache", "--dry-run"))
    assert "to compute: 1 segment, 120.0 kB, time about " in printed


def test_flac_of_unknown_length_and_old_containers_pass_through_all_commands(tmp_path: Path) -> None:
    root, out, cache = tmp_path / "audio", tmp_path / "rows.csv", tmp_path / "cache"
    for name, container in (("happy/a_1.flac", "FLAC"), ("sad/b_1.sph", "NIST"), ("sad/a_2.voc", "VOC")):
        write_audio(root / name, name, 3.2, format=container, subtype="PCM_16")
    data = bytearray((root / "happy/a_1.flac").read_bytes())
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # the number of samples, as written into a pipe
    (root / "happy/a_1.flac").write_bytes(data)
    folders = ["manifest", "folders", "--root", str(root), "--speaker-regex", "/([ab])_", "--out", str(out)]
    assert "3 files used" in done(*folders)
    rows = {row.utterance: row for row in read_manifest(out).utterances}
    assert {(row.samples, row.sample_rate) for row in rows.values()} == {(None, 16_000), (51_200, 16_000)}
    span = replace(rows["happy/a_1"], utterance="span", speaker="a", start_s=0.5, end_s=3.6)
    manifest_of(out, [*rows.values(), replace(span, end_s=3.1)])
    places = [str(out), "--root", str(root), "--cache", str(cache), "--kind", "logspec"]
    assert "a_1.flac can be read: 16000 Hz" in call("doctor", *places).stdout
    assert "to compute: 6 segments" in done("features", *places, "--dry-run")  # 1 for an unknown length
    assert "computed 4 utterances, 7 segments" in done("features", *places)
    assert "4 present of 4 utterances" in done("status", *places)
    manifest_of(out, [*rows.values(), span])
    assert "span: cut short, 43200 of 49600 samples decode" in call("features", *places).stderr.replace(
        f"{root / 'happy/a_1.flac'}: ", ""
    )


def test_bad_files_are_listed_and_end_with_1_and_the_rest_is_there(own: Path) -> None:
    (own / "audio/a/a1.wav").unlink()
    (own / "audio/b/b2.wav").write_bytes(b"not audio")
    printed = failed(*command(own, own / "cache"))
    assert (
        f"2 of {len(SEGMENTS)} utterances failed; fix the causes and run the same command again:" in printed
    )
    assert "utterance a1: no file a/a1.wav" in printed
    assert "b2.wav: not readable as audio" in printed
    assert len(printed.splitlines()) == 3
    assert sorted(recorded(own / "cache")) == [f"{recipe_name(own)}/{name}.h5" for name in "abc"]
    assert "5 utterances present, 1 to compute" in call(*command(own, own / "cache", "--dry-run")).stdout


def test_path_that_leaves_the_root_is_refused(own: Path) -> None:
    manifest_of(own / "rows.csv", [Utterance("x", "a/x.wav", "a", "joy")])
    outside = write_audio(own / "x.wav", "x")
    (own / "audio/a/x.wav").symlink_to(outside)
    assert "is a link out of" in failed(*command(own, own / "cache"))
    assert "computed 1 utterance," in done(*command(own, own / "cache", "--allow-outside"))
    (own / "rows.csv").write_text("utterance,path,speaker,emotion\nx,../x.wav,a,joy\n")
    assert "leaves the corpus root with .." in failed(*command(own, own / "cache"))


def test_cache_that_cannot_be_written_is_one_line(own: Path) -> None:
    printed = failed(*command(own, own / "rows.csv/cache"))
    assert len(printed.splitlines()) == 1
    assert "cannot be written (Not a directory)" in printed


def test_missing_backbone_is_one_line(corpus: Path, tmp_path: Path) -> None:
    arguments = command(corpus, tmp_path / "cache")[:-2]
    printed = failed(*arguments, "--backbone", str(tmp_path / "gone"))
    assert len(printed.splitlines()) == 1
    assert "gone: no such folder; pass a folder with config.json" in printed


def test_unknown_label_set_names_those_there_are(corpus: Path, tmp_path: Path) -> None:
    printed = failed(*command(corpus, tmp_path / "cache", "--label-set", "seven"))
    assert "no label set 'seven'; there are: all" in printed


def test_all_layers_are_told_and_computed_like_one(corpus: Path, tmp_path: Path) -> None:
    cache, each = tmp_path / "cache", TOTAL * 149 * 64 * 2
    every = ("--kind", "ssl", "--layer", "all")
    arguments = command(corpus, cache, *every, ssl=True)
    assert f"to compute: {TOTAL} segments, {size_text(3 * each)}, time about" in done(*arguments, "--dry-run")
    assert f"{TOTAL} segments, {size_text(3 * each)} in " in done(*arguments)
    done(*command(corpus, cache, "--kind", "ssl", "--layer", "1", ssl=True))
    folders = {path.name.rpartition("-")[0]: path for path in cache.iterdir()}
    assert set(folders) == {"ssl-hubert-all", "ssl-hubert-layer1"}
    with Features.open(folders["ssl-hubert-layer1"], "abc") as alone:
        recipe = replace(read_recipe(folders["ssl-hubert-all"]), layer=1)
        with Features.open(recipe, "abc") as of_all:
            for index, (a, b) in enumerate(zip(alone.shards, of_all.shards, strict=True)):
                rows = np.arange(a.shape[0])
                which = np.full(len(rows), index)
                np.testing.assert_array_equal(alone.gather(which, rows), of_all.gather(which, rows))
                np.testing.assert_array_equal(a.valid_frames, b.valid_frames)
                for name in ("sum", "sum_squares", "minimum", "maximum"):
                    np.testing.assert_array_equal(alone.moments(index, name), of_all.moments(index, name))
    printed = failed(*command(corpus, cache, "--kind", "ssl", "--layer", "3", ssl=True))
    assert (
        "has no layer 3; choose 0 (input of the first layer) to 2, -1 for the final output, or all" in printed
    )


def test_demo_goes_from_nothing_to_a_sound_cache(tmp_path: Path) -> None:
    out, root, cache = tmp_path / "demo.csv", tmp_path / "demo", str(tmp_path / "cache")
    assert "scores on it mean nothing" in done("manifest", "demo", "--root", str(root), "--out", str(out))
    places = [str(out), "--root", str(root), "--cache", cache, "--kind", "logspec"]
    assert "6 shards written" in done("features", *places)
    assert done("verify", "--cache", cache) == "6 shards are valid\n"


def kill_at(arguments: list[str], ready: Callable[[], bool], late: float) -> bool:
    """Starts the command, kills it so many seconds after `ready`; False if it was done before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mfhca_cache", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not ready():
        time.sleep(0.0005)
    time.sleep(late)
    process.send_signal(signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), stderr
    return process.returncode != 0


@pytest.mark.parametrize(
    ("ssl", "kills", "options"), [(False, 4, ()), (True, 2, ("--layer", "all"))], ids=("spectra", "layers")
)
def test_killed_runs_end_with_the_digests_of_an_undisturbed_one(
    corpus: Path, tmp_path: Path, ssl: bool, kills: int, options: tuple[str, ...]
) -> None:
    cache = tmp_path / "cache"
    arguments = command(corpus, cache, *options, ssl=ssl)
    done(*command(corpus, tmp_path / "fresh", *options, ssl=ssl))
    whole = size(tmp_path / "fresh")
    rng = random.Random(int(os.environ.get("MFHCA_KILL_SEED", "1")))
    killed = 0
    while killed < kills:
        # At a random stage of the work: when so many bytes more are on disk, and a random moment later.
        aim, late = size(cache) + rng.uniform(0, whole / kills), rng.uniform(0, 0.01)
        if kill_at(arguments, lambda aim=aim: size(cache) > aim, late):  # type: ignore[misc]
            killed += 1
            recorded(cache)  # what has its name is whole, at any moment
        else:  # it was done before; from the beginning
            shutil.rmtree(cache)
    done(*arguments)
    assert recorded(cache) == recorded(tmp_path / "fresh")
    assert done("prune", "--cache", str(cache), "--dry-run") == "nothing to remove\n"
