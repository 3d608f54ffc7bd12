"""The files of a real run fit their classes, lose nothing by them, and keep the order of their fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from corpus_factory import request
from msgspec import structs

from mfhca_cache.common.typed import decode, plain, problem
from mfhca_train.results.checksums import read_sealed
from mfhca_train.results.run_file import Identity
from mfhca_train.results.schema import FoldResult, Results, UnitResult, unit_folder
from mfhca_train.runs.crossval import cross_validate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one fold; not to be written to."""
    folder = tmp_path_factory.mktemp("schema")
    cross_validate(request(folder, folds=("s0",)))
    return folder / "run"


def test_a_unit_is_what_its_class_says(run: Path) -> None:
    path = run / "model/seed-0/fold-s0/result.json"
    content = read_sealed(path)
    unit = decode(path, content, UnitResult, "")
    assert json.dumps(plain(unit)) == json.dumps(content)


def test_results_and_identity_fit_their_classes(run: Path) -> None:
    assert problem(read_sealed(run / "results.json"), Results) is None
    about = read_sealed(run / "run.json")
    assert about.items() >= plain(decode(run / "run.json", about, Identity, "")).items()


def test_a_fold_of_results_json_is_the_beginning_of_its_unit(run: Path) -> None:
    (fold,) = read_sealed(run / "results.json")["folds"]
    unit = read_sealed(run / "model/seed-0/fold-s0/result.json")
    assert {key: unit[key] for key in fold} == fold
    assert {field.name for field in structs.fields(FoldResult)} < {
        field.name for field in structs.fields(UnitResult)
    }


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("wa", 1.2, "wa is 1.2, expected a number from 0 to 1"),
        ("epochs", 0, "epochs is 0, expected a whole number of at least 1"),
        ("selected_on", "train", "selected_on is 'train', expected one of validation, test"),
        ("parameters", {}, "parameters.total is missing"),
    ],
)
def test_values_out_of_range_are_refused(run: Path, field: str, value: object, sentence: str) -> None:
    content = read_sealed(run / "model/seed-0/fold-s0/result.json")
    assert problem(content | {field: value}, UnitResult) == sentence


def test_folders_of_units_keep_hostile_names_inside_the_run() -> None:
    assert unit_folder(Path("r"), "row", 1, "../x") == Path("r/row/seed-1/fold-..%2Fx")


def test_folders_of_units_have_names_that_a_disk_allows_and_that_differ() -> None:
    folds = ["\u6f22" * 85 + end for end in ("", "a", "b")] + ["x" * 300, "x" * 299 + "y"]
    names = {unit_folder(Path("r"), "row", 0, fold).name for fold in folds}
    assert len(names) == len(folds)
    assert max(len(f".{name}.checkpoint.lock".encode()) for name in names) <= 255
