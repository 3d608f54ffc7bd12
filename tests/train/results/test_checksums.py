"""Digests of a run folder's files. That every change of a byte is found is in faults/test_fuzz.py."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from corpus_factory import request
from hypothesis import given
from hypothesis import strategies as st
from places import REPOSITORY

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.files import readable_json, sha256_file, write_json
from mfhca_cache.common.text import csv_text
from mfhca_train.report.page import write_report
from mfhca_train.results.checksums import (
    DIGEST,
    FILES,
    read_about,
    read_rows,
    read_sealed,
    read_unit,
    seal,
    write_result,
    write_sealed,
)
from mfhca_train.results.schema import UNIT_FILES
from mfhca_train.runs.crossval import cross_validate

UNIT = "model/seed-0/fold-s0"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(-1e300, 1e300)
    | st.text("aé\n\"\\'"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abé", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one fold; not to be written to."""
    folder = tmp_path_factory.mktemp("sealed")
    cross_validate(request(folder, folds=("s0",)))
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@given(st.dictionaries(st.text("abcdé", min_size=1, max_size=4), VALUES, max_size=4))
def test_what_is_written_is_read_back_without_its_digest(
    tmp_path_factory: pytest.TempPathFactory, value: dict
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    write_sealed(path, value)
    assert read_sealed(path) == value
    assert next(iter(json.loads(path.read_text()))) == DIGEST


def test_every_file_of_a_unit_has_its_digest_in_the_result(run: Path) -> None:
    result = read_unit(run / UNIT)
    assert result[FILES] == {name: sha256_file(run / UNIT / name) for name in UNIT_FILES}
    assert {path.name for path in (run / UNIT).iterdir()} == {*UNIT_FILES, "result.json"}


def test_every_bit_of_a_small_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_sealed(path, {"a": 0.30000000000000004, "text": "é"})
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
            with pytest.raises(MfhcaError, match=re.escape(str(path))):
                read_sealed(path)


def test_another_text_of_the_same_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(seal({"a": 1})))
    with pytest.raises(MfhcaError, match="does not have the digest it was written with; delete it"):
        read_sealed(path)


@pytest.mark.parametrize("name", UNIT_FILES)
def test_a_missing_file_is_found(run: Path, name: str) -> None:
    (run / UNIT / name).unlink()
    with pytest.raises(
        MfhcaError, match=f"{re.escape(name)}: cannot be read .*; delete .*fold-s0 and run again"
    ):
        read_unit(run / UNIT)


@pytest.mark.parametrize("name", [*UNIT_FILES, "result.json"])
def test_a_flipped_bit_anywhere_in_a_unit_is_found(run: Path, name: str) -> None:
    path = run / UNIT / name
    whole = path.read_bytes()
    for at in [0, *range(5, len(whole), max(1, len(whole) // 25)), len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(MfhcaError, match=f"{re.escape(name)}: "):
            read_unit(run / UNIT)


def test_a_file_that_comes_later_is_found(tmp_path: Path) -> None:
    for name in UNIT_FILES[:1]:
        (tmp_path / name).write_bytes(b"x")
    write_result(tmp_path, {"id": "a"})
    assert read_unit(tmp_path)["id"] == "a"
    (tmp_path / UNIT_FILES[1]).write_bytes(b"x")
    with pytest.raises(MfhcaError, match=f"{re.escape(UNIT_FILES[1])}: damaged"):
        read_unit(tmp_path)


def test_what_a_killed_write_left_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / ".history.csv.abc.tmp").write_bytes(b"half")
    write_result(tmp_path, {"id": "a"})
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_data_csv_is_vouched_for_by_run_json(run: Path) -> None:
    assert read_about(run)["data_csv_sha256"] == sha256_file(run / "data.csv")
    (run / "data.csv").unlink()  # no result depends on it, and cv writes it again
    assert read_about(run)
    (run / "data.csv").write_text("x")
    with pytest.raises(MfhcaError, match=r"data\.csv: damaged"):
        read_about(run)


def test_a_deleted_data_csv_is_written_again_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parent, tmp_path / "x")
    (tmp_path / "x/run/data.csv").unlink()
    cross_validate(request(tmp_path / "x", folds=("s0",)))
    for name in ("data.csv", "run.json", "results.json", "report.html"):
        assert (tmp_path / "x/run" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("name", ["run.json", "results.json", f"{UNIT}/result.json"])
def test_a_file_without_its_digest_is_refused(run: Path, name: str) -> None:
    write_json(run / name, read_sealed(run / name))
    with pytest.raises(MfhcaError, match=f"{re.escape(name)}: holds no digest"):
        write_report(run)


def test_a_result_without_digests_of_its_files_is_refused(run: Path) -> None:
    result = read_sealed(run / UNIT / "result.json")
    write_sealed(run / UNIT / "result.json", {k: v for k, v in result.items() if k != FILES})
    with pytest.raises(MfhcaError, match=r"result\.json: files is missing; delete .*fold-s0 and run again"):
        read_unit(run / UNIT)


def test_results_that_are_not_those_of_the_units_are_refused(run: Path) -> None:
    results = read_sealed(run / "results.json")
    results["folds"][0]["wa"] = 0.99
    write_sealed(run / "results.json", results)
    with pytest.raises(MfhcaError, match=r"fold s0, seed 0: wa differs from that in .*result\.json"):
        write_report(run)


def test_nothing_in_the_packages_executes_what_a_file_says() -> None:
    """No pickle in any guise: weights are safetensors, settings are TOML, the rest is JSON and CSV."""
    forbidden = re.compile(
        r"pickle|torch\.load\b|torch\.save\b|\b(?:eval|exec)\(|yaml|allow_pickle|joblib\.(?:load|dump)|marshal"
        r"|shelve|np\.load\b|np\.save|dill"
    )
    # Comments, evaluation mode of a module, loaders that are told to take data alone, arrays that are written, and a
    # file that is checked by such a loader before the library audformat reads it.
    harmless = re.compile(
        r"#.*|\.eval\(\)|torch\.load\([^()]*weights_only=True\)|np\.load\([^()]*allow_pickle=False\)|np\.savez\("
        r'|db\.yaml|"\.yaml"|\("yaml", "audformat"\)\.safe_load\('
    )
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for package in ("mfhca_cache", "mfhca_train")
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(harmless.sub("", line))
    ]
    assert found == []


def test_of_an_encoder_in_the_old_form_tensors_alone_are_read() -> None:
    """The one loader that is not ours is told to take tensors alone from weights in the old form."""
    assert "weights_only=True" in (REPOSITORY / "mfhca_cache/features/encoder.py").read_text(encoding="utf-8")


def test_readable_json_of_equal_values_is_equal() -> None:
    assert readable_json({"a": [1.0, "é"]}) == '{\n "a": [\n  1.0,\n  "é"\n ]\n}\n'


def test_a_file_name_is_no_formula_and_is_read_back(tmp_path: Path) -> None:
    path, names = tmp_path / "a.csv", ["=cmd|'/c calc'!A1", "-x", "'=x", "@a", "+1", "'tis", "a=b"]
    path.write_text(csv_text(["=label", "logp"], [[name, -0.5] for name in names]))
    assert path.read_text().splitlines()[:3] == ["'=label,logp", "'=cmd|'/c calc'!A1,-0.5", "'-x,-0.5"]
    assert [(row["=label"], row["logp"]) for row in read_rows(path)] == [(name, "-0.5") for name in names]
