"""The Python functions of stage one: as the commands, with keyword arguments, texts or paths, and MfhcaError."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_factory import SEGMENTS, recorded, write_audio
from command_factory import command, done

import mfhca_cache
from mfhca_cache import Features, MfhcaError, build_manifest, cache_status, compute_features, read_manifest
from mfhca_cache.cli import features, main, status
from mfhca_cache.recipe.choices import Settings


@pytest.mark.parametrize(
    ("function", "command_of_it", "others"),
    [
        (compute_features, features, {"cluster", "kinds"}),
        (cache_status, status, {"kinds"}),
        (build_manifest, main.commands["manifest"], set()),
    ],
)
def test_defaults_are_those_of_the_command(
    function: Callable[..., Any], command_of_it: Any, others: set[str]
) -> None:
    """Every argument is an option and every option an argument; the manifest's path has another name there."""
    renamed = {"manifest": "manifest_path"} | {
        f"{name}_regex": name for name in ("speaker", "emotion", "gender")
    }
    parameters = inspect.signature(function).parameters
    options = {option.name: option for option in command_of_it.params}
    ours = {renamed.get(name, name): value for name, value in parameters.items()}
    only_commands = {"dry_run", "names", "quiet", "verbose", "backend", "scheduler", "worker_timeout"}
    assert set(ours) - others == set(options) - only_commands - others
    for name in set(ours) - others:
        if ours[name].default is not inspect.Parameter.empty and not options[name].required:
            shown = options[name].to_info_dict().get("default", options[name].default)
            assert (shown or None) == (ours[name].default or None), name


def test_arguments_of_features_are_the_settings_of_recipes() -> None:
    for function in (compute_features, cache_status):
        parameters = inspect.signature(function).parameters
        for field in fields(Settings):
            assert parameters[field.name].default == field.default
            assert parameters[field.name].kind is inspect.Parameter.KEYWORD_ONLY


def test_features_are_those_of_the_command(corpus: Path, tmp_path: Path) -> None:
    done(*command(corpus, tmp_path / "cache", ssl=True))
    manifest, root, cache = corpus / "rows.csv", str(corpus / "audio"), tmp_path / "own"
    before = cache_status(manifest, root, cache, backbone=corpus / "hubert")
    assert not before.complete
    assert before.kinds["ssl"].missing == tuple(SEGMENTS)
    recipes = compute_features(str(manifest), root, str(cache), backbone=corpus / "hubert")
    assert recorded(cache) == recorded(tmp_path / "cache")
    assert {kind: recipe.path.name for kind, recipe in recipes.items()} == {
        path.name.partition("-")[0]: path.name for path in (tmp_path / "cache").iterdir()
    }
    after = cache_status(manifest, root, cache, backbone=str(corpus / "hubert"))
    assert after.complete
    assert after.kinds["logspec"].present == tuple(SEGMENTS)
    assert str(after) == done(*command(corpus, cache, name="status", ssl=True)).rstrip("\n")
    with Features.open(str(recipes["ssl"].path), "a") as opened:
        assert len(opened.utterance("a4")[0]) == SEGMENTS["a4"]


def test_failures_are_listed_and_the_rest_is_computed(own: Path) -> None:
    (own / "audio/b/b2.wav").write_bytes(b"not audio")
    arguments = (own / "rows.csv", own / "audio", own / "cache")
    with pytest.raises(MfhcaError, match=r"1 of 7 utterances failed(.|\n)*b2\.wav: not readable as audio"):
        compute_features(*arguments, kinds="logspec")
    found = cache_status(*arguments, kinds="logspec")
    assert found.kinds["logspec"].missing == ("b2",)
    assert found.kinds["logspec"].present == tuple(name for name in SEGMENTS if name != "b2")
    (own / "audio/b/b2.wav").unlink()
    assert cache_status(*arguments, kinds="logspec").kinds["logspec"].unreadable == ("b2",)
    assert not found.complete
    write_audio(own / "audio/a/a1.wav", "other", 1.0)
    stale = cache_status(*arguments, kinds="logspec")
    assert stale.kinds["logspec"].stale == ("a1",)
    assert "a1: the audio of a/a1.wav changed" in str(stale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kinds": "mel"}, "no kind of features is called 'mel'; did you mean logmel?"),
        ({"kinds": ()}, "kinds is empty; choose from logspec, "),
        ({"kinds": ["logspec"], "layer": 3}, "layer has no effect without kind ssl; leave it out"),
        ({"kinds": "mfcc", "db_reference": "utterance"}, "no effect without kind logspec or logmel"),
        ({}, "features of kind ssl need an encoder"),
        ({"kinds": "logspec", "jobs": 0}, "jobs is 0; expected a whole number of at least 1"),
        ({"kinds": "logspec", "pre_emphasis": 1.5}, "pre_emphasis is 1.5; expected at least 0 and below 1"),
        ({"kinds": "logspec", "tail": "cut"}, r"logspec\.tail is 'cut', expected one of pad, overlap, drop"),
        ({"kinds": "logspec", "label_set": "six"}, "no label set 'six'; there are: all"),
    ],
)
def test_wrong_arguments_are_errors(
    corpus: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    for function in (compute_features, cache_status):
        with pytest.raises(MfhcaError, match=message):
            function(corpus / "rows.csv", corpus / "audio", tmp_path / "cache", **arguments)
    assert not (tmp_path / "cache").exists()


def test_a_manifest_is_that_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("anna_1", "ben_1"):
        write_audio(tmp_path / f"data/joy/{name}.wav", name)
    monkeypatch.chdir(tmp_path)
    made = build_manifest("folders", "data", speaker_regex=r"/(\w+)_\d")
    assert made.path == Path("manifests/folders.csv")
    assert [u.speaker for u in made.utterances] == ["anna", "ben"]
    assert "2 utterances of 2 speakers" in caplog.text
    done("manifest", "folders", "--root", "data", "--out", "other.csv", "--speaker-regex", r"/(\w+)_\d")
    assert read_manifest("other.csv").utterances == made.utterances


def test_a_manifest_can_come_from_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "data/1.wav", "1")
    (tmp_path / "list.csv").write_text("file,who,label\n1.wav,anna,joy\n")
    monkeypatch.chdir(tmp_path)
    made = build_manifest("table", "data", source="list.csv", columns={"speaker": "who"})
    assert made.path == Path("manifests/list.csv")
    assert [(u.utterance, u.speaker, u.emotion) for u in made.utterances] == [("1", "anna", "joy")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("emobd", "."), r"no corpus 'emobd'; did you mean emodb\?"),
        (("folders", "."), "folders needs --speaker-regex"),
        (("folders", ".", None, "["), "speaker_regex '\\[' is not a regular expression"),
        (
            ("folders", ".", None, "a"),
            "speaker_regex 'a' has no group; put the part that is the speaker in parentheses",
        ),
    ],
)
def test_wrong_corpora_are_errors(arguments: tuple[Any, ...], message: str) -> None:
    corpus, root, out, regex = (*arguments, None, None)[:4]
    with pytest.raises(MfhcaError, match=message):
        build_manifest(corpus, root, out, speaker_regex=regex)


def test_dir_and_help_show_what_is_public() -> None:
    assert dir(mfhca_cache) == sorted(mfhca_cache.__all__)
    for name in ("build_manifest", "compute_features", "cache_status"):
        function = getattr(mfhca_cache, name)
        text = inspect.getdoc(function) or ""
        for argument in inspect.signature(function).parameters:
            assert f"{argument}:" in text or f"{argument}," in text
        assert "Returns:" in text
        assert "MfhcaError:" in text


def test_shards_and_recipes_are_found_by_text_paths(corpus: Path, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    (recipe,) = compute_features(
        str(corpus / "rows.csv"), str(corpus / "audio"), cache, kinds="logspec"
    ).values()
    assert mfhca_cache.find_recipe(cache, "logspec") == recipe == mfhca_cache.read_recipe(str(recipe.path))
    assert mfhca_cache.list_recipes(cache) == [recipe]
    shard = mfhca_cache.read_shard(str(recipe.path / "a.h5"))
    mfhca_cache.verify_shard(shard)
    assert json.loads((recipe.path / "recipe.json").read_text())["frame_shape"] == list(shard.shape[1:])
    assert shard.dtype == np.float16
