"""run.json: another run in the same folder is refused, with what differs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import corpus_factory
import numpy as np
import pytest
from corpus_factory import (
    utterances,
    write_features,
)
from cv_factory import cv_command, fails
from run_factory import Page

from mfhca_cache.common.files import sha256_text
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.training import process


def test_another_configuration_in_the_same_folder_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    fails(
        cv_command(tmp_path / "x", "--set", "train.lr=1e-4"),
        "holds another run",
        "config.train.lr: 0.003 in that run, 0.0001 now",
    )
    fails(cv_command(tmp_path / "x", "--protocol", "oracle"), "protocol: strict in that run, oracle now")


def test_a_setting_that_is_at_its_default_again_is_another_configuration(
    finished: Path, tmp_path: Path
) -> None:
    """run.json leaves some settings out at their default, so the recorded one has an entry more."""
    shutil.copytree(finished, tmp_path / "x")
    path = tmp_path / "x/run/run.json"
    recorded = read_sealed(path)
    write_sealed(
        path,
        recorded
        | {"config": recorded["config"] | {"train": {"label_smoothing": 0.1} | recorded["config"]["train"]}},
    )
    shutil.rmtree(tmp_path / "x/run/model/seed-0/fold-s1")
    told = "config.train.label_smoothing: 0.1 in that run, not set now"
    fails(cv_command(tmp_path / "x", "--fold", "s1"), "holds another run", told)
    assert not (tmp_path / "x/run/model/seed-0/fold-s1").exists()
    write_sealed(path, recorded | {"kind": "svm"})
    fails(cv_command(tmp_path / "x", "--fold", "s1"), "kind: svm in that run, not set now")


def test_a_cache_that_changed_under_a_run_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    shutil.rmtree(tmp_path / "x/cache")
    write_features(tmp_path / "x/cache", utterances(), version={"s1_1": 1})
    before, now = (sha256_text(f"s1_1/{take}/False")[:16] for take in (0, 1))
    told = f"utterance s1_1 (s1_1.wav): audio SHA-256 {before} in that run, {now} now"
    fails(cv_command(tmp_path / "x", "--seeds", "2"), "holds another run", "data_digest", told)


@pytest.mark.parametrize("change", ["last bits", "order of frames", "order of segments"])
def test_features_that_were_computed_again_with_other_values_are_refused(
    change: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audio is the same, so its digest says nothing: as after `features` with another number of threads.

    Frames or segments in another order have the same moments.
    """
    shutil.copytree(finished, tmp_path / "x")
    shutil.rmtree(tmp_path / "x/cache")
    made = corpus_factory._features

    def changed(*args: Any) -> tuple:
        name, origin, values, valid = made(*args)
        if name != "s1_1":
            pass
        elif change == "last bits":
            values[0, 0, 0] = np.nextafter(values[0, 0, 0], np.float32(9))
        elif change == "order of frames":
            values[0, :2] = values[0, 1::-1]
        else:
            values, valid = values[::-1], valid[::-1]
        return name, origin, values, valid

    monkeypatch.setattr(corpus_factory, "_features", changed)
    write_features(tmp_path / "x/cache", utterances(), version={change: 1})
    fails(cv_command(tmp_path / "x"), "holds another run", "features_digest", "features were computed again")


def test_units_trained_in_another_environment_are_listed(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "x")
    assert "environments" not in read_sealed(tmp_path / "x/run/results.json")
    shutil.rmtree(tmp_path / "x/run/model/seed-0/fold-s1")
    monkeypatch.setattr(process, "cpu_type", lambda: "x86_64 OTHER")
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    result = cv_command(tmp_path / "x")
    assert "this is x86_64 OTHER; the last digits may differ" in result.output
    assert "(MKL_CBWR unset then, AVX2 now); the last digits may differ" in result.output
    first, second = read_sealed(tmp_path / "x/run/results.json")["environments"]
    assert second["units"] == [["s1", 0]]
    assert [name for name in first if name != "units" and first[name] != second[name]] == ["versions", "cpu"]
    assert second["versions"] == first["versions"] | {"MKL_CBWR": "AVX2"}
    assert sorted(first["units"] + second["units"]) == [[f"s{k}", seed] for k in range(4) for seed in (0, 1)]
    page = Page(tmp_path / "x/run/report.html")
    assert ["fold s1, seed 0", "cpu x86_64 OTHER, MKL_CBWR AVX2"] in [
        row[:2] for table in page.tables for row in table
    ]


def test_labels_that_changed_under_a_run_are_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    rows = [replace(u, emotion="joy") if u.utterance == "s0_0" else u for u in utterances()]
    write_manifest(tmp_path / "x/corpus.csv", rows)
    told = "utterance s0_0 (s0_0.wav): class anger in that run, joy now"
    fails(cv_command(tmp_path / "x"), "holds another run", "label_digest", told)
    write_manifest(tmp_path / "x/corpus.csv", utterances()[1:])
    fails(cv_command(tmp_path / "x"), "holds another run", "utterance s0_0: only in that run")


def test_a_gender_that_changes_the_folds_is_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    rows = [replace(u, gender="f" if u.speaker in ("s0", "s1") else "m") for u in utterances()]
    write_manifest(tmp_path / "x/corpus.csv", rows)
    fails(cv_command(tmp_path / "x"), "holds another run", "folds_digest", "gender m in that run, f now")


def test_another_device_is_refused_before_a_run_goes_on(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "x")
    path = tmp_path / "x/run/run.json"
    write_sealed(path, read_sealed(path) | {"device": "cuda"})
    shutil.rmtree(tmp_path / "x/run/model/seed-0/fold-s1")
    fails(cv_command(tmp_path / "x"), "was started on cuda, not on cpu")
