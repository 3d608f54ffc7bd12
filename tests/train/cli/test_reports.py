"""The commands report, compare and runs, as they are typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from run_factory import Page, edit, make_run

from mfhca_cache.common.files import sha256_text
from mfhca_cache.common.text import csv_text
from mfhca_train.cli.main import main
from mfhca_train.runs.listing import list_runs, table


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two cross-validations with other settings and skill."""
    first, second = tmp_path / "small", tmp_path / "large"
    make_run(first, skill=0.9)
    make_run(second, skill=0.2, settings={"train.lr": "1e-3", "train.refit": "true"}, seeds=2)
    return first, second


@pytest.mark.usefixtures("undrawn")
def test_compare_names_settings_scores_and_tests(pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("compare", *pair, "--latex", "--csv")
    assert result.exit_code == 0, result.output
    assert "train.lr: 1e-05 | 0.001" in result.stdout
    assert "train.refit: false | true" in result.stdout  # a default that run.json leaves out is shown, too
    assert "seeds: 0 | 0, 1" in result.stdout
    assert "exact sign-flip test" in result.stdout
    page = Page(tmp_path / "comparison.html")
    assert "Comparison of 2 runs on toy" in page.text
    settings = next(table for table in page.tables if table[0] == ["Setting", "small", "large"])
    assert ["train.lr", "1e-05", "0.001"] in settings
    differences = next(table for table in page.tables if table[0][:2] == ["Row", "UA (95 % CI)"])
    assert [line[0] for line in differences[1:]] == ["large"]
    assert (tmp_path / "comparison.md").exists()
    assert "small (reference)" in (tmp_path / "comparison.tex").read_text()
    assert (tmp_path / "comparison.csv").read_text().count("\n") == 3
    assert not list(tmp_path.glob("*/comparison.*"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("folder", "first", "page"),
    [(".", "small", "comparison.html"), ("small", ".", None), ("small/model", "..", None)],
)
def test_the_comparison_is_named_as_its_first_run(
    folder: str, first: str, page: str | None, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path stays relative; next to the current folder, or one above it, the path is absolute."""
    expected = page or str(pair[0].parent.resolve() / "comparison.html")
    monkeypatch.chdir(pair[0].parent / folder)
    assert run("compare", first, pair[1]).stdout.splitlines()[-1] == expected
    assert Path(expected).exists()
    assert not list(pair[0].rglob("comparison.*"))


@pytest.mark.usefixtures("undrawn")
def test_rows_of_ablations_are_compared_with_runs(ablation_copy: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(ablation_copy, tmp_path / "other"))
    result = run(
        "compare", ablation_copy, other, "--row", "full", "--row", "svm", "--out", tmp_path / "page.html"
    )
    assert result.exit_code == 0, result.output
    rows = Page(tmp_path / "page.html").table("Row")
    assert [line[0] for line in rows[1:] if "ensemble" not in line[0]] == [
        "run: Full reference",
        "run: Support vectors",
        "other: Full",
        "other: Support vectors",
    ]
    differences = next(t for t in Page(tmp_path / "page.html").tables if t[0][:2] == ["Row", "UA (95 % CI)"])
    same = next(line for line in differences if line[0] == "other: Full")
    assert same[1:3] == ["0.000.00 to 0.00", "1.0000"]
    wrong = run("compare", ablation_copy, other, "--row", "ful")
    assert wrong.exit_code == 1
    assert "no run has a row 'ful'; did you mean full?" in wrong.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "r['recipes']['ssl'] = 'ffff523475b60a6a'",
            "their speech encoder features differ (79e523475b60a6af and ffff",
        ),
        ("r['classes'] = ['a', 'b', 'c', 'd']", "their classes differ (four: anger"),
        ("r['label_digest'] = '5' * 64", "their labels or speakers differ; train both on the same manifest"),
        ("r['data_digest'] = '5' * 64", "their audio or segments differ"),
        ("r['corpus'] = 'other'", "their corpora differ (toy and other)"),
    ],
)
def test_runs_on_other_features_or_labels_are_refused(
    pair: tuple[Path, Path], change: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The units' identities are those of the unchanged run.json, so only reading them is left out."""
    edit(pair[1] / "run.json", change)
    monkeypatch.setattr("mfhca_train.results.record.identity_digest", lambda _: None)
    result = run("compare", *pair)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "cannot be compared" in result.stderr


def test_runs_on_other_audio_are_refused_whatever_they_read_of_it(pair: tuple[Path, Path]) -> None:
    """A run on hidden states and one on both features have other recipes, so their digests of the data say nothing."""
    for path, digest in zip(pair, ("a" * 64, "b" * 64), strict=True):
        text = csv_text(("utterance", "audio_sha256"), [("u1", "c" * 64), ("u2", digest)])
        (path / "data.csv").write_text(text)
        edit(path / "run.json", f"r['data_csv_sha256'] = {sha256_text(text)!r}")
    result = run("compare", *pair)
    assert result.exit_code == 1
    assert "cannot be compared: the audio of 1 utterance differs (u2)" in result.stderr


@pytest.mark.usefixtures("undrawn")
def test_features_with_other_bits_are_warned_of(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(pair[1] / "run.json", "r['features_digest'] = '5' * 64")
    monkeypatch.setattr("mfhca_train.results.record.identity_digest", lambda _: None)
    result = run("compare", *pair)
    assert result.exit_code == 0
    assert "were trained on features of the same audio with other bits" in result.stderr


def test_a_comparison_needs_two_different_runs(pair: tuple[Path, Path]) -> None:
    assert "needs two rows or more" in run("compare", pair[0]).stderr
    assert "is given twice" in run("compare", pair[0], pair[0]).stderr
    assert run("compare", *pair, "--out", "page").exit_code == 2


@pytest.mark.usefixtures("undrawn")
def test_reports_of_several_runs_say_how_to_compare_them(pair: tuple[Path, Path]) -> None:
    result = run("report", *pair)
    assert (
        f"2 separate reports. To test the runs against each other: mfhca-train compare {pair[0]} {pair[1]}"
        in (result.stdout)
    )
    assert "separate" not in run("report", pair[0], pair[0]).stdout
    assert run("report", pair[0], "--format", "pdf").exit_code == 2


@pytest.mark.usefixtures("undrawn")
def test_runs_of_one_name_have_figures_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr(
        "mfhca_train.report.page.write_figures", lambda folder, *_: written.append(folder) or {}
    )
    for parent in ("one", "two"):
        make_run(tmp_path / parent / "same")
    result = run(
        "report", *(tmp_path / parent / "same" for parent in ("one", "two")), "--figures", tmp_path / "f"
    )
    assert result.exit_code == 0, result.output
    assert written == [tmp_path / "f/one/same", tmp_path / "f/two/same"]


@pytest.mark.usefixtures("undrawn")
def test_tables_for_papers_are_written_next_to_the_report(pair: tuple[Path, Path]) -> None:
    result = run("report", pair[0], "--latex", "--csv")
    assert [line for line in result.stdout.splitlines() if line.startswith(str(pair[0]))] == [
        str(pair[0] / name) for name in ("report.html", "scores.tex", "scores.csv")
    ]
    assert r"\toprule" in (pair[0] / "scores.tex").read_text()
    before = {name: (pair[0] / name).read_bytes() for name in ("scores.tex", "scores.csv")}
    for name in before:  # of fewer folds, say
        (pair[0] / name).write_text("old")
    run("report", pair[0])
    assert {name: (pair[0] / name).read_bytes() for name in before} == before
    run("report", pair[1])
    assert not (pair[1] / "scores.tex").exists()


def test_runs_are_listed_with_their_state(
    pair: tuple[Path, Path], ablation_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(ablation_run, tmp_path / "deep" / "grid")
    make_run(tmp_path / "part", chosen=slice(0, 1))
    unfinished = Path(shutil.copytree(pair[0], tmp_path / "unfinished"))
    (unfinished / "results.json").unlink()
    damaged = Path(shutil.copytree(pair[0], tmp_path / "damaged"))
    (damaged / "results.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    lines = run("runs", tmp_path).stdout.splitlines()
    shown = {line.split("  ")[0]: line for line in lines[1:]}
    assert "complete" in shown["small"]
    assert "4 × 2" in shown["large"]
    assert "only 1 fold" in shown["part"]
    assert "not finished: 4 units" in shown["unfinished"]
    assert shown["damaged"].endswith("cannot be read")
    assert any(line.startswith("damaged: results.json: holds no digest") for line in lines)
    assert lines[lines.index("deep/grid") + 1].startswith("  Full ")
    assert sum("10 × " in line for line in lines) == 4
    narrow = table(list_runs(tmp_path), 60)
    assert all(len(line) <= 60 for line in narrow)
    assert "state" in narrow[0]
    assert "date" not in narrow[0]
    assert len({line.index("toy (four)") for line in lines if "toy (four)" in line}) == 1
    assert "no run in this folder" in run("runs", tmp_path / ".hidden").stderr
    assert "no such folder" in run("runs", tmp_path / "nowhere").stderr


def test_scores_of_another_run_are_not_listed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    scores, units, identity = (Path(shutil.copytree(pair[0], tmp_path / "mixed" / name)) for name in "abc")
    shutil.copy(pair[1] / "results.json", scores)
    shutil.copytree(pair[1] / "model", units / "model", dirs_exist_ok=True)
    shutil.copy(pair[1] / "run.json", identity)
    lines = list_runs(tmp_path / "mixed")
    assert [(line.state, line.ua, line.pooled) for line in lines] == 3 * [("foreign", "", "")]
    assert lines[0].reason.startswith("results.json: row model, fold ")


@pytest.mark.usefixtures("undrawn")
def test_no_name_drives_the_terminal(tmp_path: Path) -> None:
    folder = tmp_path / "a\x1b[31mb"
    make_run(folder)
    shutil.copytree(folder, tmp_path / "other")
    for command in (["report", folder], ["compare", folder, tmp_path / "other"], ["runs", tmp_path]):
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        assert r"a\x1b[31mb" in result.output
