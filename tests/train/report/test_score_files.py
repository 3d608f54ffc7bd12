"""The LaTeX table and the CSV of a run, and its figures as files."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ablation_factory import ROWS, SKILLS, make_ablation, small_grid, with_title
from PIL import Image
from run_factory import HOSTILE, edit

from mfhca_train.cli.reports import FIGURE_FORMATS
from mfhca_train.report import score_files
from mfhca_train.report.page import write_report
from mfhca_train.report.plots.files import FORMATS
from mfhca_train.report.plots.svg import canvas, svg
from mfhca_train.results.checksums import read_sealed
from mfhca_train.results.record import read_record

SPECIAL = "50 % of A_1 & B#2: {x} ~ ^ \\ $5 < 6 − “q” … ±"


def cells(table: str) -> dict[str, list[str]]:
    """The lines of a LaTeX table by their first cell; an ensemble belongs to the row above it."""
    found: dict[str, list[str]] = {}
    for line in table.splitlines():
        if line.startswith(r"\raggedright "):
            first, *rest = re.split(r"(?<!\\) & ", line.removesuffix(r" \\").removeprefix(r"\raggedright "))
            found[first if first not in found else f"{first} {len(found)}"] = rest
    return found


def test_the_latex_table_has_the_scores_protocols_and_marks_of_significance(ablation_run: Path) -> None:
    results, text = (
        read_sealed(ablation_run / "results.json")["rows"],
        score_files.latex(read_record(ablation_run)),
    )
    shown = cells(text)
    assert r"\usepackage{booktabs}" in text
    marked = 0
    for title, name in ROWS.items():
        row = results[name]
        line = shown[f"{title} (reference)" if name == "full" else title]
        assert line[:2] == [row["protocol"], "150"]
        for key, cell in zip(("wa", "ua"), line[2:4], strict=True):
            p = row["comparison"][key]["p_holm"] if row["comparison"] else 1.0
            stars = "*" * sum(p < level for level in (0.05, 0.01, 0.001))
            marked += bool(stars)
            mean, deviation = (100 * row[key][part] for part in ("mean", "std"))
            mark = rf"\textsuperscript{{{stars}}}" if stars else ""
            assert cell == rf"${mean:.2f} \pm {deviation:.2f}$" + mark
        assert line[4:] == [f"${100 * row[key]['pooled']:.2f}$" for key in ("wa", "ua")]
    assert marked
    assert text.count("ensemble of 2 seeds") == 3
    assert "2 seeds per network averaged first" in text
    assert "exact sign-flip test over 10 test speakers, Holm-adjusted for 3 rows" in text


def test_csv_has_every_score_as_a_fraction(ablation_run: Path) -> None:
    results = read_sealed(ablation_run / "results.json")["rows"]
    lines = list(csv.DictReader(io.StringIO(score_files.csv(read_record(ablation_run)))))
    assert [line["row"] for line in lines] == list(results)
    for line in lines:
        row = results[line["row"]]
        for key in ("wa", "ua", "f1"):
            assert float(line[f"{key}_mean"]) == row[key]["mean"]
            assert float(line[f"{key}_pooled_ci95_low"]) == row[key]["pooled_ci95"][0]
        assert (line["protocol"], line["refit"], line["transductive"]) == ("strict", "False", "False")
    plain, svm = lines[1], lines[3]
    assert float(plain["ua_p_holm"]) == results["plain"]["comparison"]["ua"]["p_holm"]
    assert float(plain["ensemble_ua_pooled"]) == results["plain"]["ensemble"]["ua"]["pooled"]
    assert svm["ensemble_ua_pooled"] == svm["ece"] == ""
    assert lines[0]["ua_p"] == ""


@pytest.mark.usefixtures("undrawn")
def test_an_oracle_and_a_transductive_run_are_marked(cv_copy: Path) -> None:
    edit(cv_copy / "results.json", "r['transductive'] = True; r['oracle'] = True")
    record = read_record(cv_copy)
    (line,) = csv.DictReader(io.StringIO(score_files.csv(record)))
    assert (line["oracle"], line["transductive"]) == ("True", "True")
    table = score_files.latex(record)
    assert "ORACLE: the epoch was selected on the test speaker." in table
    assert "Transductive: features normalised over unlabelled test utterances." in table


@pytest.mark.usefixtures("undrawn")
def test_the_latex_table_compiles(tmp_path: Path) -> None:
    found = shutil.which("pdflatex") and subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True)
    if not found or found.returncode:
        pytest.skip(
            "no pdflatex with booktabs (apt-get install --no-install-recommends texlive-latex-recommended)"
        )
    run = tmp_path / "run"
    grid = with_title(with_title(small_grid(tmp_path), "plain", SPECIAL), "svm", HOSTILE)
    make_ablation(run, grid, SKILLS, seeds=2, each=1)
    (tmp_path / "scores.tex").write_text(score_files.latex(read_record(run)))
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n\\input{scores}\n\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def test_latex_text_escapes_what_latex_reads() -> None:
    assert score_files.latex_text("a_b & 5 % − $") == r"a\_b \& 5 \% $-$ \$"


def test_formats_of_the_command_are_those_that_are_written() -> None:
    assert FIGURE_FORMATS == FORMATS


def draw_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """One small picture in the place of all."""

    def drawn(*_: object) -> object:
        with canvas(1, 1) as figure:
            figure.add_subplot().set_title("größer")
            return svg(figure, "one", "A picture", "what it shows")

    for module in ("details", "learning_curves"):
        for name in ("confusion_picture", "fold_picture", "reliability_picture", "curve_picture"):
            monkeypatch.setattr(f"mfhca_train.report.{module}.{name}", drawn, raising=False)


@pytest.mark.parametrize("form", FORMATS)
def test_figures_become_files_that_markdown_links(
    cv_copy: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure of a real page is drawn by the test below."""
    draw_one_picture(monkeypatch)
    folder = tmp_path / "figures"
    write_report(cv_copy, folder, form)
    file = folder / f"one.{form}"
    content = file.read_bytes()
    if form == "png":
        with Image.open(file) as image:
            assert image.size == (300, 300)
    elif form == "pdf":
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content  # embedded TrueType
    else:
        assert b"<text" not in content  # outlined
        assert b"var(--" not in content
    markdown = (cv_copy / "report.md").read_text()
    link = f"[A picture](<../figures/one.{form}>)"
    assert (link if form == "pdf" else f"!{link}") in markdown
    assert "Picture (see report.html)" not in markdown
    assert f"`one.{form}`: Confusion matrix" in (folder / "captions.md").read_text()
    before = content
    write_report(cv_copy, folder, form)
    assert file.read_bytes() == before


def test_figures_of_another_run_do_not_stay_among_those_of_this_one(
    cv_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with an analysis has more figures than one without."""
    draw_one_picture(monkeypatch)
    folder = tmp_path / "figures"
    folder.mkdir()
    for name in ("tsne-model.svg", "one.svg", "one.pdf", "own.svg"):
        (folder / name).write_text("of another run")
    (folder / "captions.md").write_text("- `tsne-model.svg`: t-SNE.\n- `one.svg`: One.\n- `one.pdf`: One.\n")
    write_report(cv_copy, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["captions.md", "one.pdf", "one.svg", "own.svg"]
    assert "of another run" not in (folder / "one.svg").read_text()


def test_every_figure_of_a_report_is_written_under_its_own_name(ablation_copy: Path) -> None:
    write_report(ablation_copy, ablation_copy / "figures")
    names = {path.stem for path in (ablation_copy / "figures").glob("*.svg")}
    assert {"forest-ua", "strip-folds", "confusion-svm", "curves-plain", "reliability-full"} <= names
    assert len(names) == (ablation_copy / "report.html").read_text().count("<svg")
    markdown = (ablation_copy / "report.md").read_text()
    assert all(f"](<figures/{name}.svg>)" in markdown for name in names)


@pytest.mark.parametrize("form", ["svg", "png"])
def test_figures_in_the_run_are_written_again_with_its_report(
    cv_copy: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they are those of the results that the Markdown describes."""
    draw_one_picture(monkeypatch)
    folder = cv_copy / "figures"
    write_report(cv_copy, folder, form)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    markdown = (cv_copy / "report.md").read_text()
    for path in folder.glob(f"*.{form}"):
        path.write_bytes(b"old")
    write_report(cv_copy)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (cv_copy / "report.md").read_text() == markdown
    assert f"](<figures/one.{form}>)" in markdown
    (folder / "captions.md").unlink()  # a folder of somebody else
    write_report(cv_copy)
    assert "](<figures/" not in (cv_copy / "report.md").read_text()
