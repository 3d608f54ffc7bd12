"""Folds, emotions, groups and learning curves of a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from ablation_factory import ROWS
from recompute import bare, by_speaker, judged, predictions, table
from run_factory import FOUR, Page, make_run, report_page
from sklearn.metrics import confusion_matrix

from mfhca_train.report.page import write_report
from mfhca_train.report.text import interval, score
from mfhca_train.results.checksums import read_sealed, write_result, write_sealed
from mfhca_train.results.schema import CV_ROW, SCORES, unit_folder


@pytest.mark.usefixtures("undrawn")
def test_figures_are_those_of_results_json(tmp_path: Path) -> None:
    results = make_run(tmp_path, seeds=2, lacking="anger")
    page = report_page(tmp_path)
    table = page.table("Fold")
    by_unit = {(row[0], row[1]): row for row in table[1:]}
    for unit in results["folds"]:
        row = by_unit[unit["id"], str(unit["seed"])]
        assert row[2:5] == [score(unit[name]) for name in SCORES]
        assert row[5:8] == [
            str(unit["n_utterances"]),
            f"{unit['best_epoch']} of {unit['epochs']}",
            ", ".join(unit["validation_speakers"]),
        ]
        assert row[8] == (", ".join(unit["classes_absent"]) or "–")
    foot = {row[0]: row[2:5] for row in table[-8:]}
    for key in ("mean", "pooled"):
        values = [score(results["ensemble"][name][key]) for name in SCORES]
        assert foot[f"ensemble of 2 seeds, {key}"] == values
    for label, key in (
        ("mean", "mean"),
        ("sd over folds", "std"),
        ("sd over seeds", "seed_std"),
        ("pooled", "pooled"),
    ):
        assert foot[label] == [score(results[name][key]) for name in SCORES]
    for label, key in (("95 % CI of the mean", "ci95"), ("95 % CI of pooled", "pooled_ci95")):
        assert foot[label] == [interval(results[name][key]) for name in SCORES]
    recalls = {row[0]: (row[1], row[2]) for row in page.table("Emotion")[1:]}
    counts = {row[0]: row[1:] for row in page.table("labelled as")[1:]}
    for name, row in zip(results["classes"], results["confusion"], strict=True):
        assert recalls[name] == (str(sum(row)), score(results["recalls"][name]))
        assert counts[name] == [str(count) for count in row]
    groups = [row for table in page.tables if table[0][0] == "Group" for row in table[1:]]
    assert groups == [
        [name, str(found["n"]), score(found["wa"]), score(found["ua"])]
        for kind, order in (
            ("duration", ("under 3 s", "3 to 6 s", "over 6 s")),
            ("style", ("improvised", "scripted")),
        )
        for name in order
        for found in [results["breakdown"][kind][name]]
    ]


def test_recalls_folds_and_groups_follow_from_the_predictions(ablation_run: Path) -> None:
    page = Page(ablation_run / "report.html")
    recalls = table(page, "Row", *FOUR)
    folds = table(page, "Row", "01", "02")
    genders = next(t for t in page.tables if t[0][1].startswith("female"))
    assert genders[0][1:] == ["femalen = 75", "malen = 75"]
    styles = next(t for t in page.tables if t[0][1].startswith("improvised"))
    assert styles[0][1:] == ["improvisedn = 70", "scriptedn = 80"]
    for title, row in ROWS.items():
        lines = [line for of in predictions(ablation_run, row).values() for line in of]
        counts = confusion_matrix([line[2] for line in lines], [line[3] for line in lines], labels=FOUR)
        assert recalls[title] == [f"{100 * counts[k, k] / counts[k].sum():.2f}" for k in range(4)]
        expected = by_speaker(ablation_run, row, "ua")
        assert folds[title] == [f"{100 * expected[fold]:.2f}" for fold in sorted(expected)]
        wanted = [judged([x for x in lines if style in x[0]])["ua"] for style in ("impro", "script")]
        cells = next(line[1:] for line in styles if bare(line[0]) == title)
        assert cells == [f"{100 * value:.2f}" for value in wanted]
        women = {f"{n:02d}" for n in range(1, 11, 2)}
        wanted = [judged([x for x in lines if (x[1] in women) == female])["ua"] for female in (True, False)]
        cells = next(line[1:] for line in genders if bare(line[0]) == title)
        assert cells == [f"{100 * value:.2f}" for value in wanted]


def test_calibration_follows_from_the_predictions(ablation_run: Path) -> None:
    """With one probability for all answers there is one range, and its error is the whole error."""
    shown = table(Page(ablation_run / "report.html"), "Row", "Utterances", "Mean probability")
    assert list(shown) == [
        title for title in ROWS if title != "Support vectors"
    ]  # margins are no probabilities
    bins = read_sealed(ablation_run / "results.json")["rows"]["full"]["calibration"]["bins"]
    assert sum(one["n"] for one in bins) == 150 == int(shown["Full"][0])
    error = sum(one["n"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / 150
    assert shown["Full"][3] == f"{100 * error:.2f}"


@pytest.mark.usefixtures("undrawn")
def test_sessions_of_iemocap_are_broken_down(tmp_path: Path) -> None:
    make_run(tmp_path, ("1F", "1M", "2F", "2M"), sessions=True)
    groups = [
        row[0] for table in Page(write_report(tmp_path)).tables if table[0][0] == "Group" for row in table
    ]
    assert groups[4:] == [
        "Group",
        "Ses01",
        "Ses02",
        "Group",
        "female",
        "male",
        "Group",
        "improvised",
        "scripted",
    ]


def test_many_folds_one_epoch_many_classes_and_an_infinite_loss_are_drawn(tmp_path: Path) -> None:
    speakers = [f"{n:03d}" for n in range(41)]
    make_run(tmp_path / "wide", speakers, tuple(f"class {k} of many" for k in range(13)), each=1, epochs=5)
    wide = report_page(tmp_path / "wide").text
    assert "a shaded area holds the middle 80 % of them" in wide
    make_run(tmp_path / "short", ("1", "2", "3", "4"), ("only",), epochs=1)
    short = tmp_path / "short"
    for file in short.glob("*/seed-0/fold-*/history.csv"):
        file.write_text("epoch,train_loss,validation_loss,validation_wa,validation_ua\n1,0.5,inf,0.5,0.5\n")
    for unit in (results := read_sealed(short / "results.json"))["folds"]:
        unit["epochs"] = unit["best_epoch"] = 1
        folder = unit_folder(short, CV_ROW, unit["seed"], unit["id"])
        write_result(folder, read_sealed(folder / "result.json") | unit)
    write_sealed(short / "results.json", results)
    assert report_page(short).tables
