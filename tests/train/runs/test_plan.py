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
from mfhca_cache.common import hardware
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.utterance import Utterance
from mfhca_cache.store.reader import find_recipe
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.data.folds import make_folds
from mfhca_train.results.schema import RESULT_FILE, unit_folder
from mfhca_train.runs.crossval import cross_validate, plan_row
from mfhca_train.runs.features import OpenFeatures
from mfhca_train.runs.folder import finished_folders, finished_seeds
from mfhca_train.runs.plan import Request, Row, read_labels, with_precision


def test_a_recording_under_two_speakers_is_refused_unless_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy is in another container, so that only the features are equal; another file has two overlapping spans."""
    rows = []
    for speaker in "abcde":
        for take, label in enumerate(("joy", "sorrow")):
            name = f"{speaker}{take}"
            write_audio(tmp_path / "audio" / f"{name}.wav", name, 0.5, subtype="PCM_16")
            rows.append(Utterance(name, f"{name}.wav", speaker, label))
    samples, rate = soundfile.read(tmp_path / "audio" / "a0.wav", dtype="int16")
    soundfile.write(tmp_path / "audio" / "copy.flac", samples, rate, subtype="PCM_16")
    rows.append(Utterance("e2", "copy.flac", "e", "joy"))
    rows.append(Utterance("e3", "a1.wav", "e", "sorrow", start_s=0.1, end_s=0.5))
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
        assert len(features.of(recipes).utterances) == 12
    assert caplog.text.count("under two speakers, accepted: a test recording may also be in training") == 2

    manifest_of(tmp_path / "rows.csv", [row for row in rows if row.utterance != "e2"])
    with pytest.raises(
        MfhcaError,
        match=r"(?s)1 pair of overlapping utterances of one file under two speakers.*a1 of .* and e3 of",
    ):
        cross_validate(request)


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


FOLDS = make_folds(utterances(), "strict", Config().train)  # s0, s1, s2, s3


def row(asked: str, *seeds: int) -> Row:
    chosen = tuple(fold for fold in FOLDS if fold.id in asked.split())
    return Row("row", Config(), "strict", seeds, FOLDS, chosen, {})


def make(out: Path, seed: int, *folds: str) -> None:
    for fold in folds:
        folder = unit_folder(out, "row", seed, fold)
        folder.mkdir(parents=True)
        (folder / RESULT_FILE).touch()


@pytest.mark.parametrize(
    ("asked", "seeds", "folds", "used"),
    [
        ("s1", (0,), "s0 s1 s2", (0,)),  # what is finished of seed 0; seed 1 lacks s2
        ("s0", (1,), "s0 s1", (0, 1)),
        ("s0", (0, 1), "s0 s1", (0, 1)),  # s2 is finished with one of the two seeds
        ("s0 s3", (0,), "s0 s1 s2 s3", (0,)),  # s3 is trained now
    ],
)
def test_results_use_every_complete_fold_and_seed(
    tmp_path: Path, asked: str, seeds: tuple[int, ...], folds: str, used: tuple[int, ...]
) -> None:
    make(tmp_path, 0, "s0", "s1", "s2")
    make(tmp_path, 1, "s0", "s1")
    expected = [unit_folder(tmp_path, "row", seed, fold) for seed in used for fold in folds.split()]
    assert finished_folders(tmp_path, row(asked, *seeds)) == expected


def test_a_seed_is_finished_with_its_last_fold(tmp_path: Path) -> None:
    make(tmp_path, 10, "s0", "s1")
    make(tmp_path, 2, "s0")
    (tmp_path / "row/seed-x").mkdir()
    unit_folder(tmp_path, "row", 2, "s1").mkdir()  # without a result
    assert finished_seeds(tmp_path, row("s0")) == (2, 10)
    assert finished_seeds(tmp_path, row("s0 s1")) == (10,)
    assert finished_seeds(tmp_path, row("s0"), FOLDS) == ()
    assert finished_seeds(tmp_path / "none", row("s0")) == ()


def test_automatic_precision_is_that_of_the_processor_and_is_stored(tmp_path: Path) -> None:
    base = request(tmp_path)
    for name, expected in (("auto", hardware.fastest_precision("cpu")), ("float32", "float32")):
        config = with_settings(base.config, {"train.precision": name})
        assert plan_row(replace(base, config=config))[1].config.train.precision == expected
    with pytest.raises(MfhcaError, match=r"device 'cuda:99' is not available here"):
        with_precision(
            replace(base, device="cuda:99"), with_settings(base.config, {"train.precision": "auto"})
        )
