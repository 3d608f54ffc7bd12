"""The features of a run are compared with the audio, with each other and with the conditions of their computation."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_factory import KINDS, request, utterances, write_features
from cv_factory import cv_command, fails
from run_factory import Page

from mfhca_cache.build.users import record_manifest
from mfhca_cache.common.errors import MfhcaError
from mfhca_train.data.inputs import choose_recipes
from mfhca_train.results.checksums import read_sealed
from mfhca_train.runs import features as module
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.plan import read_labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files with the digests that the made-up features have."""
    folder = tmp_path / "audio"
    folder.mkdir()
    for u in utterances():
        (folder / u.path).write_text(f"{u.utterance}/0/False")
    return folder


def test_with_a_root_the_audio_is_compared_and_the_report_says_so(
    finished: Path, tmp_path: Path, root: Path
) -> None:
    shutil.copytree(finished, tmp_path / "x")
    result = cv_command(tmp_path / "x")
    assert result.exit_code == 0, result.output
    assert "audio files were not compared" in Page(tmp_path / "x/run/report.html").text
    result = cv_command(tmp_path / "x", "--root", str(root))
    assert result.exit_code == 0, result.output
    assert read_sealed(tmp_path / "x/run/run.json")["audio_checked"]
    assert "audio files were compared with the features" in Page(tmp_path / "x/run/report.html").text
    (root / "s1_1.wav").write_text("another recording")
    (root / "s2_0.wav").unlink()
    changed = cv_command(tmp_path / "x", "--root", str(root))
    fails(
        changed,
        "the audio of 2 of 24 utterances is missing, or is not that",
        "s1_1: the audio of s1_1.wav changed",
    )
    assert "no file s2_0.wav" in changed.output
    fails(cv_command(tmp_path / "x", "--root", str(tmp_path / "absent")), "no such folder")


def test_features_that_were_computed_for_another_manifest_are_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, root: Path
) -> None:
    """A denoised copy has the ids and paths of the original: without the audio, a wrong --cache looks right."""
    asked = request(tmp_path)
    recipes = choose_recipes(tmp_path / "cache", "ssl")

    def noted(**changes: Path) -> list[str]:
        caplog.clear()
        with OpenFeatures(read_labels(replace(asked, **changes)), with_audio=True) as features:
            features.of(recipes)
        return [text for text in caplog.messages if "computed for" in text]

    caplog.set_level(logging.INFO, "mfhca")
    assert not noted()  # nothing is on record
    folder = recipes["ssl"].path
    record_manifest([folder], tmp_path / "denoised.csv", tmp_path / "denoised")
    (told,) = noted()
    assert told.startswith(
        f"{folder}: computed for {tmp_path}/denoised.csv (audio in {tmp_path}/denoised), not for"
    )
    assert not noted(root=root)  # the audio is compared
    record_manifest([folder], asked.manifest, tmp_path)
    assert not noted()


def test_rows_on_features_of_other_audio_are_not_compared(tmp_path: Path) -> None:
    rows = utterances()
    write_features(tmp_path / "cache", rows, kinds=KINDS[:1])
    write_features(tmp_path / "cache", rows, version={"s1_1": 1}, kinds=KINDS[1:])
    labelled = read_labels(request(tmp_path, rows))
    spec, ssl = (choose_recipes(tmp_path / "cache", inputs) for inputs in ("spec", "ssl"))
    with OpenFeatures(labelled) as features:
        features.of(spec)
        with pytest.raises(
            MfhcaError, match="the features of 1 of 24 utterances were computed from other audio in one row"
        ):
            features.of(ssl)


def test_features_of_different_conditions_are_warned_of_and_listed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "x")
    assert "mixed_features" not in read_sealed(tmp_path / "x/run/results.json")
    monkeypatch.setattr(module, "mixture", lambda shards: ["threads 1 and 2"] * (shards[0].kind == "ssl"))
    result = cv_command(tmp_path / "x")
    assert "computed under different conditions (threads 1 and 2)" in result.output
    (recipe,) = (tmp_path / "x/cache").glob("ssl-*")
    assert read_sealed(tmp_path / "x/run/results.json")["mixed_features"] == {
        recipe.name: ["threads 1 and 2"]
    }
    tables = Page(tmp_path / "x/run/report.html").tables
    assert [recipe.name, "threads 1 and 2"] in [row for table in tables for row in table]
