"""`mfhca-cache status`: what is present, missing or stale, and why."""

from __future__ import annotations

import shutil
from pathlib import Path

from audio_factory import manifest_of, write_audio
from command_factory import command, done, manifest_rows, recipe_name, size

from mfhca_cache.common.text import size_text
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.recipe.folder import read_recipe


def test_status_tells_what_is_stale_and_which_file_differs(own: Path) -> None:
    done(*command(own, own / "cache"))
    everything = done(*command(own, own / "cache", name="status"))
    assert everything.startswith(f"{recipe_name(own)}: 7 present of 7 utterances\non disk: ")
    write_audio(own / "audio/a/a1.wav", "other", 1.0)
    (own / "audio/c/c1.wav").unlink()
    rows = [row for row in manifest_rows(own) if row.utterance != "b2"]
    manifest_of(own / "rows.csv", [*rows, Utterance("d1", "b/b2.wav", "d", "joy")])
    printed = done(*command(own, own / "cache", name="status"))
    assert f"{recipe_name(own)}: 4 present, 1 stale, 1 missing, 1 unreadable of 7 utterances" in printed
    assert "  speaker a: stale: a1: the audio of a/a1.wav changed (SHA-256 " in printed
    assert "  speaker d: missing: no shard" in printed
    assert "unreadable: utterance c1: no file c/c1.wav" in printed


def test_status_tells_which_field_of_the_recipe_differs(own: Path) -> None:
    done(*command(own, own / "cache"))
    changed = ("--db-reference", "utterance", "--dtype", "float32")
    printed = done(*command(own, own / "cache", *changed, name="status"))
    assert "0 present, 7 missing of 7 utterances" in printed
    assert (
        f"another recipe, {recipe_name(own)}: db_reference: utterance wanted, full_scale in the cache; "
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
