"""Classes that a fold does not train: named, and refused if its test speakers have one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from corpus_factory import CLASSES, utterances, write_features
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.card import LabelSet
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_cache.manifest.utterance import Utterance
from mfhca_train.cli.main import main
from mfhca_train.config.settings import TrainConfig
from mfhca_train.data.coverage import check_classes
from mfhca_train.data.folds import make_folds

SET = LabelSet("all", {name: name for name in CLASSES})


@given(st.lists(st.sets(st.sampled_from(CLASSES), min_size=1), min_size=5, max_size=9))
def test_a_fold_is_refused_exactly_if_it_tests_a_class_it_does_not_train(classes: list[set[str]]) -> None:
    rows = [Utterance(f"{s}-{name}", "x.wav", f"s{s}", name) for s, own in enumerate(classes) for name in own]
    refused = []
    for fold in make_folds(rows, "strict", TrainConfig()):
        trained = set().union(*(classes[int(s[1:])] for s in fold.train))
        if set().union(*(classes[int(s[1:])] for s in fold.test)) - trained:
            refused.append(fold.id)
        check_classes(rows, SET, [fold], accept=True)
    folds = make_folds(rows, "strict", TrainConfig())
    if not refused:
        check_classes(rows, SET, folds)
        return
    with pytest.raises(MfhcaError, match=f"^{len(refused)} folds? tests? a class that no training") as caught:
        check_classes(rows, SET, folds)
    assert re.findall(r"fold (\w+):", str(caught.value)) == refused


def test_groups_that_lack_a_class_are_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = utterances(8)
    folds = make_folds(rows, "group-k", TrainConfig(groups=4))
    check_classes(rows, SET, folds)
    assert "lacks a class" not in caplog.text
    relabelled = [replace(u, emotion="neutral") if u.speaker in folds[1].test else u for u in rows]
    assert make_folds(relabelled, "group-k", TrainConfig(groups=4)) == folds
    check_classes(relabelled, SET, folds)
    said = caplog.text
    assert "a group of test speakers lacks a class" in said
    assert re.findall(r"fold .*", said) == [f"fold {folds[1].id}: anger, joy, sorrow"]


def test_a_class_that_only_validation_speakers_have_is_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = [u for u in utterances() if u.speaker == "s1" or u.emotion != "joy"]
    (fold,) = (fold for fold in make_folds(rows, "strict", TrainConfig()) if fold.test == ("s0",))
    assert "s1" in fold.validation
    check_classes(rows, SET, [fold])
    assert "a class has no training utterance\n  fold s0: joy" in caplog.text


def test_cv_refuses_such_a_fold_until_told(tmp_path: Path) -> None:
    rows = [u for u in utterances() if u.speaker == "s0" or u.emotion != "joy"]
    write_manifest(tmp_path / "corpus.csv", rows)
    write_features(tmp_path / "cache", rows)

    def cv(*options: str) -> tuple[int, str]:
        places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run"), "--fold", "s0"]
        small = ["model.inputs=ssl", "model.width=8", "model.bilstm=false", "train.epochs=1"]
        settings = [part for setting in small for part in ("--set", setting)]
        usual = ["--jobs", "1", "--device", "cpu", "--no-analysis"]
        result = CliRunner().invoke(
            main, ["cv", str(tmp_path / "corpus.csv"), *places, *settings, *usual, *options]
        )
        return result.exit_code, result.output

    code, said = cv()
    assert code == 1
    assert "1 fold tests a class that no training speaker has" in said
    assert "fold s0: joy" in said
    assert not (tmp_path / "run").exists()
    code, said = cv("--accept-untrained")
    assert code == 0, said
    assert "a test class has no training utterance and counts as an error\n  fold s0: joy" in said
