"""The command `mfhca-cache`: exit codes, what it says, what it imports, and kill -9."""

from __future__ import annotations

import json
import os
import random
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
from audio_factory import SEGMENTS, manifest_of, notes, recorded, write_audio, write_corpus
from click.testing import CliRunner, Result

from mfhca_cache.cli import main
from mfhca_cache.common.files import lock
from mfhca_cache.common.text import size_text
from mfhca_cache.corpora import demo_encoder
from mfhca_cache.manifest.manifest import Utterance
from mfhca_cache.recipe.folder import read_recipe
from mfhca_cache.store.reader import Features

HEAVY = ("numpy", "torch", "h5py", "transformers", "librosa", "soundfile", "scipy", "soxr")
TOTAL = sum(SEGMENTS.values())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with audio/, hubert/ and rows.csv. Not to be changed."""
    folder = tmp_path_factory.mktemp("corpus")
    manifest_of(folder / "rows.csv", write_corpus(folder / "audio"))
    (folder / "hubert").mkdir()
    demo_encoder.write(folder / "hubert")
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The same without an encoder, to be changed."""
    manifest_of(tmp_path / "rows.csv", write_corpus(tmp_path / "audio"))
    return tmp_path


def command(folder: Path, cache: Path, *options: str, name: str = "features", ssl: bool = False) -> list[str]:
    which = ["--backbone", str(folder / "hubert")] if ssl else ["--kind", "logspec"]
    places = [str(folder / "rows.csv"), "--root", str(folder / "audio"), "--cache", str(cache)]
    return [name, *places, *which, *options]


def call(*arguments: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(main, arguments, input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: str, answer: str | None = None) -> str:
    result = call(*arguments, answer=answer)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error: ")
    return result.stderr


def modules_after(arguments: list[str]) -> tuple[set[str], str]:
    """Which heavy modules a command leaves imported, in a process of its own, and what it printed."""
    code = (
        "import sys\nfrom mfhca_cache.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('MODULES', *(m for m in {HEAVY!r} if m in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    printed, _, modules = run.stdout.rpartition("MODULES")
    return set(modules.split()), printed


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
    assert f"to compute: {TOTAL} segments, 2.8 MB, time unknown: no earlier run recorded its speed" in printed
    assert not (tmp_path / "cache").exists()


def test_dry_run_estimates_time_from_an_earlier_run(own: Path) -> None:
    done(*command(own, own / "cache"))
    write_audio(own / "audio/a/a1.wav", "other", 1.0)
    printed = done(*command(own, own / "cache", "--dry-run"))
    assert "to compute: 1 segments, 120.0 kB, time about " in printed


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
    assert sorted(recorded(own / "cache")) == [f"{folder(own)}/{name}.h5" for name in "abc"]
    assert "5 utterances present, 1 to compute" in call(*command(own, own / "cache", "--dry-run")).stdout


def folder(own: Path) -> str:
    return next((own / "cache").glob("logspec-*")).name


def test_path_that_leaves_the_root_is_refused(own: Path) -> None:
    manifest_of(own / "rows.csv", [Utterance("x", "a/x.wav", "a", "joy")])
    outside = write_audio(own / "x.wav", "x")
    (own / "audio/a/x.wav").symlink_to(outside)
    assert "is a link out of" in failed(*command(own, own / "cache"))
    assert "computed 1 utterances" in done(*command(own, own / "cache", "--allow-outside"))
    (own / "rows.csv").write_text("utterance,path,speaker,emotion\nx,../x.wav,a,joy\n")
    assert "climbs with .." in failed(*command(own, own / "cache"))


def test_cache_that_cannot_be_written_is_one_line(own: Path) -> None:
    printed = failed(*command(own, own / "rows.csv/cache"))
    assert len(printed.splitlines()) == 1
    assert "cannot be written (Not a directory)" in printed


def test_finished_cache_may_be_read_only(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(*command(own, own / "cache"))
    (own / "rows.csv").rename(own / "renamed.csv")
    (own / "rows.csv").symlink_to("renamed.csv")

    def refuse(*_: object) -> None:
        from mfhca_cache.common.errors import MfhcaError

        raise MfhcaError("cache: cannot be written (Read-only file system)")

    monkeypatch.setattr("mfhca_cache.build.users.write_json", refuse)
    printed = done(*command(own, own / "cache"))
    assert "nothing to compute" in printed
    assert (
        "note: `prune` will not know that this manifest uses the cache: cache: cannot be written" in printed
    )


def test_missing_backbone_is_one_line(corpus: Path, tmp_path: Path) -> None:
    arguments = command(corpus, tmp_path / "cache")[:-2]
    printed = failed(*arguments, "--backbone", str(tmp_path / "gone"))
    assert len(printed.splitlines()) == 1
    assert "gone: no such folder; pass a folder with config.json" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "mel"], "is not one of 'logspec', 'logmel', 'mfcc', 'ssl'"),
        (["--kind", "logspec", "--layer", "3"], "--layer has no effect without --kind ssl"),
        (["--kind", "logspec", "--compute-dtype", "bfloat16"], "--compute-dtype has no effect without"),
        (
            ["--kind", "ssl", "--backbone", "x", "--db-reference", "utterance"],
            "--db-reference has no effect without --kind logspec or logmel",
        ),
        (["--kind", "mfcc", "--db-reference", "utterance"], "--db-reference has no effect"),
        (["--kind", "ssl"], "kind ssl needs --backbone"),
        ([], "kind ssl needs --backbone"),
        (["--kind", "logspec", "--pre-emphasis", "1.5"], "is not in the range"),
        (["--kind", "logspec", "--jobs", "0"], "is not in the range"),
        (["--layer", "some"], "'some' is neither an integer nor all"),
    ],
)
def test_wrong_usage_ends_with_2(corpus: Path, tmp_path: Path, options: list[str], message: str) -> None:
    places = [str(corpus / "rows.csv"), "--root", str(corpus / "audio"), "--cache", str(tmp_path / "cache")]
    result = call("features", *places, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_unknown_corpus_ends_with_2(tmp_path: Path) -> None:
    result = call("manifest", "nonesuch", "--root", str(tmp_path))
    assert result.exit_code == 2
    assert "'crema-d', 'demo', 'emodb', 'emovo', 'iemocap'" in result.stderr


def test_unknown_label_set_names_those_there_are(corpus: Path, tmp_path: Path) -> None:
    printed = failed(*command(corpus, tmp_path / "cache", "--label-set", "seven"))
    assert "no label set 'seven'; choose one of: all" in printed


def test_status_tells_what_is_stale_and_which_file_differs(own: Path) -> None:
    done(*command(own, own / "cache"))
    everything = done(*command(own, own / "cache", name="status"))
    assert everything.startswith(f"{folder(own)}: 7 present of 7 utterances\non disk: ")
    write_audio(own / "audio/a/a1.wav", "other", 1.0)
    (own / "audio/c/c1.wav").unlink()
    rows = [row for row in write_rows(own) if row.utterance != "b2"]
    manifest_of(own / "rows.csv", [*rows, Utterance("d1", "b/b2.wav", "d", "joy")])
    printed = done(*command(own, own / "cache", name="status"))
    assert f"{folder(own)}: 4 present, 1 stale, 1 missing, 1 unreadable of 7 utterances" in printed
    assert "  speaker a: stale: a1: the audio of a/a1.wav changed (SHA-256 " in printed
    assert "  speaker d: missing: no shard" in printed
    assert "unreadable: utterance c1: no file c/c1.wav" in printed


def write_rows(own: Path) -> list[Utterance]:
    from mfhca_cache.manifest.manifest import read_manifest

    return list(read_manifest(own / "rows.csv").utterances)


def test_status_tells_which_field_of_the_recipe_differs(own: Path) -> None:
    done(*command(own, own / "cache"))
    changed = ("--db-reference", "utterance", "--dtype", "float32")
    printed = done(*command(own, own / "cache", *changed, name="status"))
    assert "0 present, 7 missing of 7 utterances" in printed
    assert (
        f"another recipe, {folder(own)}: db_reference: utterance wanted, full_scale in the cache; "
        "dtype: float32 wanted, float16 in the cache" in printed
    )


def test_status_of_an_empty_cache_says_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    printed = done(*command(corpus, tmp_path / "cache", name="status", ssl=True))
    assert printed.count("0 present, 7 missing of 7 utterances") == 2
    assert not (tmp_path / "cache").exists()


def test_status_names_the_recipes_that_the_options_mean_for_cv(own: Path) -> None:
    cache = own / "cache"
    done(*command(own, cache))
    done(*command(own, cache, "--kind", "logmel", "--tail", "overlap"))
    padded, *others = sorted(cache.glob("logspec-*"), key=lambda p: read_recipe(p).recipe["tail"] != "pad")
    (mel,) = cache.glob("logmel-*")
    shutil.rmtree(own / "audio")  # names are told without it
    names = ["--names", "--kind", "logmel"]
    assert len(others) == 1
    assert done(*command(own, cache, "--names", name="status")) == f"--spec {padded.name}\n"
    both = done(*command(own, cache, *names, "--tail", "overlap", name="status"))
    assert both == f"--spec {others[0].name}\n"  # of two kinds the first
    alone = ["status", str(own / "rows.csv"), "--root", str(own), "--cache", str(cache), "--tail", "overlap"]
    assert done(*alone, *names) == f"--spec {mel.name}\n"


def test_status_tells_what_every_recipe_takes_on_disk(own: Path) -> None:
    cache = own / "cache"
    done(*command(own, cache))
    done(*command(own, cache, "--tail", "drop"))
    printed = done(*command(own, cache, name="status"))
    sizes = {path.name: size(path) for path in cache.iterdir()}
    assert len(sizes) == 2
    assert f"on disk: {size_text(sum(sizes.values()))}\n" in printed
    for name, bytes_ in sizes.items():
        assert f"{size_text(bytes_)}  {name}\n" in printed


def test_all_layers_are_told_and_computed_like_one(corpus: Path, tmp_path: Path) -> None:
    cache, each = tmp_path / "cache", TOTAL * 149 * 64 * 2
    every = ("--kind", "ssl", "--layer", "all")
    arguments = command(corpus, cache, *every, ssl=True)
    assert f"to compute: {TOTAL} segments, {size_text(3 * each)}, time unknown" in done(
        *arguments, "--dry-run"
    )
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
        "has no layer 3; choose 0 (before the first layer) to 2, -1 for the final output, or all" in printed
    )


def test_verify_names_every_bad_shard_and_ends_with_1(own: Path) -> None:
    from mfhca_cache.store.shard import read_shard

    done(*command(own, own / "cache"))
    assert done("verify", "--cache", str(own / "cache")) == "3 shards are valid\n"
    a, b = (next((own / "cache").glob(f"*/{name}.h5")) for name in "ab")
    data = bytearray(a.read_bytes())
    data[read_shard(a).offset] ^= 1
    a.write_bytes(data)
    b.write_bytes(b.read_bytes()[:-1])
    result = call("verify", "--cache", str(own / "cache"))
    assert (result.exit_code, result.stdout) == (1, "1 shards are valid\n")
    assert "2 errors:" in result.stderr
    assert f"{a}: damaged" in result.stderr
    assert str(b) in result.stderr
    assert done(*command(own, own / "cache")).count("recomputed: ") == 1  # a's digest is seen by verify alone
    a.unlink()
    done(*command(own, own / "cache"))
    assert done("verify", "--cache", str(own / "cache")) == "3 shards are valid\n"


def test_verify_finds_a_shard_in_the_wrong_place_and_an_edited_recipe(own: Path) -> None:
    done(*command(own, own / "cache"))
    path = next((own / "cache").glob("*/a.h5"))
    (path.with_name("z.h5")).write_bytes(path.read_bytes())
    recipe = path.with_name("recipe.json")
    value = json.loads(recipe.read_text())
    value["recipe"]["hop_samples"] = 80
    recipe.write_text(json.dumps(value))
    printed = failed("verify", "--cache", str(own / "cache"))
    assert "has features of speaker 'a', its name says 'z'" in printed
    assert "recipe.json: the recipe has key" in printed


@pytest.mark.parametrize("name", ["verify", "prune"])
def test_cache_that_is_not_there_is_one_line(tmp_path: Path, name: str) -> None:
    printed = failed(name, "--cache", str(tmp_path / "gone"))
    assert printed.endswith("gone: no such folder; pass the cache folder as --cache\n")


def test_prune_spares_what_a_manifest_names_and_asks_about_the_rest(own: Path) -> None:
    cache = str(own / "cache")
    done(*command(own, own / "cache"))
    assert done("prune", "--cache", cache) == "nothing to remove\n"
    rows = write_rows(own)
    manifest_of(own / "rows.csv", [row for row in rows if row.speaker == "a"])
    manifest_of(own / "other.csv", [row for row in rows if row.speaker == "c"])
    shards = own / "cache" / folder(own)
    (shards / ".b.h5.rows").write_bytes(b"x" * 1000)

    listed = done("prune", "--cache", cache, "--dry-run")
    assert f"{shards / 'b.h5'} (" in listed
    assert "none of its utterances is in a recorded manifest" in listed
    assert f"{shards / '.b.h5.rows'} (1.0 kB): left by an interrupted run" in listed
    assert "would remove 3 (" in listed
    spared = done("prune", "--cache", cache, "--manifest", str(own / "other.csv"), "--dry-run")
    assert "c.h5" not in spared
    assert "nothing removed" in done("prune", "--cache", cache, answer="n\n")
    assert len(list(shards.glob("*.h5"))) == 3
    assert "removed 3 (" in done("prune", "--cache", cache, "--yes")
    assert sorted(path.name for path in shards.glob("*.h5")) == ["a.h5"]
    assert not (shards / ".b.h5.rows").exists()
    assert done("prune", "--cache", cache) == "nothing to remove\n"


def test_prune_removes_a_recipe_that_no_manifest_uses(own: Path) -> None:
    done(*command(own, own / "cache"))
    done(*command(own, own / "cache", "--tail", "drop"))
    (own / "rows.csv").rename(own / "other.csv")
    manifest_of(own / "rows.csv", write_corpus(own / "audio"))
    for note in sorted((own / "cache").glob("*/manifests.json"))[:1]:
        note.write_text(json.dumps([str(own / "gone.csv")]))
        doomed = note.parent
    printed = done("prune", "--cache", str(own / "cache"), "--yes")
    assert f"{doomed} (" in printed
    assert "no manifest recorded for it exists" in printed
    assert not doomed.exists()
    assert len(list((own / "cache").iterdir())) == 1


def test_prune_leaves_alone_what_a_living_writer_holds(own: Path) -> None:
    done(*command(own, own / "cache"))
    shards = own / "cache" / folder(own)
    (shards / ".a.h5.rows").write_bytes(b"x")
    with lock(shards / ".a.h5.lock", "a"):
        assert done("prune", "--cache", str(own / "cache"), "--yes") == "nothing to remove\n"
    (own / "rows.csv").unlink()
    with lock(shards / ".a.h5.lock", "a"):
        assert done("prune", "--cache", str(own / "cache"), "--yes") == "nothing to remove\n"
    assert shards.exists()


def test_prune_refuses_to_guess_what_an_unreadable_manifest_names(own: Path) -> None:
    done(*command(own, own / "cache"))
    (own / "rows.csv").write_text("not,a,manifest\n")
    assert "rows.csv: no column utterance" in failed("prune", "--cache", str(own / "cache"), "--yes")


def test_demo_goes_from_nothing_to_a_sound_cache(tmp_path: Path) -> None:
    out, root, cache = tmp_path / "demo.csv", tmp_path / "demo", str(tmp_path / "cache")
    assert "scores on it mean nothing" in done("manifest", "demo", "--root", str(root), "--out", str(out))
    places = [str(out), "--root", str(root), "--cache", cache, "--kind", "logspec"]
    assert "6 shards written" in done("features", *places)
    assert done("verify", "--cache", cache) == "6 shards are valid\n"


def size(cache: Path) -> int:
    total = 0
    for path in list(cache.rglob("*")):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


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
    ("ssl", "kills", "options"), [(False, 8, ()), (True, 2, ("--layer", "all"))], ids=("spectra", "layers")
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


def test_features_removes_part_files_of_complete_shards_but_not_those_of_a_living_writer(own: Path) -> None:
    done(*command(own, own / "cache"))
    (folder,) = (own / "cache").iterdir()
    whole = recorded(own / "cache")
    rows, journal, other = (folder / f".{name}" for name in ("a.h5.rows", "a.h5.journal", "b.h5.rows"))
    for path in (rows, journal, other):
        path.write_bytes(b"left by a writer that was killed")
    with lock(folder / ".b.h5.lock", "b"):
        assert "nothing to compute" in done(*command(own, own / "cache"))
        assert [path.exists() for path in (rows, journal, other)] == [False, False, True]
    done(*command(own, own / "cache"))
    assert not other.exists()
    assert recorded(own / "cache") == whole
