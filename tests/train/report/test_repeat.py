"""Settings and commands of a report repeat the run."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path

import pytest
from ablation_factory import make_ablation, small_grid
from recompute import table
from run_factory import Page, make_run, report_page

from mfhca_train.report.page import write_report
from mfhca_train.results.checksums import write_sealed


@pytest.mark.usefixtures("undrawn")
def test_settings_and_command_repeat_the_run(tmp_path: Path) -> None:
    settings = {"train.lr": "3e-4", "model.grf_channels": "16,32", "model.bilstm": "false"}
    make_run(tmp_path, seeds=2, protocol="group-k", settings={**settings, "train.groups": "4"})
    page = report_page(tmp_path)
    assert page.table("Setting")[1:] == [
        ["model.grf_channels", "16,32", "16,32,48"],
        ["model.bilstm", "false", "true"],
        ["train.lr", "0.0003", "1e-05"],
        ["train.groups", "4", "5"],
    ]
    assert (
        "mfhca-train cv manifests/toy.csv --cache cache --out runs/again --label-set four --protocol group-k "
        "--preset paper --set model.grf_channels=16,32 --set model.bilstm=false --set train.lr=0.0003 "
        "--set train.groups=4 --seeds 2 --threads 1"
    ) in page.text
    assert page.table("Fold")[0][-1] == "Tested on"
    assert ["total", "", "87,861"] in page.table("Module")


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
