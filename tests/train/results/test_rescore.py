"""Other poolings of segments, from the files of a finished run alone."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from corpus_factory import CLASSES, request

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.cli.main import POOLING_NAMES, main
from mfhca_train.inference.ensemble import read_run
from mfhca_train.results.checksums import read_sealed, write_result, write_sealed
from mfhca_train.results.record import read_record
from mfhca_train.results.rescore import POOLINGS, rescore
from mfhca_train.results.schema import CV_ROW
from mfhca_train.runs.crossval import cross_validate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    cross_validate(request(folder, settings={"train.epochs": "1"}))
    return folder / "run"


def test_mean_reproduces_results_json_exactly(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    found = json.loads(json.dumps(rescore(run, "mean")[CV_ROW]))
    assert found.pop("breakdown") == {}
    assert {key: results[key] for key in found} == found


@pytest.mark.parametrize("pooling", ["duration", "majority", "maximum"])
def test_poolings_agree_with_a_plain_loop(run: Path, pooling: str) -> None:
    confusion = np.zeros((len(CLASSES), len(CLASSES)), int)
    for folder in sorted((run / "model/seed-0").glob("fold-*")):
        with open(folder / "predictions.csv", newline="") as file:
            labels = {row["utterance"]: row["label"] for row in csv.DictReader(file)}
        with open(folder / "segments.csv", newline="") as file:
            segments = list(csv.DictReader(file))
        for utterance, label in labels.items():
            mine = [row for row in segments if row["utterance"] == utterance]
            p = np.array([[float(row[f"logp_{name}"]) for name in CLASSES] for row in mine])
            if pooling == "duration":
                guess = int(
                    np.average(p, axis=0, weights=[int(row["valid_frames"]) for row in mine]).argmax()
                )
            elif pooling == "maximum":
                guess = int(np.unravel_index(p.argmax(), p.shape)[1])
            else:
                votes = Counter(p.argmax(axis=1).tolist())
                guess = max(votes, key=lambda k: (votes[k], p[:, k].mean()))
            confusion[CLASSES.index(label), guess] += 1
    assert rescore(run, pooling)[CV_ROW]["confusion"] == confusion.tolist()


def test_the_command_prints_every_pooling_and_changes_nothing(run: Path) -> None:
    assert tuple(POOLINGS) == POOLING_NAMES
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    result = CliRunner().invoke(main, ["rescore", str(run)])
    assert result.exit_code == 0, result.output
    for name, words in POOLINGS.items():
        assert f"{name}: {words}" in result.output
        assert f"{100 * rescore(run, name)[CV_ROW]['wa']['pooled']:6.2f}" in result.output
    alone = CliRunner().invoke(main, ["rescore", str(run), "--pooling", "mean"])
    assert "(headline)" in alone.output
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_what_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match="the run is not finished"):
        rescore(tmp_path, "mean")
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run/model/seed-0/fold-s1/segments.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(MfhcaError, match=r"segments.csv: damaged"):
        rescore(tmp_path / "run", "mean")
    write_result(path.parent, read_sealed(path.parent / "result.json"))  # with the digest of the shorter file
    with pytest.raises(MfhcaError, match=r"segments.csv: lacks utterances"):
        rescore(tmp_path / "run", "mean")
    path.unlink()
    with pytest.raises(MfhcaError, match=r"segments.csv: cannot be read"):
        rescore(tmp_path / "run", "mean")


def test_units_of_another_run_are_refused_by_every_reader(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    cross_validate(request(other, folds=("s1",), settings={"train.epochs": "1", "train.lr": "0.5"}))
    mixed = tmp_path / "mixed"
    shutil.copytree(run, mixed)
    shutil.rmtree(mixed / "model/seed-0/fold-s1")
    shutil.copytree(other / "run/model/seed-0/fold-s1", mixed / "model/seed-0/fold-s1")
    for read in (lambda: rescore(mixed, "mean"), lambda: read_record(mixed), lambda: read_run(mixed)):
        with pytest.raises(MfhcaError, match=r"fold-s1: trained with other settings or data"):
            read()


def test_the_run_json_of_another_run_is_refused_by_every_reader(run: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(run, mixed)
    write_sealed(mixed / "run.json", read_sealed(mixed / "run.json") | {"label_digest": "f" * 64})
    for read in (lambda: rescore(mixed, "mean"), lambda: read_record(mixed), lambda: read_run(mixed)):
        with pytest.raises(MfhcaError, match="trained with other settings or data"):
            read()


def test_a_renamed_unit_is_named_with_a_remedy(run: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(run, mixed)
    shutil.rmtree(mixed / "model/seed-0/fold-s1")
    shutil.copytree(mixed / "model/seed-0/fold-s0", mixed / "model/seed-0/fold-s1")
    for read in (lambda: rescore(mixed, "mean"), lambda: read_record(mixed), lambda: read_run(mixed)):
        with pytest.raises(
            MfhcaError, match=r"fold-s1: holds fold s0, seed 0, so it was copied or renamed; delete"
        ):
            read()
