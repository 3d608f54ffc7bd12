"""The report of an ablation, on run folders made up by the functions that make real ones."""

from __future__ import annotations

import csv
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ablation_factory import PUBLISHED, ROWS, SKILLS, make_ablation, small_grid, with_title
from places import REPOSITORY
from run_factory import FOUR, HOSTILE, Page, edit, reseal
from scipy import stats
from sklearn.metrics import confusion_matrix, f1_score, recall_score

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.report import ablation_detail, ablation_sections
from mfhca_train.report.page import write_report
from mfhca_train.report.parameters import find_baseline
from mfhca_train.results.ablation_record import read_ablation
from mfhca_train.results.checksums import write_sealed
from mfhca_train.results.effects import find_parts
from mfhca_train.runs.grid import read_grid


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with pictures; not to be written to."""
    folder = tmp_path_factory.mktemp("runs")
    make_ablation(folder / "plain", small_grid(folder), SKILLS, sessions=True)
    write_report(folder / "plain")
    return folder / "plain"


@pytest.fixture
def damaged(plain: Path, tmp_path: Path) -> Path:
    """A copy, for a test to spoil."""
    return Path(shutil.copytree(plain, tmp_path / "run"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the pictures out, which take nearly all of the time, where a test is about the text."""
    monkeypatch.setattr(ablation_sections, "forest_picture", lambda *_: "")
    for name in ("confusion_picture", "strip_picture", "curves_picture"):
        monkeypatch.setattr(ablation_detail, name, lambda *_: "")


def bare(cell: str) -> str:
    """A row's title without its marks."""
    return re.sub(r" ?(reference|oracle)$", "", cell)


def table(page: Page, *head: str) -> dict[str, list[str]]:
    """The body of the first table that begins with these columns, by its first cell."""
    found = next(t for t in page.tables if tuple(t[0][: len(head)]) == head)
    return {bare(row[0]): row[1:] for row in found[1:]}


def predictions(run: Path, row: str) -> dict[tuple[int, str], list[tuple[str, str, str, str]]]:
    """(seed, fold) -> utterance, speaker, label, prediction, read without the project's code."""
    found = {}
    for path in sorted((run / row).glob("seed-*/fold-*/predictions.csv")):
        with open(path, newline="") as file:
            lines = [tuple(line) for line in csv.reader(file)][1:]
        found[int(path.parts[-3][5:]), path.parts[-2][5:]] = lines
    return found  # type: ignore[return-value]


def judged(lines: list[tuple[str, str, str, str]]) -> dict[str, float]:
    """WA, UA and F1 over the classes present, by scikit-learn."""
    truth, guess = [line[2] for line in lines], [line[3] for line in lines]
    present = sorted(set(truth))
    return {
        "wa": float(np.mean([t == g for t, g in zip(truth, guess, strict=True)])),
        "ua": float(recall_score(truth, guess, labels=present, average="macro", zero_division=0)),
        "f1": float(f1_score(truth, guess, labels=present, average="macro", zero_division=0)),
    }


def by_speaker(run: Path, row: str, score: str, seeds: Collection[int] | None = None) -> dict[str, float]:
    """Means over these seeds, by default all."""
    found = defaultdict(list)
    for (seed, fold), lines in predictions(run, row).items():
        if seeds is None or seed in seeds:
            found[fold].append(judged(lines)[score])
    return {fold: float(np.mean(values)) for fold, values in found.items()}


def exact_p(differences: np.ndarray) -> float:
    """Two-sided, every sign pattern, written out."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    return float(np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12))


def holm(values: list[float]) -> list[float]:
    """From the definition: the largest of the scaled p values up to each rank."""
    order = np.argsort(values)
    scaled = [(len(values) - k) * values[i] for k, i in enumerate(order)]
    return [min(1.0, max(scaled[: list(order).index(i) + 1])) for i in range(len(values))]


def signed(fraction: float) -> str:
    text = f"{100 * fraction:+.2f}".replace("-", "−")
    return "0.00" if text[1:] == "0.00" else text


def p_text(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def test_scores_follow_from_the_predictions(plain: Path) -> None:
    page = Page(plain / "report.html")
    shown = table(page, "Row", "Protocol")
    assert list(shown) == list(ROWS)
    for title, row in ROWS.items():
        units = predictions(plain, row)
        seeds = sorted({seed for seed, _ in units})
        assert shown[title][:2] == ["strict", f"10 × {len(seeds)}"]
        for column, score in enumerate(("wa", "ua", "f1"), start=2):
            folds = list(by_speaker(plain, row, score).values())
            assert shown[title][column] == f"{100 * np.mean(folds):.2f} ± {100 * np.std(folds, ddof=1):.2f}"
        for column, score in ((5, "wa"), (6, "ua")):
            pooled = [
                judged([line for (seed, _), lines in units.items() if seed == one for line in lines])[score]
                for one in seeds
            ]
            assert shown[title][column].startswith(f"{100 * np.mean(pooled):.2f}")


def test_differences_and_their_tests_follow_from_the_predictions(plain: Path) -> None:
    page = Page(plain / "report.html")
    shown = table(page, "Row", "UA (95 %)")
    rows = [title for title in ROWS if title != "Full"]
    assert list(shown) == rows
    for column, score in ((0, "ua"), (3, "wa")):
        reference = by_speaker(plain, "full", score)
        changes = [
            np.array([value - reference[s] for s, value in by_speaker(plain, ROWS[title], score).items()])
            for title in rows
        ]
        raw = [exact_p(change) for change in changes]
        for title, change, p, adjusted in zip(rows, changes, raw, holm(raw), strict=True):
            half = stats.sem(change) * stats.t.ppf(0.975, len(change) - 1)
            ends = f"{signed(change.mean() - half)} to {signed(change.mean() + half)}"
            assert shown[title][column : column + 3] == [
                signed(change.mean()) + ends,
                p_text(p),
                p_text(adjusted),
            ]
    assert {row[6] for row in shown.values()} == {"10"}


def test_recalls_folds_and_groups_follow_from_the_predictions(plain: Path) -> None:
    page = Page(plain / "report.html")
    recalls = table(page, "Row", *FOUR)
    folds = table(page, "Row", "01", "02")
    styles = next(t for t in page.tables if t[0][1].startswith("improvised"))
    assert styles[0][1:] == ["improvisedn = 70", "scriptedn = 80"]
    for title, row in ROWS.items():
        lines = [line for of in predictions(plain, row).values() for line in of]
        counts = confusion_matrix([line[2] for line in lines], [line[3] for line in lines], labels=FOUR)
        assert recalls[title] == [f"{100 * counts[k, k] / counts[k].sum():.2f}" for k in range(4)]
        expected = by_speaker(plain, row, "ua")
        assert folds[title] == [f"{100 * expected[fold]:.2f}" for fold in sorted(expected)]
        wanted = [judged([x for x in lines if style in x[0]])["ua"] for style in ("impro", "script")]
        cells = next(line[1:] for line in styles if bare(line[0]) == title)
        assert cells == [f"{100 * value:.2f}" for value in wanted]


def test_what_each_part_adds_is_the_difference_of_two_rows(plain: Path) -> None:
    record = read_ablation(plain)
    found = {(added.part, added.row, added.without): added for added in find_parts(record)}
    assert set(found) == {
        ("HCA with its BiLSTM instead of co-attention", "full", "plain"),
        ("HCA alone instead of co-attention", "no-bilstm", "plain"),
        ("BiLSTM", "full", "no-bilstm"),
    }
    ps = []
    for (_, row, without), added in found.items():
        with_it, without_it = by_speaker(plain, row, "ua"), by_speaker(plain, without, "ua")
        change = np.array([with_it[s] - without_it[s] for s in with_it])
        assert added.change["ua"]["difference"] == pytest.approx(change.mean())
        assert added.change["ua"]["p"] == pytest.approx(exact_p(change))
        ps.append(exact_p(change))
    assert [a.change["ua"]["p_holm"] for a in found.values()] == pytest.approx(holm(ps))
    assert "HCA with its BiLSTM instead of co-attention: UA +" in Page(plain / "report.html").text


def test_table_two_tells_what_mf_hca_and_bilstm_add(tmp_path: Path) -> None:
    grid = read_grid(REPOSITORY / "manifests/ablations/table2.toml")
    skills = {row.name: 0.5 for row in grid.trained}
    make_ablation(tmp_path / "run", grid, skills, seeds=1, each=1, epochs=4, chosen=slice(0, 2))
    found = {(added.part, added.row, added.without) for added in find_parts(read_ablation(tmp_path / "run"))}
    assert {
        ("MF instead of AlexNet", "spec-mf", "spec"),
        ("MF instead of AlexNet", "hubert-mf-hca", "hubert-hca"),
        ("HCA with its BiLSTM instead of co-attention", "hubert-mf-hca", "hubert-mf"),
        ("HCA alone instead of co-attention", "hubert-mf-hca", "hubert-mf-bilstm"),
        ("BiLSTM", "hubert-mf-hca", "hubert-mf-hca-no-bilstm"),
        ("Spectrogram beside hidden states", "hubert-mf-hca-no-bilstm", "hubert"),
    } <= found


def test_savings_are_counted_against_the_baseline(plain: Path) -> None:
    from mfhca_train.config.parse import with_settings
    from mfhca_train.config.settings import Config
    from mfhca_train.model.network import MFHCA, parameter_counts

    row = next(
        row
        for row in read_grid(REPOSITORY / "manifests/ablations/table1.toml").rows
        if row.name == "co-attention"
    )
    model = MFHCA(with_settings(Config(), row.settings).model, 4, 149, 64)
    total = parameter_counts(model)["total"]
    baseline = find_baseline(read_ablation(plain))
    assert baseline
    assert (baseline.parameters, baseline.row) == (total, None)
    sizes = table(Page(plain / "report.html"), "Row", "Parameters")
    for title, name in ROWS.items():
        parameters = read_ablation(plain).rows[name]["parameters"]
        assert sizes[title][:2] == [f"{parameters:,}", f"−{100 * (1 - parameters / total):.2f} %"]
    assert "parameters saved: 12.25 % (a bold paper)" in Page(plain / "report.html").text


@pytest.mark.usefixtures("undrawn")
def test_the_baseline_of_the_grid_is_the_one_that_is_shown(tmp_path: Path) -> None:
    grid = read_grid(REPOSITORY / "manifests/ablations/table1.toml")
    skills = {"mfhca": 0.6, "co-attention-same": 0.5, "majority": 0.0}
    results = make_ablation(tmp_path, grid, skills, seeds=1, each=1, epochs=4)
    baseline = find_baseline(read_ablation(tmp_path))
    assert baseline
    assert baseline.row == "co-attention-same"
    assert baseline.parameters == results["rows"]["co-attention-same"]["parameters"]
    page = Page(write_report(tmp_path))
    assert table(page, "Row", "Parameters")["Co-attention, MFHCA's encoder"][1] == "the same"


def test_same_run_gives_same_bytes_wherever_and_whenever(plain: Path, tmp_path: Path) -> None:
    before = [(plain / name).read_bytes() for name in ("report.html", "report.md")]
    moved = Path(shutil.copytree(plain, tmp_path / "elsewhere" / "under another name"))
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    report = "from mfhca_train.report.page import write_report"
    code = f"from pathlib import Path; {report}; write_report(Path({str(moved)!r}))"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, cwd=REPOSITORY, env=os.environ | other
    )
    assert [(moved / name).read_bytes() for name in ("report.html", "report.md")] == before


def test_page_is_whole_and_needs_nothing_else(plain: Path) -> None:
    page = Page(plain / "report.html")  # every tag is closed where it was opened
    assert not re.search(r"https?:|src=|@import|<script|<link|<iframe|<img", page.source)
    assert str(plain.parent) not in page.source
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {(value or "")[1:] for _, name, value in page.attributes if name == "href"}
    wanted |= {v for _, n, value in page.attributes if n == "aria-labelledby" for v in (value or "").split()}
    assert wanted <= set(ids)
    # Two forests, folds and seeds, four confusion matrices, curves of the three networks.
    assert page.source.count("<svg") == 2 + 2 + 4 + 3 == page.source.count('role="img"')
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    defined = set(re.findall(r"(--[a-z-]+):", page.source))
    assert set(re.findall(r"var\((--[a-z-]+)\)", page.source)) <= defined
    for _, name, value in page.attributes:
        assert name != "scope" or value in ("col", "row")


def markdown_tables(text: str) -> list[list[int]]:
    """How many cells each line of each table has; an escaped bar is none."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    return [
        [len(re.findall(r"(?<!\\)\|", line)) for line in block] for block in blocks if block[0][:1] == "|"
    ]


def test_markdown_has_the_same_tables_with_equal_columns(plain: Path) -> None:
    page, text = Page(plain / "report.html"), (plain / "report.md").read_text()
    tables = markdown_tables(text)
    assert len(tables) == len(page.tables) > 8
    for counts, shown in zip(tables, page.tables, strict=True):
        assert len(set(counts)) == 1
        assert len(counts) == len(shown) + 1  # the line under the head
    for name in ("Without attention", "+", "Quoted only", "mfhca-train ablate small"):
        assert name in text
    assert text.count("*Picture (see report.html)") == page.source.count("<svg")


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
def test_published_figures_come_from_the_file(tmp_path: Path) -> None:
    pages = []
    for name, text in (("one", PUBLISHED), ("two", PUBLISHED.replace("71.23", "70.07"))):
        run = tmp_path / name / "run"
        make_ablation(run, small_grid(tmp_path / name, text), SKILLS, seeds=1, each=1)
        pages.append(Page(write_report(run)))
    shown = table(pages[0], "System")
    assert shown["Full"][3:5] == ["71.23", "72.34"]
    assert shown["Full"][5] == "other (four), mean over folds: their protocoltheir paper"
    assert shown["Quoted only"][:5] == ["–", "–", "–", "61.11", "–"]
    assert shown["A yardstick"][3:5] == ["51.51", "52.52"]
    assert shown["Full"][2] == "strict, 10 × 1, mean over folds"
    assert "Figures of other (four) cannot be compared with ours, which are of toy (four)." in pages[0].text
    assert table(pages[1], "System")["Full"][3] == "70.07"
    assert "71.23" not in pages[1].source


def test_published_toml_without_a_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"published.toml: figure\[0\].corpus is missing"):
        small_grid(tmp_path, PUBLISHED.replace('corpus = "other"\n', ""))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("seeds", "said"), [(1, "Only 1 seed."), (4, "Only 4 seeds."), (5, None)])
def test_fewer_than_five_seeds_are_said(tmp_path: Path, seeds: int, said: str | None) -> None:
    make_ablation(tmp_path / "run", small_grid(tmp_path), SKILLS, seeds=seeds, each=1)
    text = Page(write_report(tmp_path / "run")).text
    assert (said in text) if said else ("Only" not in text)


@pytest.mark.usefixtures("undrawn")
def test_rows_with_unequal_seeds_are_compared_over_common_ones_and_it_is_said(tmp_path: Path) -> None:
    run, seeds = tmp_path / "run", {"plain": (0, 2), "no-bilstm": (3,)}
    make_ablation(run, small_grid(tmp_path), SKILLS, seeds=3, each=2, own_seeds=seeds)
    page, text = Page(write_report(run)), (run / "report.md").read_text()
    said = (
        "over the seeds that both have: “Without attention” over 2 seeds; “Without BiLSTM” over all seeds of "
        "each, for none is in both and nothing can be paired by seed."
    )
    assert said in page.text
    assert said in " ".join(text.split())
    shown = table(page, "Row", "UA (95 %)")
    for title, common in (("Without attention", (0, 2)), ("Support vectors", None), ("Without BiLSTM", None)):
        one, other = (by_speaker(run, row, "ua", common) for row in (ROWS[title], "full"))
        change = np.mean([one[speaker] - other[speaker] for speaker in one])
        assert shown[title][0].startswith(signed(float(change)))
    lines = [t for t in page.shown if t.startswith("mfhca-train ablate")]
    ends = [line.split("--protocol strict ")[1] for line in lines]
    assert ends == [
        "--row full --row plain --row svm --seeds 3 --threads 1",
        "--row no-bilstm --seeds 4 --threads 1",
    ]
    assert "run all of them in turn" in page.text
    assert all(f"\n{line}\n" in text for line in lines)
    whole = by_speaker(run, "plain", "ua")
    assert whole == by_speaker(run, "plain", "ua", (0, 2))
    assert table(page, "Row", "Protocol")["Full"][1] == "10 × 3"
    means = list(by_speaker(run, "full", "ua").values())
    assert table(page, "Row", "Protocol")["Full"][3].startswith(f"{100 * np.mean(means):.2f}")


@pytest.mark.usefixtures("undrawn")
def test_nothing_to_be_told_apart_is_said(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_ablation(run, small_grid(tmp_path), dict.fromkeys(SKILLS, 0.5), each=2)
    text = Page(write_report(run)).text
    assert "Nothing can be told apart: none of 3 rows differs from the reference “Full”" in text
    assert "0 of 3 rows" in text
    assert "With 10 test speakers the smallest p that can be reached is 0.0020." in text


@pytest.mark.usefixtures("undrawn")
def test_too_few_speakers_are_said(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_ablation(run, small_grid(tmp_path), SKILLS, speakers=("1", "2", "3", "4", "5", "6"))
    text = Page(write_report(run)).text
    assert "0.0312, and 0.0938 after Holm over 3 rows: not even the largest difference could pass" in text
    assert "With so few speakers none could be." in text


@pytest.mark.usefixtures("undrawn")
def test_the_first_words_name_the_best_row_and_what_differs(plain: Path) -> None:
    page = Page(plain / "report.html")
    text, shown = page.text, table(page, "Row", "Protocol")
    best = max(shown, key=lambda title: float(shown[title][3].split(" ")[0]))
    assert f"Highest UA: “{best}” with {shown[best][3].split(' ')[0]}" in text
    passed = [title for title, row in table(page, "Row", "UA (95 %)").items() if float(row[2]) < 0.05]
    assert "Without attention" in passed
    verb = "differs" if len(passed) == 1 else "differ"
    assert (
        f"{len(passed)} of 3 rows {verb} from the reference “Full” in UA (Holm, 5 %; in points): “Without"
        in text
    )
    assert "do not rely on them" in text
    calm = "Not complete", "ORACLE", "Demonstration", "stopped at the limit"
    assert not [words for words in calm if words in text]


@pytest.mark.usefixtures("undrawn")
def test_what_to_beware_of_is_said(tmp_path: Path) -> None:
    grid = read_grid(REPOSITORY / "manifests/ablations/protocols.toml")
    skills = {"strict": 0.5, "session": 0.5, "oracle-matched": 0.7, "oracle": 0.8}
    run = tmp_path / "run"
    results = make_ablation(run, grid, skills, corpus="demo", sessions=True, stopped_by="epoch limit")
    page = Page(write_report(run))
    assert "ORACLE: figures of 2 rows are too good to be true" in page.text
    assert "Demonstration: these figures mean nothing" in page.text
    assert "trainings stopped at the limit of epochs" in page.text
    worth = results["optimism"][0]["selection"]["ua"]
    assert (
        f"Selecting the epoch on the test speaker is worth {signed(worth['difference'])} points" in page.text
    )
    rows = table(page, "What is worth it")
    assert rows["selecting on the test speaker"][0].startswith(signed(worth["difference"]))
    assert list(table(page, "Row", "UA (95 %)")) == ["session"]
    assert "0 of 1 rows" in page.text or "1 of 1 rows" in page.text
    assert "Not tested: “oracle-matched (ORACLE)”, “oracle (the released code's) (ORACLE)”." in page.text
    assert rows["selecting on the test speaker"][-1] == "oracle-matched (ORACLE) − strict"
    assert "Highest UA: “strict”" in page.text or "Highest UA: “session”" in page.text
    part = tmp_path / "part"
    make_ablation(part, small_grid(tmp_path), SKILLS, chosen=slice(0, 1), seeds=1)
    text = Page(write_report(part)).text
    assert "Not complete: only 1 fold of the protocol." in text


@pytest.mark.usefixtures("undrawn")
def test_command_recipes_and_settings_repeat_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = {"train.lr": "3e-4", "model.hca_scale": "sqrt"}
    results = make_ablation(run, small_grid(tmp_path), {"full": 0.8, "no-bilstm": 0.7}, settings=settings)
    write_sealed(run / "results.json", results | {"left_out": {"svm": "no ssl features: x"}})
    page = Page(write_report(run))
    words = shlex.split(next(t for t in page.shown if t.startswith("mfhca-train ablate")))
    assert words[2:8] == ["small", "manifests/toy.csv", "--cache", "cache", "--out", "runs/again"]
    pairs = list(itertools.pairwise(words))
    for pair in [("--set", "train.lr=0.0003"), ("--set", "model.hca_scale=sqrt"), ("--seeds", "2")]:
        assert pair in pairs
    assert [value for name, value in pairs if name == "--row"] == ["full", "no-bilstm"]
    assert table(page, "Row", "Kind")["Without BiLSTM"][:2] == ["network", "false"]
    recipes = table(page, "Side")
    assert recipes["speech encoder"] == ["79e523475b60a6af", "2", "kind = ssl, dtype = float16"]
    assert "no ssl features: x" in page.text
    assert table(page, "What")["torch"] == ["2.8.0"]


def _edit(change: str, name: str = "results.json") -> Any:
    """A function that spoils a JSON file: a statement on `r`."""

    def spoil(run: Path) -> None:
        edit(run / name, change)

    return spoil


UNIT = "plain/seed-0/fold-02"
DAMAGE: Mapping[str, tuple[Any, str]] = {
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
        f"results.json: row plain, fold 02, seed 0: ua is not that of .*{UNIT}/result.json",
    ),
    "p not a number": (
        _edit("r['rows']['svm']['comparison']['ua']['p'] = 'small'"),
        "results.json: rows.svm.comparison.ua.p is 'small', expected a number from 0 to 1",
    ),
    "no run.json": (lambda run: (run / "run.json").unlink(), "no run.json, so no finished run"),
    "no versions": (_edit("del r['versions']", "run.json"), "run.json: versions is missing"),
    "no result": (lambda run: (run / UNIT / "result.json").unlink(), f"{UNIT}/result.json: cannot be read"),
    "half a result": (
        lambda run: write_sealed(run / UNIT / "result.json", {"files": {}}),
        f"{UNIT}/best.safetensors: damaged",
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


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_one_line_that_names_the_file(damaged: Path, kind: str) -> None:
    spoil, message = DAMAGE[kind]
    before = (damaged / "report.html").read_bytes()
    spoil(damaged)
    with pytest.raises(MfhcaError, match=message) as caught:
        write_report(damaged)
    assert "\n" not in str(caught.value)
    assert (damaged / "report.html").read_bytes() == before
