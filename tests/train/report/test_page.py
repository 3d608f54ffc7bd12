"""The report of a run, on run folders made up by the functions that make real ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import REPOSITORY
from run_factory import HOSTILE, Page, edit, make_run, reseal

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.config.parse import with_settings
from mfhca_train.config.settings import Config
from mfhca_train.report import sections
from mfhca_train.report.html import interval, per_cent
from mfhca_train.report.page import write_report
from mfhca_train.results import record
from mfhca_train.results.checksums import read_sealed, write_result, write_sealed
from mfhca_train.results.schema import CV_ROW, SCORES, unit_folder


def report(run: Path) -> Page:
    return Page(write_report(run))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "plain"
    make_run(run)
    write_report(run)
    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the pictures out, which take nearly all of the time, where a test is about the text."""
    for name in ("confusion_picture", "fold_picture", "curve_picture"):
        monkeypatch.setattr(sections, name, lambda *_: "")


@pytest.fixture
def damaged(plain: Path, tmp_path: Path) -> Path:
    """A copy of a good run, for a test to spoil."""
    return Path(shutil.copytree(plain, tmp_path / "run"))


def test_same_run_gives_same_bytes_wherever_and_whenever(plain: Path, tmp_path: Path) -> None:
    before = (plain / "report.html").read_bytes()
    moved = Path(shutil.copytree(plain, tmp_path / "elsewhere" / "under another name"))
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


def test_page_needs_nothing_else_and_names_no_place(plain: Path) -> None:
    page = Page(plain / "report.html")
    assert not re.search(r"https?:|//[a-z]|@import|<script|<link|<iframe|<img", page.source)
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert (value or "").startswith("#"), (tag, name, value)
    assert set(re.findall(r"url\((.)", page.source)) <= {"#"}
    assert str(plain.parent) not in page.source
    assert "default-src 'none'" in page.source


def test_ids_of_the_page_are_unique_and_references_resolve(plain: Path) -> None:
    page = Page(plain / "report.html")
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
    assert page.source.count("<svg") == 5 == page.source.count('role="img"')


def test_pictures_take_every_colour_from_the_page(plain: Path) -> None:
    page = Page(plain / "report.html")
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", drawn)
    defined = set(re.findall(r"(--[a-z-]+):", page.source))
    assert set(re.findall(r"var\((--[a-z-]+)\)", page.source)) <= defined


@pytest.mark.usefixtures("undrawn")
def test_figures_are_those_of_results_json(tmp_path: Path) -> None:
    results = make_run(tmp_path, seeds=2, lacking="anger")
    page = report(tmp_path)
    table = page.table("Fold")
    by_unit = {(row[0], row[1]): row for row in table[1:]}
    for unit in results["folds"]:
        row = by_unit[unit["id"], str(unit["seed"])]
        assert row[2:5] == [per_cent(unit[name]) for name in SCORES]
        assert row[5:8] == [
            str(unit["n_utterances"]),
            f"{unit['best_epoch']} of {unit['epochs']}",
            ", ".join(unit["validation_speakers"]),
        ]
        assert row[8] == (", ".join(unit["classes_absent"]) or "–")
    foot = {row[0]: row[2:5] for row in table[-6:]}
    for label, key in (
        ("mean", "mean"),
        ("sd over folds", "std"),
        ("sd over seeds", "seed_std"),
        ("pooled", "pooled"),
    ):
        assert foot[label] == [per_cent(results[name][key]) for name in SCORES]
    for label, key in (("95 % of mean", "ci95"), ("95 % of pooled", "pooled_ci95")):
        assert foot[label] == [interval(results[name][key]).replace(" to", "to") for name in SCORES]
    recalls = {row[0]: (row[1], row[2]) for row in page.table("Emotion")[1:]}
    counts = {row[0]: row[1:] for row in page.table("labelled as")[1:]}
    for name, row in zip(results["classes"], results["confusion"], strict=True):
        assert recalls[name] == (str(sum(row)), per_cent(results["recalls"][name]))
        assert counts[name] == [str(count) for count in row]
    groups = [row for table in page.tables if table[0][0] == "Group" for row in table[1:]]
    assert groups == [
        [name, str(found["n"]), per_cent(found["wa"]), per_cent(found["ua"])]
        for kind, order in (
            ("duration", ("under 3 s", "3 to 6 s", "over 6 s")),
            ("style", ("improvised", "scripted")),
        )
        for name in order
        for found in [results["breakdown"][kind][name]]
    ]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("lacking", [None, "anger"], ids=["mean", "pooled"])
def test_headline_is_the_one_of_results_json(tmp_path: Path, lacking: str | None) -> None:
    results = make_run(tmp_path, lacking=lacking)
    assert results["headline"] == ("pooled" if lacking else "mean")
    text = report(tmp_path).text
    for name in SCORES:
        assert f"{name.upper()} {per_cent(results[name][results['headline']])} %" in text
        assert f"95 % interval: {interval(results[name]['pooled_ci95' if lacking else 'ci95'])}" in text
    assert ("count the utterances of all folds together" in text) == bool(lacking)
    sizes = [sum(row) for row in results["confusion"]]
    assert f"Chance: {per_cent(max(sizes) / sum(sizes))} (always saying" in text
    assert "Chance: 25.00 (guessing one of 4)" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("skill", "verdict"), [(0.9, "holds for new speakers"), (0.0, "reaches down to chance")]
)
def test_verdict_follows_the_interval(tmp_path: Path, skill: float, verdict: str) -> None:
    make_run(tmp_path, skill=skill)
    assert verdict in report(tmp_path).text


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    speakers = [f"{HOSTILE}{n}" for n in range(4)]
    classes = (HOSTILE, "愤怒", "a\x00b\x1b", "$\\frac{$", 'style="fill: #0072b2"')
    make_run(tmp_path, speakers, classes, corpus=HOSTILE, settings={"train.lr": "1e-3"})
    page = report(tmp_path)
    assert "<script" not in page.source
    assert HOSTILE in page.text
    assert "愤怒" in page.text
    assert "a�b�" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f]", page.source)
    assert page.table("Fold")[1][0] == speakers[0]


@pytest.mark.usefixtures("undrawn")
def test_halves_of_characters_are_refused_in_one_line(damaged: Path) -> None:
    path = damaged / "results.json"
    path.write_text(path.read_text().replace('"toy"', '"\\ud800toy"'))
    with pytest.raises(MfhcaError, match=r"results.json: not valid JSON .*surrogates"):
        report(damaged)


def test_oracle_is_marked_in_banner_title_figures_and_pictures(plain: Path, tmp_path: Path) -> None:
    make_run(tmp_path, protocol="oracle")
    for page, oracle in ((report(tmp_path), True), (Page(plain / "report.html"), False)):
        assert ("ORACLE: these figures are too good to be true" in page.text) == oracle
        assert ("(ORACLE)" in page.source[: page.source.index("</title>")]) == oracle
        assert page.text.count("WA (oracle)") == oracle
        drawn = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
        assert len(drawn) == 5
        assert all(("ORACLE: epoch selected on the test speaker" in picture) == oracle for picture in drawn)
        assert ("that it had never heard" in page.text) != oracle
        assert ("holds for new speakers" in page.text) != oracle


@pytest.mark.usefixtures("undrawn")
def test_oracle_matched_is_marked_too(tmp_path: Path) -> None:
    make_run(tmp_path, protocol="oracle-matched")
    assert "ORACLE: these figures" in report(tmp_path).text


@pytest.mark.usefixtures("undrawn")
def test_selection_on_a_test_speaker_is_an_oracle_whatever_the_file_says(damaged: Path) -> None:
    edit(damaged / "results.json", "r['folds'][0]['selected_on'] = 'test'")
    edit(damaged / "model/seed-0/fold-03/result.json", "r['selected_on'] = 'test'")
    assert "ORACLE: these figures" in report(damaged).text


@pytest.mark.usefixtures("undrawn")
def test_notes_say_what_to_beware_of(plain: Path, tmp_path: Path) -> None:
    calm = Page(plain / "report.html").text
    make_run(tmp_path, corpus="demo", chosen=slice(0, 1), stopped_by="epoch limit")
    page = report(tmp_path)
    for note in (
        "these figures mean nothing",
        "Not complete: only 1 fold",
        "1 of 1 network stopped at the limit of",
    ):
        assert note in page.text
        assert note not in calm
    assert "--fold 03" in page.text
    assert "there is no interval" in page.text
    assert not any(row[0] in ("sd over folds", "95 % of mean") for row in page.table("Fold"))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("seeds", "said"), [(1, "Only 1 seed."), (4, "Only 4 seeds."), (5, None)])
def test_fewer_than_five_seeds_are_said(tmp_path: Path, seeds: int, said: str | None) -> None:
    make_run(tmp_path, seeds=seeds, each=1)
    text = report(tmp_path).text
    assert (said in text) if said else ("Only" not in text)


def test_published_figures_and_markdown_stand_beside_the_run(damaged: Path) -> None:
    path = damaged / "results.json"
    figure = {"system": "Theirs", "corpus": "toy", "label_set": "four", "wa": 61.25, "score": "pooled"}
    figure |= {"protocol": "one speaker out", "source": "a paper"}
    write_sealed(path, read_sealed(path) | {"yardsticks": [figure]})
    results = read_sealed(path)
    page, text = report(damaged), (damaged / "report.md").read_text()
    pooled = [per_cent(results[name]["pooled"]) for name in ("wa", "ua")]
    assert page.table("System")[1:] == [
        ["this run", *pooled, "strict, 4 × 1, pooled", "–", "–", "–"],
        ["Theirs", "–", "–", "–", "61.25", "–", "toy (four), pooled: one speaker outa paper"],
    ]
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == len(page.tables)
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in block}) == 1 for block in blocks)
    assert "| **this run** | " + " | ".join(pooled) in text
    assert text.count("*Picture (see report.html)") == 5


@pytest.mark.usefixtures("undrawn")
def test_settings_and_command_repeat_the_run(tmp_path: Path) -> None:
    settings = {"train.lr": "3e-4", "model.grf_channels": "16,32", "model.bilstm": "false"}
    make_run(tmp_path, seeds=2, protocol="group-k", settings={**settings, "train.groups": "4"})
    page = report(tmp_path)
    assert page.table("Setting")[1:] == [
        ["model.grf_channels", "16,32", "16,32,48"],
        ["model.bilstm", "false", "true"],
        ["train.lr", "0.0003", "1e-05"],
        ["train.groups", "4", "5"],
    ]
    assert (
        "mfhca-train cv manifests/toy.csv --cache cache --out runs/again --label-set four --protocol group-k "
        "--set model.grf_channels=16,32 --set model.bilstm=false --set train.lr=0.0003 --set train.groups=4 "
        "--seeds 2 --threads 1"
    ) in page.text
    assert page.table("Fold")[0][-1] == "Tested on"
    assert ["total", "", "87,861"] in page.table("Module")


@pytest.mark.usefixtures("undrawn")
def test_sessions_of_iemocap_are_broken_down(tmp_path: Path) -> None:
    make_run(tmp_path, ("1F", "1M", "2F", "2M"), sessions=True)
    groups = [
        row[0] for table in Page(write_report(tmp_path)).tables if table[0][0] == "Group" for row in table
    ]
    assert groups[4:7] == ["Group", "Ses01", "Ses02"]


def test_many_folds_one_epoch_many_classes_and_an_infinite_loss_are_drawn(tmp_path: Path) -> None:
    speakers = [f"{n:03d}" for n in range(41)]
    make_run(tmp_path / "wide", speakers, tuple(f"class {k} of many" for k in range(13)), each=1, epochs=5)
    wide = report(tmp_path / "wide").text
    assert "a shade is where eight in ten of them lie" in wide
    make_run(tmp_path / "short", ("1", "2", "3", "4"), ("only",), epochs=1)
    short = tmp_path / "short"
    for file in short.glob("*/seed-0/fold-*/history.csv"):
        file.write_text("epoch,train_loss,validation_loss,validation_wa,validation_ua\n1,0.5,inf,0.5,0.5\n")
    for unit in (results := read_sealed(short / "results.json"))["folds"]:
        unit["epochs"] = unit["best_epoch"] = 1
        folder = unit_folder(short, CV_ROW, unit["seed"], unit["id"])
        write_result(folder, read_sealed(folder / "result.json") | unit)
    write_sealed(short / "results.json", results)
    assert report(short).tables


def _edit(change: str) -> Any:
    """A function that spoils results.json: a statement on `r`."""

    def spoil(run: Path) -> None:
        edit(run / "results.json", change)

    return spoil


def _curves(change: Callable[[str], str]) -> Any:
    """A function that changes the text of a unit's history.csv, as if it had been written so."""

    def spoil(run: Path) -> None:
        _history(run).write_text(change(_history(run).read_text()))
        reseal(_history(run).parent)

    return spoil


def _text(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


DAMAGE = {
    "no run": (lambda run: shutil.rmtree(run), "no run.json, so no finished run"),
    "not finished": (lambda run: (run / "results.json").unlink(), "no results.json, so no finished run"),
    "not JSON": (lambda run: (run / "results.json").write_text("{"), "results.json: not valid JSON"),
    "a list": (lambda run: (run / "results.json").write_text("[]"), "results.json: holds no digest"),
    "run.json empty": (lambda run: write_sealed(run / "run.json", {}), "run.json: format is missing"),
    "no WA": (_edit("del r['wa']"), "wa is missing"),
    "WA a text": (_edit("r['wa']['mean'] = 'high'"), "wa.mean is 'high', expected a number from 0 to 1"),
    "UA not a number": (
        lambda run: _text(run / "results.json", '"pooled": 0.', '"pooled": NaN'),
        "not valid JSON .*NaN is not a finite number",
    ),
    "true for a count": (
        _edit("r['n_folds'] = True"),
        "n_folds is True, expected a whole number of at least 1",
    ),
    "half an interval": (_edit("r['wa']['ci95'] = [0.5]"), "wa.ci95 is a list, expected a list of 2"),
    "fold without epoch": (_edit("del r['folds'][1]['best_epoch']"), r"folds\[1\].best_epoch is missing"),
    "fold missing": (_edit("r['folds'].pop()"), "3 different folds and seeds are listed, expected 4"),
    "fold twice": (
        _edit("r['folds'][1] = r['folds'][0]"),
        "3 different folds and seeds are listed, expected 4",
    ),
    "confusion not square": (_edit("r['confusion'].pop()"), "confusion is not a table of 4 by 4 counts"),
    "confusion negative": (
        _edit("r['confusion'][0][0] = -1"),
        r"confusion\[0\]\[0\] is -1, expected a whole number of at least 0",
    ),
    "confusion empty": (_edit("r['confusion'] = [[0] * 4] * 4"), "confusion counts no utterance"),
    "other classes": (_edit("r['classes'][0] = 'joy'"), "recalls are not those of the classes"),
    "headline": (_edit("r['headline'] = 'best'"), "headline is 'best', expected one of mean, pooled"),
    "best epoch": (_edit("r['folds'][0]['best_epoch'] = 99"), "fold '03': best epoch 99 of"),
    "another run's curves": (
        _edit("r['folds'][0]['epochs'] += 1"),
        "results.json: row model, fold 03, seed 0: epochs is not that of .*result.json",
    ),
    "no curves": (lambda run: _history(run).unlink(), "history.csv: cannot be read .No such file"),
    "curves cut": (
        _curves(lambda _: "epoch,train_loss\n1,"),
        "cannot be read .ValueError could not convert",
    ),
    "curves no text": (
        lambda run: (_history(run).write_bytes(b"\xff\xfe"), reseal(_history(run).parent)),
        "cannot be read .UnicodeDecodeError",
    ),
    "curves no numbers": (
        _curves(lambda text: text.replace("0.", "x.")),
        "cannot be read .ValueError",
    ),
    "score above one": (
        _curves(lambda text: text.replace(",0.", ",7.")),
        "a score is not between 0 and 1",
    ),
}


def _history(run: Path) -> Path:
    return unit_folder(run, CV_ROW, 0, "03") / "history.csv"


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_one_line_that_names_the_file(damaged: Path, kind: str) -> None:
    spoil, message = DAMAGE[kind]
    before = (damaged / "report.html").read_bytes()
    spoil(damaged)
    with pytest.raises(MfhcaError, match=message) as caught:
        write_report(damaged)
    assert "\n" not in str(caught.value)
    assert str(damaged) in str(caught.value)
    assert "mfhca-train cv" in str(caught.value) or "run again" in str(caught.value)
    assert not damaged.exists() or (damaged / "report.html").read_bytes() == before


def test_names_of_the_record_are_those_of_the_trainer() -> None:
    from mfhca_train.model.network import MFHCA
    from mfhca_train.report.sections import MODULES
    from mfhca_train.training.checkpoint import HISTORY

    assert ("epoch", *record.CURVES) == HISTORY
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
