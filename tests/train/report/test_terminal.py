"""Tables of scores at the width of a terminal."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from ablation_factory import ROWS

from mfhca_train.report.terminal import IN_REPORT, headline, table
from mfhca_train.results.checksums import read_sealed

WIDTHS = (40, 60, 80, 120)


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_fit_and_keep_the_main_score(ablation_run: Path, cv_run: Path, width: int) -> None:
    for run in (ablation_run, cv_run):
        content = read_sealed(run / "results.json")
        lines = table(content, width).splitlines()
        assert all(len(line) <= width for line in lines), max(lines, key=len)
        assert any(re.search(r"\bUA\b", line) for line in lines)
        whole, said = table(content), " ".join(lines)
        if "left out at this width" in said:
            assert IN_REPORT in said
        for number in re.findall(r"\d\d\.\d\d", said):
            assert number in whole
    scores = read_sealed(ablation_run / "results.json")["rows"]
    for row in ROWS.values():
        assert f"{100 * scores[row]['ua']['mean']:.2f}" in table(
            read_sealed(ablation_run / "results.json"), width
        )


def test_a_file_has_every_column_and_a_narrow_terminal_the_first_ones(ablation_run: Path) -> None:
    content = read_sealed(ablation_run / "results.json")
    groups = ("mean ± sd", "minus reference", "p (Holm)", "pooled", "p ")
    shown = [
        {group for group in groups if f" {group}" in _heads(table(content, width))}
        for width in (*WIDTHS, None)
    ]
    assert all(narrow <= wide for narrow, wide in pairwise(shown))
    assert shown[0] == {"mean ± sd"}
    assert {"minus reference", "p (Holm)"} <= shown[2]
    assert shown[-1] == set(groups)
    assert "left out" not in table(content)


def _heads(text: str) -> str:
    """The line of group titles, which is above the heads."""
    lines = text.splitlines()
    return lines[next(k for k, line in enumerate(lines) if line.startswith("row ")) - 1] + " "


def test_the_headline_is_marked_in_the_table_of_folds(cv_run: Path) -> None:
    content = read_sealed(cv_run / "results.json")
    (line,) = [line for line in table(content).splitlines() if "(headline)" in line]
    assert line.split()[0] == content["headline"]
    said = headline(content)
    assert said is not None
    assert re.findall(r"\d\d\.\d\d", line)[1] in said
