"""A finished run in Python: the numbers of its files."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ablation_factory import SKILLS, make_ablation, small_grid
from run_factory import edit, make_run
from sklearn.metrics import confusion_matrix

from mfhca_cache import MfhcaError
from mfhca_train import Run, load_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation, not to be written to."""
    made = tmp_path_factory.mktemp("runs") / "cv"
    make_run(made)
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(str(folder))


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made = tmp_path_factory.mktemp("runs")
    make_ablation(made / "ablation", small_grid(made), SKILLS)
    return load_run(made / "ablation")


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    """All rows of the units' CSV files of a name, with fold and seed."""
    content = json.loads((folder / "results.json").read_text())
    rows = []
    for fold in content["folds"]:
        path = folder / f"model/seed-{fold['seed']}/fold-{fold['id']}" / name
        with open(path, newline="") as file:
            rows += [{"fold": fold["id"], "seed": str(fold["seed"]), **row} for row in csv.DictReader(file)]
    return rows


def test_scores_are_those_of_results_json(run: Run, folder: Path) -> None:
    content = json.loads((folder / "results.json").read_text())
    for name in ("wa", "ua", "f1"):
        assert run.scores[name].mean == content[name]["mean"]
        assert run.scores[name].pooled == content[name]["pooled"]
    assert run.confusion.tolist() == content["confusion"]
    assert run.classes == tuple(content["classes"])
    assert [fold.id for fold in run.row.folds] == [fold["id"] for fold in content["folds"]]


def test_predictions_are_those_of_the_files_and_give_the_confusion(run: Run, folder: Path) -> None:
    found, rows = run.predictions, rows_of(folder, "predictions.csv")
    for name in ("utterance", "speaker", "label", "prediction", "fold"):
        assert found[name].tolist() == [row[name] for row in rows]
    assert found["seed"].tolist() == [int(row["seed"]) for row in rows]
    again = confusion_matrix(found["label"], found["prediction"], labels=run.classes)
    assert run.confusion.tolist() == again.tolist()
    logp = run.row.log_probabilities
    assert logp.tolist() == [[float(row[f"logp_{name}"]) for name in run.classes] for row in rows]
    assert (np.array(run.classes)[logp.argmax(axis=1)] == found["prediction"]).all()


def test_history_is_that_of_the_files(run: Run, folder: Path) -> None:
    rows = rows_of(folder, "history.csv")
    for name in ("seed", "epoch", "train_loss", "validation_ua"):
        assert run.history[name].tolist() == [float(row[name]) for row in rows]
    assert run.history["fold"].tolist() == [row["fold"] for row in rows]


def test_tables_become_frames(run: Run) -> None:
    pandas = pytest.importorskip("pandas")
    frame = run.predictions.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    right = (frame["label"] == frame["prediction"]).groupby([frame["seed"], frame["fold"]]).mean()
    assert right.mean() == pytest.approx(run.scores["wa"].mean)
    assert list(frame) == list(run.predictions)
    assert f"Table of {len(frame)} rows: fold, seed" in repr(run.predictions)


def test_without_pandas_the_error_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MfhcaError, match="to_frame needs pandas; pip install pandas"):
        run.history.to_frame()


def test_rows_of_an_ablation_have_names(ablation: Run) -> None:
    first = next(iter(ablation))
    assert ablation[first].confusion.sum() > 0
    assert len(ablation) == len(list(ablation)) > 1
    with pytest.raises(
        MfhcaError, match=rf"an ablation; choose a row, e\.g\. run\['{first}'\]\.scores; there"
    ):
        _ = ablation.scores
    with pytest.raises(MfhcaError, match=f"no row '{first}x'; did you mean {first}"):
        _ = ablation[f"{first}x"]


def test_what_is_shown(run: Run, ablation: Run) -> None:
    assert f"{100 * run.scores['wa'].mean:.2f}" in repr(run)
    assert str(run).startswith("protocol strict: ")
    html = run._repr_html_()
    assert html.count("<table>") == 2
    assert f"<td>{100 * run.scores['ua'].mean:.2f} ± {100 * run.scores['ua'].std:.2f}</td>" in html
    for row in run.confusion.tolist():
        assert "".join(f"<td>{count}</td>" for count in row) in html
    shown = ablation._repr_html_()
    assert shown.count("<table>") == 1
    assert shown.count("<tr>") == 1 + len(ablation)
    assert f"{len(ablation)} rows" in repr(ablation)


def test_names_cannot_break_the_notebook(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    edit(tmp_path / "run/results.json", "r['corpus'] = '<script>'")
    assert "<script>" not in load_run(tmp_path / "run")._repr_html_()


def test_oracles_and_the_demo_are_marked(tmp_path: Path) -> None:
    make_run(tmp_path / "run", protocol="oracle")
    edit(tmp_path / "run/results.json", "r['corpus'] = 'demo'")
    shown = load_run(tmp_path / "run")
    assert "oracle: the epoch was selected on the test speaker" in shown._repr_html_()
    assert "oracle: the epoch was selected on the test speaker" in repr(shown.row)
    assert "these scores mean nothing" in shown._repr_html_()


def test_an_unfinished_or_changed_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"no run\.json, so the run is not finished"):
        load_run(tmp_path)
    make_run(tmp_path / "run")
    loaded = load_run(tmp_path / "run")
    unit = next((tmp_path / "run/model/seed-0").glob("fold-*"))
    (unit / "predictions.csv").write_text((unit / "predictions.csv").read_text() + "\n")
    with pytest.raises(MfhcaError, match=r"predictions\.csv: damaged"):
        load_run(tmp_path / "run")
    with pytest.raises(MfhcaError, match=r"predictions\.csv: damaged"):
        _ = loaded.predictions
