"""The sentences of a report follow from its scores."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ablation_factory import ROWS, SKILLS, make_ablation, small_grid
from places import REPOSITORY
from recompute import signed, table
from run_factory import Page, make_run, report_page

from mfhca_train.report.page import write_report
from mfhca_train.report.terminal import table as terminal_table
from mfhca_train.results.checksums import read_sealed
from mfhca_train.runs.grid import read_grid


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("skill", "verdict"),
    [
        (0.9, "holds for new speakers"),
        (0.0, "reaches down to chance level"),
        (-0.8, "lies below chance level. Usually the speakers differ in their classes"),
    ],
)
def test_verdict_follows_the_interval(tmp_path: Path, skill: float, verdict: str) -> None:
    make_run(tmp_path, skill=skill)
    assert verdict in report_page(tmp_path).text


@pytest.mark.usefixtures("undrawn")
def test_the_first_sentences_name_the_best_row_and_significant_differences(ablation_run: Path) -> None:
    page = Page(ablation_run / "report.html")
    text, shown = page.text, table(page, "Row", "Protocol")
    best = max(ROWS, key=lambda title: float(shown[title][3].split(" ")[0]))
    assert f"Highest UA: “{best}” with {shown[best][3].split(' ')[0]} %" in text
    passed = [title for title, row in table(page, "Row", "UA (95 % CI)").items() if float(row[2]) < 0.05]
    assert "Without attention" in passed
    verb = "differs" if len(passed) == 1 else "differ"
    assert (
        f"{len(passed)} of 3 rows {verb} significantly from the reference “Full” in UA (sign-flip test over speakers, "
        "5 % after Holm's adjustment): “Without" in text
    )
    assert "do not rely on them" in text
    calm = "Not complete", "ORACLE", "Demonstration", "up to the limit"
    assert not [words for words in calm if words in text]


@pytest.mark.usefixtures("undrawn")
def test_no_significant_difference_is_stated(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_ablation(run, small_grid(tmp_path), dict.fromkeys(SKILLS, 0.5), each=2)
    text = Page(write_report(run)).text
    assert "No significant difference: none of 3 rows differs from the reference “Full” in UA or WA" in text
    assert "0 of 3 rows" in text
    assert "With 10 test speakers the smallest p that the test can reach is 0.0020." in text


@pytest.mark.usefixtures("undrawn")
def test_too_few_speakers_for_the_test_are_stated(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_ablation(run, small_grid(tmp_path), SKILLS, speakers=("1", "2", "3", "4", "5", "6"))
    text = Page(write_report(run)).text
    assert (
        "The test cannot decide with so few speakers: none of 3 rows can differ significantly from the reference “Full”"
        in text
    )
    assert (
        "0.0312, and 0.0938 after Holm's adjustment for 3 rows, which is above 0.05: not even the largest difference "
        "could be significant" in text
    )
    assert "With so few speakers the test cannot decide." in text
    assert "No significant difference" not in text
    assert "the smallest adjusted p it can reach is 0.09375, above 0.05" in terminal_table(
        read_sealed(run / "results.json")
    )


@pytest.mark.usefixtures("undrawn")
def test_the_optimism_of_selection_has_an_interval_and_no_p_value(tmp_path: Path) -> None:
    """The difference cannot be negative by construction, so a test would reject pure noise."""
    grid = read_grid(REPOSITORY / "manifests/ablations/protocols.toml")
    skills = {"strict": 0.5, "session": 0.5, "oracle-matched": 0.7, "oracle": 0.8}
    run = tmp_path / "run"
    change = make_ablation(run, grid, skills, sessions=True)["optimism"][0]["selection"]["ua"]
    page = Page(write_report(run))
    low, high = map(signed, change["ci95"])
    sentence = f"raises UA by {signed(change['difference'])} points (95 % CI {low} to {high}), with the same"
    assert sentence in page.text
    assert not any(cell == "p" for t in page.tables if t[0][0] == "Effect of" for cell in t[0])
    line = next(
        line
        for line in terminal_table(read_sealed(run / "results.json")).splitlines()
        if line.startswith("effect of")
    )
    assert "95 % CI" in line
    assert "p " not in line.partition(":")[2]


def test_p_values_and_intervals_say_whether_they_are_adjusted(ablation_run: Path) -> None:
    """An interval that is not adjusted may exclude 0 where the adjusted p is above the level."""
    text = Page(ablation_run / "report.html").text
    sentences = re.findall(r"points \(95 % CI ([^)]*)\)", text)
    assert len(sentences) >= 3
    adjusted = r"\S+ to \S+, unadjusted; Holm-adjusted p (< )?\d\.\d{4}"
    assert all(re.fullmatch(adjusted, sentence) for sentence in sentences)
    assert "“p” is unadjusted; “p (Holm)” is adjusted for the 3 rows tested" in text
    assert "The 95 % CI is Student's t interval of the mean difference, and is not adjusted." in text
