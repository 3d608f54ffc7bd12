"""Parameters of a report, counted again."""

from __future__ import annotations

from pathlib import Path

import pytest
from ablation_factory import ROWS, make_ablation
from places import REPOSITORY
from recompute import table
from run_factory import Page

from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.report.page import write_report
from mfhca_train.report.parameters import find_baseline
from mfhca_train.results import history
from mfhca_train.results.record import read_record
from mfhca_train.runs.grid import read_grid


def test_savings_are_counted_against_the_baseline(ablation_run: Path) -> None:
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
    baseline = find_baseline(read_record(ablation_run))
    assert baseline
    assert (baseline.parameters, baseline.row) == (total, None)
    sizes = table(Page(ablation_run / "report.html"), "Row", "Parameters")
    for title, name in ROWS.items():
        parameters = read_record(ablation_run).rows[name].parameters
        assert sizes[title][:2] == [f"{parameters:,}", f"−{100 * (1 - parameters / total):.2f} %"]
    assert (
        "The paper reports, parameters saved: 12.25 % (a bold paper)."
        in Page(ablation_run / "report.html").text
    )


@pytest.mark.usefixtures("undrawn")
def test_the_baseline_of_the_grid_is_the_one_that_is_shown(tmp_path: Path) -> None:
    grid = read_grid(REPOSITORY / "manifests/ablations/table1.toml")
    skills = {"mfhca": 0.6, "co-attention-same": 0.5, "majority": 0.0}
    results = make_ablation(tmp_path, grid, skills, seeds=1, each=1, epochs=4)
    baseline = find_baseline(read_record(tmp_path))
    assert baseline
    assert baseline.row == "co-attention-same"
    assert baseline.parameters == results["rows"]["co-attention-same"]["parameters"]
    page = Page(write_report(tmp_path))
    assert table(page, "Row", "Parameters")["Co-attention, MFHCA's encoder"][1] == "the same"


def test_names_of_the_record_are_those_of_the_trainer() -> None:
    from mfhca_train.model.network import MFHCA
    from mfhca_train.report.parameters import MODULES
    from mfhca_train.training.outputs import HISTORY_COLUMNS

    assert ("epoch", *history.CURVES) == HISTORY_COLUMNS
    modules = {
        name
        for settings in (
            {},
            {"model.inputs": "ssl"},
            {"model.inputs": "spec"},
            {"model.fusion": "concat"},
            {"model.spec_encoder": "alexnet", "model.fusion": "coattention", "model.mfcc": "true"},
        )
        for name, module in MFHCA(
            with_settings(Config(), settings).model, 4, 9, 8, ssl_layers=3
        ).named_children()
        if any(True for _ in module.parameters())
    }
    assert modules == set(MODULES)
