"""The whole page, on run folders written by the functions that write real ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ablation_factory import PUBLISHED, SKILLS, make_ablation, small_grid, with_title
from places import REPOSITORY
from recompute import markdown_tables, signed, table
from run_factory import HOSTILE, Page, edit, make_run, report_page

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.report.page import write_report
from mfhca_train.report.terminal import table as terminal_table
from mfhca_train.report.text import interval, score
from mfhca_train.results.checksums import read_sealed
from mfhca_train.results.schema import SCORES
from mfhca_train.runs.grid import read_grid


def test_same_run_gives_same_bytes_wherever_and_whenever(cv_run: Path, tmp_path: Path) -> None:
    before = (cv_run / "report.html").read_bytes()
    moved = Path(shutil.copytree(cv_run, tmp_path / "elsewhere" / "under another name"))
    (moved / "report.html").unlink()
    taste = tmp_path / "matplotlibrc"
    taste.write_text("axes.linewidth: 9\nsvg.fonttype: path\nfont.size: 30\n")
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "MATPLOTLIBRC": str(taste)}
    code = (
        "import sys; from pathlib import Path; from mfhca_train.report.page import write_report\n"
        "print([m for m in ('matplotlib', 'scipy') if m in sys.modules])\n"
        f"write_report(Path({str(moved)!r}))\n"
        "print([m for m in ('torch', 'transformers', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        cwd=REPOSITORY,
        env=os.environ | other,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split("\n") == ["[]", "[]", ""]
    assert (moved / "report.html").read_bytes() == before


def test_same_ablation_gives_same_bytes_wherever_and_whenever(ablation_run: Path, tmp_path: Path) -> None:
    before = [(ablation_run / name).read_bytes() for name in ("report.html", "report.md")]
    moved = Path(shutil.copytree(ablation_run, tmp_path / "elsewhere" / "under another name"))
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    report = "from mfhca_train.report.page import write_report"
    code = f"from pathlib import Path; {report}; write_report(Path({str(moved)!r}))"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, cwd=REPOSITORY, env=os.environ | other
    )
    assert [(moved / name).read_bytes() for name in ("report.html", "report.md")] == before


def test_page_needs_nothing_else_and_names_no_place(cv_run: Path) -> None:
    page = Page(cv_run / "report.html")
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<iframe|<img", page.source)
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert (value or "").startswith("#"), (tag, name, value)
    assert set(re.findall(r"url\((.)", page.source)) <= {"#"}
    assert str(cv_run.parent) not in page.source
    assert "default-src 'none'" in page.source


def test_ids_of_the_page_are_unique_and_references_resolve(cv_run: Path) -> None:
    page = Page(cv_run / "report.html")
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {(value or "")[1:] for _, name, value in page.attributes if name == "href"}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", page.source))
    wanted |= {
        one
        for _, name, value in page.attributes
        if name == "aria-labelledby"
        for one in (value or "").split()
    }
    assert wanted <= set(ids)
    assert page.source.count("<svg") == 6 == page.source.count('role="img"')


def test_pictures_take_every_colour_from_the_page(cv_run: Path) -> None:
    page = Page(cv_run / "report.html")
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    defined = set(re.findall(r"(--[a-z-]+):", page.source))
    assert set(re.findall(r"var\((--[a-z-]+)\)", page.source)) <= defined


def test_page_of_an_ablation_is_whole_and_needs_nothing_else(ablation_run: Path) -> None:
    page = Page(ablation_run / "report.html")  # every tag is closed where it was opened
    assert not re.search(r"https?:|src=|@import|<script|<link|<iframe|<img", page.source)
    assert str(ablation_run.parent) not in page.source
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {(value or "")[1:] for _, name, value in page.attributes if name == "href"}
    wanted |= {v for _, n, value in page.attributes if n == "aria-labelledby" for v in (value or "").split()}
    assert wanted <= set(ids)
    # Two forests, folds and seeds, four confusion matrices, curves and calibration of the three networks.
    assert page.source.count("<svg") == 2 + 2 + 4 + 3 + 3 == page.source.count('role="img"')
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    defined = set(re.findall(r"(--[a-z-]+):", page.source))
    assert set(re.findall(r"var\((--[a-z-]+)\)", page.source)) <= defined
    for _, name, value in page.attributes:
        assert name != "scope" or value in ("col", "row")


def test_markdown_has_the_same_tables_with_equal_columns(ablation_run: Path) -> None:
    page, text = Page(ablation_run / "report.html"), (ablation_run / "report.md").read_text()
    tables = markdown_tables(text)
    assert len(tables) == len(page.tables) > 8
    for counts, shown in zip(tables, page.tables, strict=True):
        assert len(set(counts)) == 1
        assert len(counts) == len(shown) + 1  # the line under the head
    for name in ("Without attention", "+", "Quoted only", "mfhca-train ablate small"):
        assert name in text
    assert text.count("*Picture (see report.html)") == page.source.count("<svg")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("lacking", [None, "anger"], ids=["mean", "pooled"])
def test_headline_is_the_one_of_results_json(tmp_path: Path, lacking: str | None) -> None:
    results = make_run(tmp_path, lacking=lacking)
    assert results["headline"] == ("pooled" if lacking else "mean")
    text = report_page(tmp_path).text
    for name in SCORES:
        assert f"{name.upper()} {score(results[name][results['headline']])} %" in text
        assert f"95 % CI: {interval(results[name]['pooled_ci95' if lacking else 'ci95'])}" in text
    assert ("computed from the utterances of all folds together" in text) == bool(lacking)
    sizes = [sum(row) for row in results["confusion"]]
    assert f"Chance level: {100 * max(sizes) / sum(sizes):.1f} % (always “" in text
    assert "Chance level: 25.0 %" in text


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    speakers = [f"{HOSTILE}{n}" for n in range(4)]
    classes = (HOSTILE, "愤怒", "a\x00b\x1b", "$\\frac{$", 'style="fill: #0072b2"')
    make_run(tmp_path, speakers, classes, corpus=HOSTILE, settings={"train.lr": "1e-3"})
    page = report_page(tmp_path)
    assert "<script" not in page.source
    assert HOSTILE in page.text
    assert "愤怒" in page.text
    assert "a�b�" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f]", page.source)
    assert page.table("Fold")[1][0] == speakers[0]


@pytest.mark.usefixtures("undrawn")
def test_hostile_names_are_text_in_both_files(tmp_path: Path) -> None:
    published = PUBLISHED.replace("Their full system", "<b>|x|</b>").replace("their protocol", HOSTILE[:8])
    grid = with_title(small_grid(tmp_path, published), "plain", f"{HOSTILE} | *a* `b`")
    speakers = [f"{HOSTILE}{n}" for n in range(4)]
    classes = (HOSTILE, "愤怒", "a|b", "$\\frac{$")
    run = tmp_path / "run"
    make_ablation(run, grid, SKILLS, speakers, classes, seeds=1, corpus="<i>corpus")
    page, text = Page(write_report(run)), (run / "report.md").read_text()
    assert "<script" not in page.source
    assert "<i>corpus" in page.text
    assert f"{HOSTILE} | *a* `b`" in page.text
    outside = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside)
    assert all(len(set(counts)) == 1 for counts in markdown_tables(text))


def test_titles_are_escaped_inside_pictures(tmp_path: Path) -> None:
    run = tmp_path / "run"
    grid = with_title(small_grid(tmp_path), "plain", HOSTILE)
    make_ablation(run, grid, SKILLS, ("1", "2", "3", "4"), seeds=1, epochs=5)
    assert "<script" not in Page(write_report(run)).source


@pytest.mark.usefixtures("undrawn")
def test_halves_of_characters_are_refused_in_one_line(cv_copy: Path) -> None:
    path = cv_copy / "results.json"
    path.write_text(path.read_text().replace('"toy"', '"\\ud800toy"'))
    with pytest.raises(MfhcaError, match=r"results.json: not valid JSON .*surrogates"):
        report_page(cv_copy)


def test_oracle_is_marked_in_banner_title_figures_and_pictures(cv_run: Path, tmp_path: Path) -> None:
    make_run(tmp_path, protocol="oracle")
    for page, oracle in ((report_page(tmp_path), True), (Page(cv_run / "report.html"), False)):
        assert ("ORACLE: these scores are too high" in page.text) == oracle
        assert ("(ORACLE)" in page.source[: page.source.index("</title>")]) == oracle
        assert page.text.count("WA (oracle)") == oracle
        drawn = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
        assert len(drawn) == 6
        assert all(("ORACLE: epoch selected on the test speaker" in picture) == oracle for picture in drawn)
        assert ("were not seen in training" in page.text) != oracle
        assert ("holds for new speakers" in page.text) != oracle


@pytest.mark.usefixtures("undrawn")
def test_oracle_matched_is_marked_too(tmp_path: Path) -> None:
    make_run(tmp_path, protocol="oracle-matched")
    assert "ORACLE: these scores" in report_page(tmp_path).text


@pytest.mark.usefixtures("undrawn")
def test_selection_on_a_test_speaker_is_an_oracle_whatever_the_file_says(cv_copy: Path) -> None:
    edit(cv_copy / "results.json", "r['folds'][0]['selected_on'] = 'test'")
    edit(cv_copy / "model/seed-0/fold-03/result.json", "r['selected_on'] = 'test'")
    assert "ORACLE: these scores" in report_page(cv_copy).text


@pytest.mark.usefixtures("undrawn")
def test_warnings_and_notes_name_what_limits_the_scores(cv_run: Path, tmp_path: Path) -> None:
    calm = Page(cv_run / "report.html").text
    make_run(tmp_path, corpus="demo", chosen=slice(0, 1), stopped_by="epoch limit")
    page = report_page(tmp_path)
    for note in (
        "these scores mean nothing",
        "Not complete: only 1 fold",
        "1 of 1 network trained up to the limit of 100 epochs.",
    ):
        assert note in page.text
        assert note not in calm
    assert "--fold 03" in page.text
    printed = terminal_table(read_sealed(tmp_path / "results.json"))
    assert "1 of 1 network trained up to the limit of 100 epochs. Early stopping" in printed
    assert "there is no interval" in page.text
    assert not any(row[0] in ("sd over folds", "95 % CI of the mean") for row in page.table("Fold"))


@pytest.mark.usefixtures("undrawn")
def test_warnings_of_an_ablation_name_the_rows(tmp_path: Path) -> None:
    grid = read_grid(REPOSITORY / "manifests/ablations/protocols.toml")
    skills = {"strict": 0.5, "session": 0.5, "oracle-matched": 0.7, "oracle": 0.8}
    run = tmp_path / "run"
    results = make_ablation(run, grid, skills, corpus="demo", sessions=True, stopped_by="epoch limit")
    page = Page(write_report(run))
    assert "ORACLE: the scores of 2 rows are too high" in page.text
    assert "Demonstration: these scores mean nothing" in page.text
    assert "70 of 70 networks trained up to the limit of 100 epochs." in page.text
    effect = results["optimism"][0]["selection"]["ua"]
    rows = table(page, "Effect of")
    assert rows["Selecting on the test speaker"][0].startswith(signed(effect["difference"]))
    assert list(table(page, "Row", "UA (95 % CI)")) == ["session"]
    assert "of 1 row" not in page.text
    assert "Not tested: “oracle-matched (ORACLE)”, “oracle (the released code's) (ORACLE)”." in page.text
    assert rows["Selecting on the test speaker"][-1] == "oracle-matched (ORACLE) − strict"
    assert "Highest UA: “strict”" in page.text or "Highest UA: “session”" in page.text
    part = tmp_path / "part"
    make_ablation(part, small_grid(tmp_path), SKILLS, chosen=slice(0, 1), seeds=1)
    text = Page(write_report(part)).text
    assert "Not complete: only 1 fold of the protocol." in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("seeds", "said"), [(1, "Only 1 seed."), (4, "Only 4 seeds."), (5, None)])
def test_fewer_than_five_seeds_are_said(tmp_path: Path, seeds: int, said: str | None) -> None:
    make_run(tmp_path, seeds=seeds, each=1)
    text = report_page(tmp_path).text
    assert (said in text) if said else ("Only" not in text)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("seeds", "said"), [(1, "Only 1 seed."), (4, "Only 4 seeds."), (5, None)])
def test_fewer_than_five_seeds_of_an_ablation_are_said(tmp_path: Path, seeds: int, said: str | None) -> None:
    make_ablation(tmp_path / "run", small_grid(tmp_path), SKILLS, seeds=seeds, each=1)
    text = Page(write_report(tmp_path / "run")).text
    assert (said in text) if said else ("Only" not in text)


@pytest.mark.usefixtures("undrawn")
def test_speaker_normalisation_is_marked_as_transductive(cv_copy: Path) -> None:
    head = "Transductive: these scores use unlabelled test utterances."
    assert "ransductive" not in report_page(cv_copy).text
    edit(cv_copy / "results.json", "r['transductive'] = True")
    page = report_page(cv_copy)
    assert head in page.text
    assert page.text.count("WA (transductive)") == 1
    assert "(TRANSDUCTIVE)" in page.source[: page.source.index("</title>")]
    assert page.source.count("<h2 id=") == page.source.count('<span class="mark">transductive</span></h2>')
    assert "% (transductive)" in page.text
    assert f"> **{head}**" in (cv_copy / "report.md").read_text()
    said = terminal_table(read_sealed(cv_copy / "results.json"))
    assert "(TRANSDUCTIVE: normalised over test utterances)" in said


def test_pictures_of_a_transductive_run_are_marked(cv_copy: Path) -> None:
    edit(cv_copy / "results.json", "r['transductive'] = True")
    drawn = re.findall(r"<svg.*?</svg>", report_page(cv_copy).source, re.DOTALL)
    assert len(drawn) == 6
    assert all("TRANSDUCTIVE: normalised over test utterances" in picture for picture in drawn)


@pytest.mark.usefixtures("undrawn")
def test_classes_that_no_training_speaker_has_are_named(cv_copy: Path) -> None:
    assert "No training speaker" not in report_page(cv_copy).text
    for file, entry in (("results.json", "r['folds'][0]"), ("model/seed-0/fold-03/result.json", "r")):
        edit(cv_copy / file, f"{entry}['classes_untrained'] = ['anger']")
    page = report_page(cv_copy)
    assert "No training speaker has an utterance of anger. It cannot be recognised in fold 03." in page.text
    column = page.table("Fold")[0].index("Not in training")
    assert [row[column] for row in page.table("Fold")[1:5]] == ["anger", "–", "–", "–"]
    assert "not in training: anger" in terminal_table(read_sealed(cv_copy / "results.json"))


@pytest.mark.usefixtures("undrawn")
def test_classes_that_folds_of_an_ablation_lack_are_named(ablation_copy: Path) -> None:
    lacking = "No training speaker", "Not every class is tested"
    assert not any(words in Page(ablation_copy / "report.html").text for words in lacking)
    for file, entry in (
        ("results.json", "r['rows']['plain']['folds'][1]"),
        ("plain/seed-0/fold-02/result.json", "r"),
    ):
        edit(
            ablation_copy / file,
            f"{entry} |= dict(classes_untrained=['joy'], classes_absent=['joy', 'fear'])",
        )
    text = Page(write_report(ablation_copy)).text
    assert (
        "No training speaker has an utterance of joy. It cannot be recognised in fold 02 of “Without" in text
    )
    assert "The test speakers have no utterance of joy, fear in fold 02. UA there is the mean over" in text
