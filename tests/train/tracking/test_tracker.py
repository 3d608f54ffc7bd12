"""Trackers see everything and change nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from corpus_factory import request, utterances, write_features
from pages import block, python, shell
from run_factory import tree
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.cli import options
from mfhca_train.results.checksums import read_rows
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.tracking import tracker

SETTINGS = {"train.epochs": "2"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of a small corpus without a tracker."""
    folder = tmp_path_factory.mktemp("plain")
    cross_validate(request(folder, settings=SETTINGS, folds=("s0", "s1")))
    return folder


@pytest.fixture
def corpus(plain: Path, tmp_path: Path) -> Path:
    """The same corpus, not trained on."""
    return Path(shutil.copytree(plain, tmp_path / "x", ignore=shutil.ignore_patterns("run")))


def test_both_trackers_get_the_numbers_of_the_run_and_change_no_byte(
    plain: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cross_validate(request(corpus, settings=SETTINGS, folds=("s0", "s1"), track=tracker.TRACKERS))
    results = json.loads((corpus / "run/results.json").read_text())
    events = {
        path.name: EventAccumulator(str(path)).Reload() for path in (corpus / "run/tensorboard").iterdir()
    }
    assert set(events) == {"model", "model-seed-0-fold-s0", "model-seed-0-fold-s1"}
    from mlflow import MlflowClient

    client = MlflowClient((corpus / "mlruns").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'mfhca'")
    (run,) = client.search_runs([experiment.experiment_id])
    for fold in ("s0", "s1"):
        history = read_rows(corpus / f"run/model/seed-0/fold-{fold}/history.csv")
        for name in ("train_loss", "validation_ua"):
            expected = [(int(row["epoch"]), pytest.approx(float(row[name]))) for row in history]
            seen = events[f"model-seed-0-fold-{fold}"].Scalars(name)
            assert [(event.step, event.value) for event in seen] == expected
            logged = client.get_metric_history(run.info.run_id, f"model.seed-0.fold-{fold}.{name}")
            assert [(metric.step, metric.value) for metric in logged] == expected
    assert events["model"].Scalars("test_ua")[0].value == pytest.approx(results["ua"]["mean"])
    assert events["model"].Images("confusion")
    assert run.data.metrics["model.test_ua_pooled"] == pytest.approx(results["ua"]["pooled"])
    assert (run.data.params["model.protocol"], run.data.params["model.train.epochs"]) == ("strict", "2")
    # Two runs that differ in the encoder alone must not look the same.
    assert run.data.params["model.features.ssl"] == results["recipes"]["ssl"]
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["confusion-model.png"]
    shutil.rmtree(corpus / "run/tensorboard")
    assert tree(corpus / "run") == tree(plain / "run")


def test_a_tracker_that_fails_is_one_warning_and_the_run_ends_well(
    plain: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    cross_validate(request(corpus, settings=SETTINGS, folds=("s0", "s1"), track=("mlflow",)))
    log = (corpus / "run/log.txt").read_text().splitlines()
    (warning,) = [line for line in log if "--track" in line]
    assert "--track mlflow: stopped (" in warning
    assert tree(corpus / "run") == tree(plain / "run")


def test_a_tracker_that_is_not_there_stops_the_command_before_it_trains(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert options.TRACKERS == tracker.TRACKERS
    with pytest.raises(MfhcaError, match=r"no tracker 'tensorbord'; did you mean tensorboard\?"):
        cross_validate(request(corpus, track=("tensorbord",)))
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(MfhcaError, match=r"mlflow is not installed; run `pip install 'mfhca\[mlflow\]'`"):
        cross_validate(request(corpus, track=("mlflow",)))
    assert not (corpus / "run/model").exists()


def test_the_page_on_tracking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = utterances(speakers=4, each=2)
    write_manifest(tmp_path / "mine.csv", rows)
    write_features(tmp_path / "cache", rows)
    quick = ("--set", "train.epochs=1", "--no-analysis", "--fold", "s0")
    shell(tmp_path, block("tracking.md", "shell", "track"), quick)
    assert (tmp_path / "runs/mine/tensorboard/model-seed-0-fold-s0").is_dir()
    assert (tmp_path / "runs/mlruns").is_dir()
    printed = python(tmp_path, block("tracking.md", "test", "callback"), capsys)
    assert [line.split()[:3] for line in printed.splitlines()] == [[f"s{s}", "0", "1"] for s in range(4)]
