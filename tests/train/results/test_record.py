"""A damaged run folder is refused in one line that names the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from run_factory import edit, make_run, reseal

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.report.page import write_report
from mfhca_train.results.checksums import write_sealed
from mfhca_train.results.record import read_record
from mfhca_train.results.schema import CV_ROW, unit_folder


def _edit(change: str, name: str = "results.json") -> Any:
    """A function that damages a JSON file: a statement on `r`."""

    def spoil(run: Path) -> None:
        edit(run / name, change)

    return spoil


def _curves(change: Callable[[str], str]) -> Any:
    """A function that changes the text of a unit's history.csv, as if it had been written so."""

    def spoil(run: Path) -> None:
        _history(run).write_text(change(_history(run).read_text()))
        reseal(_history(run).parent)

    return spoil


def _text(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def _history(run: Path) -> Path:
    return unit_folder(run, CV_ROW, 0, "03") / "history.csv"


CV_DAMAGE = {
    "no run": (lambda run: shutil.rmtree(run), "no run.json, so the run is not finished"),
    "not finished": (
        lambda run: (run / "results.json").unlink(),
        "no results.json, so the run is not finished",
    ),
    "not JSON": (lambda run: (run / "results.json").write_text("{"), "results.json: not valid JSON"),
    "a list": (lambda run: (run / "results.json").write_text("[]"), "results.json: holds no digest"),
    "run.json empty": (lambda run: write_sealed(run / "run.json", {}), "run.json: format is missing"),
    "no WA": (_edit("del r['wa']"), "wa is missing"),
    "WA a text": (_edit("r['wa']['mean'] = 'high'"), "wa.mean is 'high', expected a number from 0 to 1"),
    "UA not a number": (
        lambda run: _text(run / "results.json", '"pooled": 0.', '"pooled": NaN'),
        "not valid JSON .*NaN is not a finite number",
    ),
    "true for a count": (
        _edit("r['n_folds'] = True"),
        "n_folds is True, expected a whole number of at least 1",
    ),
    "half an interval": (_edit("r['wa']['ci95'] = [0.5]"), "wa.ci95 is a list, expected a list of 2"),
    "fold without epoch": (_edit("del r['folds'][1]['best_epoch']"), r"folds\[1\].best_epoch is missing"),
    "fold missing": (_edit("r['folds'].pop()"), "3 different folds and seeds are listed, expected 4"),
    "fold twice": (
        _edit("r['folds'][1] = r['folds'][0]"),
        "3 different folds and seeds are listed, expected 4",
    ),
    "confusion not square": (_edit("r['confusion'].pop()"), "confusion is not a table of 4 by 4 counts"),
    "confusion negative": (
        _edit("r['confusion'][0][0] = -1"),
        r"confusion\[0\]\[0\] is -1, expected a whole number of at least 0",
    ),
    "confusion empty": (_edit("r['confusion'] = [[0] * 4] * 4"), "confusion counts no utterance"),
    "other classes": (_edit("r['classes'][0] = 'joy'"), "recalls are not those of the classes"),
    "headline": (_edit("r['headline'] = 'best'"), "headline is 'best', expected one of mean, pooled"),
    "best epoch": (_edit("r['folds'][0]['best_epoch'] = 99"), "fold '03': best epoch 99 of"),
    "another run's curves": (
        _edit("r['folds'][0]['epochs'] += 1"),
        "results.json: row model, fold 03, seed 0: epochs differs from that in .*result.json",
    ),
    "no curves": (lambda run: _history(run).unlink(), "history.csv: cannot be read .No such file"),
    "curves cut": (
        _curves(lambda _: "epoch,train_loss\n1,"),
        "cannot be read .ValueError could not convert",
    ),
    "curves no text": (
        lambda run: (_history(run).write_bytes(b"\xff\xfe"), reseal(_history(run).parent)),
        "cannot be read .UnicodeDecodeError",
    ),
    "curves no numbers": (
        _curves(lambda text: text.replace("0.", "x.")),
        "cannot be read .ValueError",
    ),
    "score above one": (
        _curves(lambda text: text.replace(",0.", ",7.")),
        "a score is not between 0 and 1",
    ),
}


@pytest.mark.parametrize("kind", CV_DAMAGE)
def test_a_damaged_cross_validation_is_one_line_that_names_the_file(cv_copy: Path, kind: str) -> None:
    spoil, message = CV_DAMAGE[kind]
    before = (cv_copy / "report.html").read_bytes()
    spoil(cv_copy)
    with pytest.raises(MfhcaError, match=message) as caught:
        write_report(cv_copy)
    assert "\n" not in str(caught.value)
    assert str(cv_copy) in str(caught.value)
    assert "mfhca-train cv" in str(caught.value) or "run again" in str(caught.value)
    assert not cv_copy.exists() or (cv_copy / "report.html").read_bytes() == before


UNIT = "plain/seed-0/fold-02"


ABLATION_DAMAGE: Mapping[str, tuple[Any, str]] = {
    "no row": (_edit("r['rows'] = {}"), "results.json: no rows"),
    "row without UA": (_edit("del r['rows']['plain']['ua']"), r"results.json: rows.plain.ua is missing"),
    "row of another run": (
        _edit("r['rows']['x'] = r['rows']['plain']"),
        r"results.json: row 'x' is not in run.json",
    ),
    "confusion": (
        _edit("r['rows']['svm']['confusion'].pop()"),
        "results.json: row 'svm': confusion is not a table of 4 by 4",
    ),
    "figure changed": (
        _edit("r['rows']['plain']['folds'][1]['ua'] += 0.01"),
        f"results.json: row plain, fold 02, seed 0: ua differs from that in .*{UNIT}/result.json",
    ),
    "p not a number": (
        _edit("r['rows']['svm']['comparison']['ua']['p'] = 'small'"),
        "results.json: rows.svm.comparison.ua.p is 'small', expected a number from 0 to 1",
    ),
    "no run.json": (lambda run: (run / "run.json").unlink(), "no run.json, so the run is not finished"),
    "no versions": (_edit("del r['versions']", "run.json"), "run.json: versions is missing"),
    "no result": (lambda run: (run / UNIT / "result.json").unlink(), f"{UNIT}/result.json: cannot be read"),
    "half a result": (
        lambda run: write_sealed(run / UNIT / "result.json", {"files": {}}),
        rf"{UNIT}: not a complete unit \(id is missing\)",
    ),
    "no predictions": (
        lambda run: (run / UNIT / "predictions.csv").unlink(),
        f"{UNIT}/predictions.csv: cannot be read",
    ),
    "predictions cut": (
        lambda run: (
            (run / UNIT / "predictions.csv").write_text("utterance,speaker,label,prediction\n"),
            reseal(run / UNIT),
        ),
        f"{UNIT}/predictions.csv: does not fit result.json",
    ),
    "no curves": (
        lambda run: (run / UNIT / "history.csv").unlink(),
        f"{UNIT}/history.csv: cannot be read",
    ),
    "inputs": (
        lambda run: (
            (run / "plain/seed-0/fold-01/inputs.safetensors").write_bytes(b"x" * 99),
            reseal(run / "plain/seed-0/fold-01"),
        ),
        "fold-01/inputs.safetensors: cannot be read",
    ),
}


@pytest.mark.parametrize("kind", ABLATION_DAMAGE)
def test_a_damaged_ablation_is_one_line_that_names_the_file(ablation_copy: Path, kind: str) -> None:
    spoil, message = ABLATION_DAMAGE[kind]
    before = (ablation_copy / "report.html").read_bytes()
    spoil(ablation_copy)
    with pytest.raises(MfhcaError, match=message) as caught:
        write_report(ablation_copy)
    assert "\n" not in str(caught.value)
    assert (ablation_copy / "report.html").read_bytes() == before


def test_chance_level_counts_only_classes_that_somebody_has(tmp_path: Path) -> None:
    make_run(tmp_path / "four")
    assert read_record(tmp_path / "four").chance == 1 / 4
    make_run(tmp_path / "three", absent="anger", skill=1.0)
    assert read_record(tmp_path / "three").chance == 1 / 3
