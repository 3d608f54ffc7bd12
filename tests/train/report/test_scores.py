"""Scores and tests of an ablation's report, computed again from the predictions."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ablation_factory import PUBLISHED, ROWS, SKILLS, make_ablation, small_grid
from recompute import by_speaker, exact_p, holm, judged, p_text, predictions, signed, table
from run_factory import Page, report_page
from scipy import stats

from mfhca_train.report.page import write_report
from mfhca_train.report.terminal import table as terminal_table
from mfhca_train.report.text import score
from mfhca_train.results.checksums import read_sealed, write_sealed
from mfhca_train.results.summary import percent

NORMS = dict.fromkeys(ROWS, "spec train, ssl none") | {"Support vectors": "train"}


def test_scores_follow_from_the_predictions(ablation_run: Path) -> None:
    page = Page(ablation_run / "report.html")
    shown = table(page, "Row", "Protocol")
    said = terminal_table(read_sealed(ablation_run / "results.json"))
    assert said.count("ensemble of 2 seeds") == 3
    ensembles = {title: f"{title} ensemble of 2 seeds" for title in ROWS if title != "Support vectors"}
    assert list(shown) == [name for title in ROWS for name in (title, ensembles.get(title)) if name]
    for title, row in ROWS.items():
        units = predictions(ablation_run, row)
        seeds = sorted({seed for seed, _ in units})
        assert shown[title][:2] == [f"strictnorm: {NORMS[title]}", f"10 × {len(seeds)}"]
        for column, name in enumerate(("wa", "ua", "f1"), start=2):
            folds = list(by_speaker(ablation_run, row, name).values())
            assert shown[title][column] == f"{100 * np.mean(folds):.2f} ± {100 * np.std(folds, ddof=1):.2f}"
        for column, name in ((5, "wa"), (6, "ua")):
            pooled = [
                judged([line for (seed, _), lines in units.items() if seed == one for line in lines])[name]
                for one in seeds
            ]
            assert shown[title][column].startswith(f"{100 * np.mean(pooled):.2f}")
        if title in ensembles:
            together = read_sealed(ablation_run / "results.json")["rows"][row]["ensemble"]
            values = [together[name]["mean"] for name in ("wa", "ua", "f1")]
            values += [together[name]["pooled"] for name in ("wa", "ua")]
            assert shown[ensembles[title]][2:] == [score(value) for value in values]
            assert percent(together["wa"]["pooled"]) in said


def test_differences_and_their_tests_follow_from_the_predictions(ablation_run: Path) -> None:
    page = Page(ablation_run / "report.html")
    shown = table(page, "Row", "UA (95 % CI)")
    rows = [title for title in ROWS if title != "Full"]
    assert list(shown) == rows
    for column, name in ((0, "ua"), (3, "wa")):
        reference = by_speaker(ablation_run, "full", name)
        changes = [
            np.array(
                [value - reference[s] for s, value in by_speaker(ablation_run, ROWS[title], name).items()]
            )
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


@pytest.mark.usefixtures("undrawn")
def test_rows_with_unequal_seeds_are_compared_over_common_ones_and_it_is_said(tmp_path: Path) -> None:
    run, seeds = tmp_path / "run", {"plain": (0, 2), "no-bilstm": (3,)}
    make_ablation(run, small_grid(tmp_path), SKILLS, seeds=3, each=2, own_seeds=seeds)
    page, text = Page(write_report(run)), (run / "report.md").read_text()
    said = (
        "over the seeds that both have: “Without attention” over 2 seeds; “Without BiLSTM” over all seeds of "
        "both, because they share none and cannot be paired by seed."
    )
    assert said in page.text
    assert said in " ".join(text.split())
    shown = table(page, "Row", "UA (95 % CI)")
    for title, common in (("Without attention", (0, 2)), ("Support vectors", None), ("Without BiLSTM", None)):
        one, other = (by_speaker(run, row, "ua", common) for row in (ROWS[title], "full"))
        change = np.mean([one[speaker] - other[speaker] for speaker in one])
        assert shown[title][0].startswith(signed(float(change)))
    lines = [t for t in page.shown if t.startswith("mfhca-train ablate")]
    ends = [line.split("--protocol strict ")[1] for line in lines]
    assert ends == [
        "--preset paper --row full --row plain --row svm --seeds 3 --threads 1",
        "--preset paper --row no-bilstm --seeds 4 --threads 1",
    ]
    assert "run all of them one after the other" in page.text
    assert all(f"\n{line}\n" in text for line in lines)
    whole = by_speaker(run, "plain", "ua")
    assert whole == by_speaker(run, "plain", "ua", (0, 2))
    assert table(page, "Row", "Protocol")["Full"][1] == "10 × 3"
    means = list(by_speaker(run, "full", "ua").values())
    assert table(page, "Row", "Protocol")["Full"][3].startswith(f"{100 * np.mean(means):.2f}")


@pytest.mark.usefixtures("undrawn")
def test_published_scores_come_from_the_file(tmp_path: Path) -> None:
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
    assert "Scores on other (four) cannot be compared with ours, which are on toy (four)." in pages[0].text
    assert table(pages[1], "System")["Full"][3] == "70.07"
    assert "71.23" not in pages[1].source


def test_published_scores_are_next_to_those_of_the_run(cv_copy: Path) -> None:
    path = cv_copy / "results.json"
    figure = {"system": "Theirs", "corpus": "toy", "label_set": "four", "wa": 61.25, "score": "pooled"}
    figure |= {"protocol": "one speaker out", "source": "a paper"}
    write_sealed(path, read_sealed(path) | {"yardsticks": [figure]})
    results = read_sealed(path)
    page, text = report_page(cv_copy), (cv_copy / "report.md").read_text()
    pooled = [score(results[name]["pooled"]) for name in ("wa", "ua")]
    assert page.table("System")[1:] == [
        ["This run", *pooled, "strict, 4 × 1, pooled", "–", "–", "–"],
        ["Theirs", "–", "–", "–", "61.25", "–", "toy (four), pooled: one speaker outa paper"],
    ]
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == len(page.tables)
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1 for block in blocks)
    assert "| **This run** | " + " | ".join(pooled) in text
    assert text.count("*Picture (see report.html)") == 6
