"""mfhca_train.runs.plan: a run refuses one recording under two speakers, one class, and settings that nothing reads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import corpus_factory
import pytest
import soundfile
from audio_factory import manifest_of, write_audio
from click.testing import CliRunner
from corpus_factory import request, utterances
from cv_factory import cv_command, fails

from mfhca_cache.cli import main
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.reader import find_recipe
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.plan import Request, read_labels


def test_a_recording_under_two_speakers_is_refused_unless_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy is in another container, so that only the features are equal."""
    rows = []
    for speaker in "abcde":
        for take, label in enumerate(("joy", "sorrow")):
            name = f"{speaker}{take}"
            write_audio(tmp_path / "audio" / f"{name}.wav", name, 0.5, subtype="PCM_16")
            rows.append(Utterance(name, f"{name}.wav", speaker, label))
    samples, rate = soundfile.read(tmp_path / "audio" / "a0.wav", dtype="int16")
    soundfile.write(tmp_path / "audio" / "copy.flac", samples, rate, subtype="PCM_16")
    rows.append(Utterance("e2", "copy.flac", "e", "joy"))
    manifest, cache = manifest_of(tmp_path / "rows.csv", rows).path, tmp_path / "cache"
    places = ["--root", str(tmp_path / "audio"), "--cache", str(cache), "--kind", "logspec"]
    done = CliRunner().invoke(main, ["features", str(manifest), *places, "--accept-copies"])
    assert done.exit_code == 0, done.output

    config = with_settings(Config(), {"model.inputs": "spec", "train.epochs": "1"})
    request = Request(manifest, cache, tmp_path / "run", config, jobs=1, device="cpu", analysis=False)
    with pytest.raises(
        MfhcaError,
        match=r"(?s)1 pair of identical recordings under two speakers.*a0 of speaker a and e2 of speaker e",
    ):
        cross_validate(request)
    recipes = {"spec": find_recipe(cache, "logspec")}
    with OpenFeatures(read_labels(replace(request, accept_copies=True))) as features:
        assert len(features.of(recipes).utterances) == 11
    assert "accepted: a test recording may also be in training" in caplog.text


def test_one_class_and_ignored_settings_are_refused(finished: Path, tmp_path: Path) -> None:
    request(tmp_path, [replace(u, emotion="joy") for u in utterances()])
    fails(cv_command(tmp_path), "has only one class")
    shutil.copytree(finished, tmp_path / "x")
    fails(
        cv_command(tmp_path / "x", "--set", "train.groups=9"),
        "train.groups would be ignored by protocol strict",
    )
    fails(
        cv_command(tmp_path / "x", "--out", str(tmp_path / "y"), "--set", "model.grf_rate=64"),
        "too large for a map of",
    )
    fails(
        cv_command(tmp_path / "x", "--set", "train.lr=inf"),
        "train.lr = 'inf' does not fit: expected a number above 0",
    )


def test_a_cache_of_a_smaller_label_set_names_it(tmp_path: Path) -> None:
    rows = corpus_factory.utterances(extra_label="surprise")
    corpus_factory.write_features(tmp_path / "cache", corpus_factory.utterances())
    four = "".join(f'{name} = "{name}"\n' for name in corpus_factory.CLASSES)
    card = 'name = "corpus"\ntitle = "t"\ncitation = "c"\nlicence = "l"\nsource = "s"\nlayout = "x"\n'
    card += f'labels = {[*corpus_factory.CLASSES, "surprise"]}\ndefault_set = "five"\n'
    (tmp_path / "corpus.toml").write_text(
        f'{card}[classes.five]\n{four}surprise = "surprise"\n[classes.four]\n{four}'
    )
    words = "all features of label set four, not of five; pass --label-set four, or .* 4 of 28 utterances"
    with pytest.raises(MfhcaError, match=words):
        cross_validate(corpus_factory.request(tmp_path, rows))
