"""manifests.json: which manifests use a recipe."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from audio_factory import manifest_of, notes, recorded, write_audio
from build_factory import build
from command_factory import call, command, done, failed, manifest_rows, recipe_name

from mfhca_cache.build.builder import Outcome
from mfhca_cache.build.plan import Plan
from mfhca_cache.build.users import record_manifest
from mfhca_cache.manifest.utterance import Utterance


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


def test_manifests_that_use_a_cache_are_on_record(rows: list[Utterance], root: Path, tmp_path: Path) -> None:
    build(rows, root, tmp_path / "cache")
    assert notes(tmp_path / "cache") == [str(tmp_path / "rows.csv")]


@pytest.fixture
def denoised(own: Path) -> Path:
    """A second corpus beside `own`: the same speaker and utterance ids and paths, other audio for a1 and c1."""
    other = own / "denoised"
    shutil.copytree(own / "audio", other / "audio")
    shutil.copy(own / "rows.csv", other / "rows.csv")
    write_audio(other / "audio/a/a1.wav", "denoised", 1.2)
    write_audio(other / "audio/c/c1.wav", "denoised", 6.0, 48_000)
    return other


def test_the_features_of_another_corpus_with_the_same_ids_are_not_replaced(own: Path, denoised: Path) -> None:
    cache = own / "cache"
    done(*command(own, cache))
    before = recorded(cache)
    for dry in ([], ["--dry-run"]):
        printed = failed(*command(denoised, cache, *dry))
        assert (
            f"2 utterances of {denoised / 'rows.csv'} have other audio in {denoised / 'audio'} than in "
            f"{own / 'audio'}, where {own / 'rows.csv'} uses them under the same ids; choose another --cache, "
            "or pass --replace" in printed
        )
        assert printed.splitlines()[1:] == ["  speaker a: a1", "  speaker c: c1"]
    assert recorded(cache) == before
    assert done(*command(own, cache, name="status")).startswith(f"{recipe_name(own)}: 7 present of 7")
    assert "2 shards written" in done(*command(denoised, cache, "--replace"))
    assert recorded(cache) != before
    # Now the features belong to both; the first corpus is refused in turn.
    assert "2 utterances of" in failed(*command(own, cache))


def test_one_manifest_with_two_roots_is_two_corpora(own: Path, denoised: Path) -> None:
    cache = own / "cache"
    done(*command(own, cache))
    before = recorded(cache)
    arguments = command(own, cache)
    arguments[3] = str(denoised / "audio")
    printed = failed(*arguments)
    assert f"2 utterances of {own / 'rows.csv'} have other audio in {denoised / 'audio'} than in" in printed
    assert recorded(cache) == before
    assert "2 shards written" in done(*arguments, "--replace")


def test_another_manifest_of_the_same_corpus_may_replace_what_changed(own: Path) -> None:
    cache = own / "cache"
    done(*command(own, cache))
    manifest_of(own / "part.csv", [row for row in manifest_rows(own) if row.speaker == "a"])
    write_audio(own / "audio/a/a1.wav", "corrected", 1.0)
    arguments = command(own, cache)
    arguments[1] = str(own / "part.csv")
    assert "computed 1 utterance," in done(*arguments)
    assert notes(cache) == [str(own / "part.csv"), str(own / "rows.csv")]


def test_other_files_of_one_root_with_the_same_ids_are_another_corpus(own: Path) -> None:
    """Both versions of a corpus may be below one root: original and denoised files in two folders."""
    cache = own / "cache"
    done(*command(own, cache))
    before = recorded(cache)
    shutil.copytree(own / "audio/a", own / "audio/denoised")
    write_audio(own / "audio/denoised/a1.wav", "denoised", 1.2)
    rows = [replace(row, path=row.path.replace("a/", "denoised/")) for row in manifest_rows(own)]
    manifest_of(own / "denoised.csv", rows)
    arguments = command(own, cache)
    arguments[1] = str(own / "denoised.csv")
    printed = failed(*arguments)
    assert (
        f"1 utterance of {own / 'denoised.csv'} has other files in {own / 'audio'} than the features, and "
        f"{own / 'rows.csv'} uses them under the same ids; choose another --cache" in printed
    )
    assert printed.splitlines()[1:] == ["  speaker a: a1"]
    assert recorded(cache) == before
    # An edit of the manifest itself is no second corpus.
    (own / "denoised.csv").replace(own / "rows.csv")
    assert "computed 1 utterance," in done(*command(own, cache))


def test_two_corpora_with_the_same_ids_that_are_computed_at_once_are_told_so(
    own: Path, denoised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find an empty cache, so neither has anything to replace."""
    from mfhca_cache.build import distribute

    build_cache = distribute.build_cache

    def another_begins(plan: Plan, *arguments: Any, **options: Any) -> Outcome:
        folders = [target.folder for target in plan.targets]
        for folder in folders:
            folder.mkdir(parents=True)
        record_manifest(folders, denoised / "rows.csv", denoised / "audio")
        return build_cache(plan, *arguments, **options)

    monkeypatch.setattr(distribute, "build_cache", another_begins)
    printed = failed(*command(own, own / "cache"))
    assert (
        f"meanwhile features of {denoised / 'rows.csv'} (audio in {denoised / 'audio'}) were computed"
        in printed
    )
    assert "the ids of 7 utterances" in printed
    monkeypatch.setattr(distribute, "build_cache", build_cache)
    assert "nothing to compute" in done(*command(own, own / "cache"))


def test_a_corpus_that_moved_is_the_same_corpus(own: Path) -> None:
    cache = own / "cache"
    done(*command(own, cache))
    (own / "audio").rename(own / "moved")
    write_audio(own / "moved/a/a1.wav", "corrected", 1.0)
    arguments = command(own, cache)
    arguments[3] = str(own / "moved")
    # Where the old root was may be an unmounted disk with another version of a1.
    assert f"than in {own / 'audio'} (which cannot be found now), where" in failed(*arguments)
    assert "computed 1 utterance," in done(*arguments, "--replace")
    (note,) = cache.glob("*/manifests.json")
    assert json.loads(note.read_text()) == [{"manifest": str(own / "rows.csv"), "root": str(own / "moved")}]


@pytest.mark.parametrize("lost", ["root", "manifest", "content of both"])
def test_what_cannot_be_read_counts_as_used(lost: str, own: Path, denoised: Path) -> None:
    """It may be on a disk that is not mounted."""
    cache = own / "cache"
    done(*command(own, cache))
    before = recorded(cache)
    if lost != "manifest":
        (own / "audio").rename(own / "away")
    if lost == "manifest":
        (own / "rows.csv").unlink()
    elif lost == "content of both":
        (own / "rows.csv").write_text("no,manifest\n")
    printed = failed(*command(denoised, cache))
    found = " (which cannot be found now)" if lost != "manifest" else ""
    use = "uses them under the same ids" if lost == "root" else "may use them (it cannot be read now)"
    assert (
        f"than in {own / 'audio'}{found}, where {own / 'rows.csv'} {use}; choose another --cache" in printed
    )
    assert printed.splitlines()[1:] == ["  speaker a: a1", "  speaker c: c1"]
    assert recorded(cache) == before


@pytest.mark.parametrize("text", ['["rows.csv"]', '{"manifest": 1}', '[{"manifest": "x"}]', "3", "[1]"])
def test_a_damaged_record_is_one_line(own: Path, text: str) -> None:
    done(*command(own, own / "cache"))
    (note,) = (own / "cache").glob("*/manifests.json")
    note.write_text(text)
    result = call("prune", "--cache", str(own / "cache"))
    assert result.exit_code == 1
    assert f"{note}: not a list of objects with manifest and root; delete it" in result.stderr
