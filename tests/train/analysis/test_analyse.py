"""Which rows are analysed, that an analysis repeats to the last bit, and that none of another run is shown."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from analysis_factory import ROWS, analyse_again, analysed_request
from click.testing import CliRunner
from run_factory import section
from safetensors.numpy import load_file

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.log import FILE as LOG_FILE
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_train.analysis.stored import FILE, read
from mfhca_train.cli.main import main
from mfhca_train.report.page import write_report
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.runs.crossval import cross_validate


def copy(folder: Path, target: Path) -> Path:
    """A copy that may be changed."""
    shutil.copytree(folder, target / "copy")
    return target / "copy"


def test_all_rows_show_the_same_fold_and_utterances(finished: Path) -> None:
    summaries = {row: read(finished / "run" / row / FILE).summary for row in ROWS}
    assert len({summary["fold"] for summary in summaries.values()}) == 1
    assert {summary["origin"]["chosen_by"] for summary in summaries.values()} == {"hca"}
    shown = {
        tuple(example["utterance"] for example in summary["examples"])
        for row, summary in summaries.items()
        if row != "ssl"
    }
    assert len(shown) == 1
    assert len(next(iter(shown))) == 4
    assert not (finished / "run" / "svm" / FILE).exists()
    assert all((finished / "run" / row / FILE).stat().st_size < 2e6 for row in ROWS)


def test_the_report_shows_every_row_once_and_says_what_its_weights_are(finished: Path) -> None:
    page = (finished / "run" / "report.html").read_text()
    features, attention = section(page, "features"), unescape(section(page, "attention"))
    assert features.count("<svg") == len(ROWS)
    assert features.index(">Co-attention</") < features.index(">With HCA</")  # the pair, as in Fig. 3
    for words in (
        "With HCA, Masked: a softmax over the encoder's frames",
        "Channel: a softmax over the encoder's dimensions, not over time",
        "Co-attention: the output of a ReLU",
        "Concatenated, Spectrogram, Hidden states: none",
        "The same utterances with “Co-attention”",
    ):
        assert words in attention
    assert attention.count("<svg") == 2 * 4
    assert str(finished) not in page


def test_an_oracle_row_is_marked_in_every_table_and_picture_title(finished: Path, tmp_path: Path) -> None:
    run = copy(finished, tmp_path) / "run"
    results = read_sealed(run / "results.json")
    results["rows"]["hca"]["oracle"] = True
    write_sealed(run / "results.json", results)
    page = write_report(run).read_text()
    for body in (section(page, "features"), section(page, "attention")):
        tables = re.findall(r"<table.*?</table>", body, re.DOTALL)
        assert tables
        assert all("With HCA (ORACLE)" in table for table in tables)
        assert body.count("With HCA") == body.count("With HCA (ORACLE)")
        assert "Masked" in body
        assert "Masked (ORACLE)" not in body


def test_the_same_run_gives_the_same_bytes_again_and_elsewhere(single: Path, tmp_path: Path) -> None:
    moved = copy(single, tmp_path)
    before = (moved / "run" / "model" / FILE).read_bytes()
    (moved / "run" / "model" / FILE).unlink()
    (moved / "run" / "report.html").unlink()
    cross_validate(analysed_request(moved))
    assert (moved / "run" / "model" / FILE).read_bytes() == before
    assert (moved / "run" / "report.html").read_bytes() == (single / "run" / "report.html").read_bytes()


def test_only_missing_and_damaged_analyses_are_computed(finished: Path, tmp_path: Path) -> None:
    folder = copy(finished, tmp_path)
    paths = {row: folder / "run" / row / FILE for row in ROWS}
    whole = {row: path.read_bytes() for row, path in paths.items()}
    paths["hca"].unlink()
    flipped = bytearray(whole["spec"])
    flipped[-100] ^= 1
    paths["spec"].write_bytes(flipped)
    paths["ssl"].write_bytes(whole["ssl"][:1000])
    assert set(analyse_again(folder)) == {"hca", "spec", "ssl"}
    assert {row: path.read_bytes() for row, path in paths.items()} == whole
    assert analyse_again(folder) == []


def test_a_damaged_analysis_stops_the_report_with_one_line(single: Path, tmp_path: Path) -> None:
    folder = copy(single, tmp_path)
    path = folder / "run" / "model" / FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MfhcaError, match=r"model/analysis\.safetensors: cannot be read .*; delete it"):
        write_report(folder / "run")
    path.unlink()
    assert "attend to" not in write_report(folder / "run").read_text()


def test_an_analysis_of_other_folds_is_not_shown_and_repeated(single: Path, tmp_path: Path) -> None:
    folder = copy(single, tmp_path)
    cross_validate(analysed_request(folder, folds=("s0", "s1", "s2"), analysis=False))
    assert "attend to" not in (folder / "run" / "report.html").read_text()
    cross_validate(analysed_request(folder, folds=("s0", "s1", "s2")))
    assert [fold["id"] for fold in read(folder / "run" / "model" / FILE).summary["folds"]] == [
        "s0",
        "s1",
        "s2",
    ]
    assert "attend to" in (folder / "run" / "report.html").read_text()


def test_without_audio_only_the_waveforms_are_missing(single: Path, tmp_path: Path) -> None:
    folder = copy(single, tmp_path)
    root = tmp_path / "unreadable"  # the files whose digests the features have, but no audio
    root.mkdir()
    for u in read_manifest(folder / "corpus.csv").utterances:
        (root / u.path).write_text(f"{u.utterance}/0/False")
    cross_validate(analysed_request(folder, root=root))
    assert "warning: figures without waveforms: " in (folder / "run" / LOG_FILE).read_text()
    assert (folder / "run" / "model" / FILE).read_bytes() == (single / "run" / "model" / FILE).read_bytes()


def test_the_command_can_skip_the_analysis(tmp_path: Path) -> None:
    analysed_request(tmp_path)
    small = ["--set", "model.grf_channels=8,8", "--set", "model.width=16", "--set", "train.epochs=1"]
    usual = [
        "--cache",
        str(tmp_path / "cache"),
        "--out",
        str(tmp_path / "run"),
        "--fold",
        "s0",
        "--jobs",
        "1",
    ]
    done = CliRunner().invoke(main, ["cv", str(tmp_path / "corpus.csv"), *usual, *small, "--no-analysis"])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "run" / "model" / FILE).exists()
    done = CliRunner().invoke(main, ["cv", str(tmp_path / "corpus.csv"), *usual, *small])
    assert done.exit_code == 0, done.output
    assert load_file(tmp_path / "run" / "model" / FILE)["points.features"].shape == (5 * 8, 32)
