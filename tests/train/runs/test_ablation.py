"""Ablations: every shipped row runs, equal rows are trained once, interruptions leave no trace."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from corpus_factory import SMALL
from grid_factory import GRIDS, PADDED, RATES, ROWS, SMALL_GRID, copy_of, short, write_grid
from places import FACTORIES, REPOSITORY
from run_factory import tree
from sklearn.metrics import accuracy_score, recall_score

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import write_manifest
from mfhca_train.cli.main import main
from mfhca_train.report.repeat import commands
from mfhca_train.report.terminal import table
from mfhca_train.results.checksums import read_sealed
from mfhca_train.results.record import read_record
from mfhca_train.results.rescore import rescore
from mfhca_train.runs.ablation import ablate
from mfhca_train.runs.crossval import cross_validate
from mfhca_train.runs.grid import read_grid, row_config
from mfhca_train.training import queue


@pytest.fixture(scope="module")
def shipped(corpus: Path) -> dict[str, dict[str, Any]]:
    """Results of all shipped grids, side by side."""
    return {path.stem: ablate(short(corpus, path.stem), read_grid(path)) for path in GRIDS}


def command(folder: Path, grid: Path, *more: str) -> Result:
    settings = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    places = ["--cache", str(folder / "cache"), "--out", str(folder / "runs/x")]
    usual = ["--set", "train.epochs=1", "--jobs", "1", "--fold", "s0", "--seeds", "1", "--device", "cpu"]
    usual += ["--no-analysis"]
    return CliRunner().invoke(
        main,
        [
            "ablate",
            str(grid),
            str(folder / "corpus.csv"),
            *places,
            "--preset",
            "paper",
            *settings,
            *usual,
            *more,
        ],
    )


@pytest.mark.parametrize("name", [path.stem for path in GRIDS])
def test_every_row_of_every_shipped_grid_runs_to_the_end(
    shipped: dict[str, dict[str, Any]], corpus: Path, name: str
) -> None:
    grid = read_grid(REPOSITORY / "manifests" / "ablations" / f"{name}.toml")
    results = read_sealed(corpus / "runs" / name / "results.json")
    assert results == shipped[name]
    assert list(results["rows"]) == [row.name for row in grid.trained]
    for row in results["rows"].values():
        assert row["n_folds"] == 1
        assert (row["comparison"] is None) == (row is results["rows"][grid.reference] or row["oracle"])
        assert row["oracle"] == row["protocol"].startswith("oracle")


def test_equal_rows_of_all_grids_are_trained_once(shipped: dict[str, dict[str, Any]], corpus: Path) -> None:
    runs = corpus / "runs"
    places = [
        "table1/mfhca",
        "table2/hubert-mf-hca",
        "table4/r-4",
        "variants/equations-temporal",
        "protocols/strict",
    ]
    weights = [runs / place / "seed-0/fold-s0/best.safetensors" for place in places]
    assert len({path.stat().st_mtime_ns for path in weights}) == 1
    assert len({path.stat().st_ino for path in weights}) == 1
    # And nothing that differs was taken for the same.
    identities: dict[str, set[str]] = {}
    for path in runs.rglob("result.json"):
        result = json.loads(path.read_text())
        key = f"{result['identity']}/{result['id']}/{result['seed']}"
        identities.setdefault(key, set()).add((path.parent / "best.safetensors").read_bytes().hex()[:4096])
    assert all(len(found) == 1 for found in identities.values())
    assert len(shipped["protocols"]["optimism"]) == 1
    assert set(shipped["protocols"]["optimism"][0]) == {"rows", "selection", "extra"}


def test_a_row_is_what_cv_gives(shipped: dict[str, dict[str, Any]], corpus: Path) -> None:
    alone = cross_validate(short(corpus, "cv", **PADDED))
    row = shipped["table1"]["rows"]["mfhca"]
    assert alone.pop("yardsticks") == []  # published figures of the corpus: a row of a grid names its own
    assert {key: row[key] for key in alone} == alone
    mine = tree(corpus / "runs/cv/model/seed-0/fold-s0")
    assert mine == tree(corpus / "runs/table1/mfhca/seed-0/fold-s0")


def test_an_ablation_can_be_rescored(shipped: dict[str, dict[str, Any]], corpus: Path) -> None:
    for name, row in rescore(corpus / "runs/table1", "mean").items():
        found = json.loads(json.dumps(row))
        expected = shipped["table1"]["rows"][name]
        assert {key: value for key, value in found.items() if expected[key] != value} == {"breakdown": {}}


def test_wav2vec_rows_read_other_features(shipped: dict[str, dict[str, Any]]) -> None:
    rows = shipped["table2"]["rows"]
    assert rows["w2v2-mf"]["recipes"]["ssl"] != rows["hubert-mf"]["recipes"]["ssl"]
    assert rows["w2v2-mf"]["recipes"]["spec"] == rows["hubert-mf"]["recipes"]["spec"]
    tails = {
        name: shipped["variants"]["rows"][name]["recipes"] for name in ("tail-overlap", "tail-drop", "logmel")
    }
    assert len({recipes["spec"] for recipes in tails.values()} | {rows["spec-mf"]["recipes"]["spec"]}) == 4


def test_comparison_agrees_with_the_predictions(corpus: Path, tmp_path: Path) -> None:
    """Differences per speaker, recomputed with scikit-learn from predictions.csv alone."""
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID)
    results = ablate(short(corpus, "compared", folds=("s0", "s1", "s4"), seeds=(0, 1)), grid)

    def of(row: str, seeds: int) -> dict[str, dict[str, list[float]]]:
        found: dict[str, dict[str, list[float]]] = {"wa": {}, "ua": {}}
        for seed in range(seeds):
            for speaker in ("s0", "s1", "s4"):
                folder = corpus / "runs/compared" / row / f"seed-{seed}" / f"fold-{speaker}"
                with open(folder / "predictions.csv", newline="") as file:
                    rows = list(csv.DictReader(file))
                truth, guess = [r["label"] for r in rows], [r["prediction"] for r in rows]
                recall = recall_score(
                    truth, guess, average="macro", labels=sorted(set(truth)), zero_division=0
                )
                found["wa"].setdefault(speaker, []).append(accuracy_score(truth, guess))
                found["ua"].setdefault(speaker, []).append(recall)
        return found

    for name, seeds in (("b", 2), ("svm", 1), ("again", 2)):
        mine, reference = of(name, seeds), of("a", 2)
        for score in ("wa", "ua"):
            change = [np.mean(mine[score][s]) - np.mean(reference[score][s]) for s in ("s0", "s1", "s4")]
            entry = results["rows"][name]["comparison"][score]
            assert entry["difference"] == pytest.approx(np.mean(change))
            assert entry["pairs"] == 3
            assert entry["p"] <= entry["p_holm"] <= 1
    assert results["rows"]["again"]["comparison"]["wa"]["p"] == 1
    assert results["rows"]["svm"]["seeds"] == [0]
    assert not results["complete"]


def test_interrupted_anywhere_a_grid_ends_with_the_same_bytes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID)
    whole, broken = (copy_of(corpus, tmp_path / name) for name in ("whole", "broken"))
    folds = ("s0", "s1")
    ablate(short(whole, "x", epochs=2, folds=folds), grid)
    run_unit, stop_after = queue.run_unit, [0]

    def stopping(unit: Any, _: Any = None) -> None:
        def show(_: Any) -> None:
            if stop_after[0] == 0:
                raise KeyboardInterrupt
            stop_after[0] -= 1

        run_unit(unit, show)

    for epochs in (0, 2, 1):  # how many more each call gets
        stop_after[0] = epochs
        monkeypatch.setattr(queue, "run_unit", stopping)
        with pytest.raises(KeyboardInterrupt):
            ablate(short(broken, "x", epochs=2, folds=folds), grid)
        monkeypatch.setattr(queue, "run_unit", run_unit)
    ablate(short(broken, "x", epochs=2, folds=folds), grid)
    assert tree(broken / "runs/x") == tree(whole / "runs/x")


def test_killed_and_run_again_by_two_workers_a_grid_ends_with_the_same_bytes(
    corpus: Path, tmp_path: Path
) -> None:
    grid = tmp_path / "small.toml"
    read = write_grid(grid, SMALL_GRID)
    whole, broken = (copy_of(corpus, tmp_path / name) for name in ("whole", "broken"))
    ablate(short(whole, "x", epochs=2, folds=("s0", "s1")), read)
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from grid_factory import short; from mfhca_train.runs.ablation import ablate\n"
        "from mfhca_train.runs.grid import CHOSEN, read_grid\n"
        "if __name__ == '__main__':\n"
        "    request = short(Path(sys.argv[2]), 'x', epochs=2, folds=('s0', 's1'), jobs=2)\n"
        "    ablate(request, read_grid(Path(sys.argv[3])))\n"
    )
    arguments = [sys.executable, "-c", script, str(FACTORIES), str(broken), str(grid)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    networks = (broken / "runs/x/a", broken / "runs/x/b")
    while time.monotonic() < deadline and process.poll() is None:
        if any(path for run in networks for path in run.glob("seed-0/.fold-*/history.csv")) or any(
            path for run in networks for path in run.glob("seed-0/.fold-*/checkpoint.safetensors")
        ):
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (broken / "runs/x/results.json").exists()
    ablate(short(broken, "x", epochs=2, folds=("s0", "s1")), read)
    assert tree(broken / "runs/x") == tree(whole / "runs/x")


def test_nothing_to_do_changes_no_byte_and_one_row_keeps_the_others(corpus: Path, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID)
    ablate(short(corpus, "again"), grid)
    before = tree(corpus / "runs/again")
    ablate(short(corpus, "again"), grid)
    assert tree(corpus / "runs/again") == before
    ablate(short(corpus, "again"), grid, names=["b"])
    assert tree(corpus / "runs/again") == before
    more = ablate(replace(short(corpus, "again"), seeds=(0, 1)), grid, names=["b"])
    assert {name: row["seeds"] for name, row in more["rows"].items()} == {
        name: [0, 1] if name == "b" else [0] for name in json.loads(before["results.json"])["rows"]
    }
    assert {name: (row["comparison"] or {}).get("seeds") for name, row in more["rows"].items()} == {
        "a": None,
        "b": 1,
        "again": 1,
        "svm": 1,
    }
    once = json.loads(before["results.json"])["rows"]["b"]["comparison"]["wa"]
    assert more["rows"]["b"]["comparison"]["wa"]["difference"] == once["difference"]
    assert "compared with it over the seeds that both have: “b” over 1 seed." in table(more)


def test_the_report_s_commands_repeat_a_run_with_unequal_seeds(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    grid = write_grid(path, SMALL_GRID)
    folder = copy_of(corpus, tmp_path / "x")
    ablate(short(folder, "x", seeds=(0, 1)), grid, names=["a"])
    ablate(short(folder, "x"), grid, names=["b", "again", "svm"])
    first = shutil.move(folder / "runs/x", tmp_path / "first")  # where nothing is taken over from it
    lines = commands(read_record(first))
    asked = [
        [b for a, b in itertools.pairwise(shlex.split(line)) if a in ("--row", "--seeds")] for line in lines
    ]
    assert asked == [["b", "again", "svm", "1"], ["a", "2"]]
    places = {"small": path, "manifests/corpus.csv": folder / "corpus.csv", "cache": folder / "cache"}
    places["runs/again"] = folder / "runs/again"
    for order in (1, -1):
        for line in lines[::order]:
            words = [str(places.get(word, word)) for word in shlex.split(line)[1:]]
            result = CliRunner().invoke(main, [*words, "--jobs", "1", "--no-analysis"])
            assert result.exit_code == 0, result.output
        again = tree(places["runs/again"])
        for name in ("results.json", "report.html", "report.md"):
            assert again[name] == (first / name).read_bytes()
        shutil.rmtree(places["runs/again"])


def test_the_command_names_rows_without_features_and_what_makes_them(corpus: Path, tmp_path: Path) -> None:
    folder = copy_of(corpus, tmp_path / "x")
    for path in [
        *folder.glob("cache/ssl-wav2vec2*"),
        *folder.glob("cache/mfcc*"),
        *folder.glob("cache/logmel*"),
    ]:
        shutil.rmtree(path)
    table1 = REPOSITORY / "manifests/ablations/table1.toml"
    result = command(folder, table1)
    assert result.exit_code == 1, result.output
    assert "2 of 5 rows cannot be trained" in result.output
    assert "co-attention: no ssl features named wav2vec2... and no mfcc features" in result.output
    assert "--kind ssl --kind mfcc --backbone facebook/wav2vec2-base-960h" in result.output
    assert "co-attention-same: no mfcc features: mfhca-cache features" in result.output
    assert not (folder / "runs/x/run.json").exists()
    result = command(
        folder, table1, "--skip-missing", "--row", "svm", "--row", "majority", "--row", "co-attention"
    )
    assert result.exit_code == 0, result.output
    assert "left out:" in result.output
    results = json.loads((folder / "runs/x/results.json").read_text())
    assert list(results["rows"]) == ["svm", "majority"]
    assert list(results["left_out"]) == ["co-attention"]
    assert "nothing was tested: the reference row mfhca was not trained" in result.output
    assert "73.80/74.25" in result.output  # cited
    page = folder / "runs/x/report.html"
    before = page.read_text()
    assert "no ssl features named wav2vec2... and no mfcc features" in before
    assert str(folder) not in before  # no name of this machine
    page.unlink()
    report = CliRunner().invoke(main, ["report", str(folder / "runs/x")])
    assert report.exit_code == 0, report.output
    assert "Linear SVM" in report.output
    assert str(page) in report.output
    assert page.read_text() == before
    assert "no row is called 'nobody'; there are: " in command(folder, table1, "--row", "nobody").output


def test_a_protocol_that_the_corpus_lacks_is_left_out_but_half_of_the_features_is_an_error(
    corpus: Path, tmp_path: Path
) -> None:
    folder = copy_of(corpus, tmp_path / "x")
    write_manifest(folder / "corpus.csv", [replace(u, session="") for u in ROWS])
    result = command(folder, Path("protocols"))
    assert result.exit_code == 1
    assert "1 of 4 rows cannot be trained" in result.output
    assert "session: protocol session: speaker s0 has utterances without a session" in result.output
    rows = ("--row", "session", "--row", "strict")
    assert command(folder, Path("protocols"), "--skip-missing", *rows).exit_code == 0
    (folder / "cache" / PADDED["ssl"] / "s3.h5").unlink()
    result = command(folder, Path("table4"), "--skip-missing", "--out", str(folder / "runs/y"))
    assert result.exit_code == 1
    assert "row r-2: " in result.output
    assert "no features of speaker s3" in result.output


def test_the_command_prints_tests_oracles_and_optimism(corpus: Path, tmp_path: Path) -> None:
    folder = copy_of(corpus, tmp_path / "x")
    result = command(folder, Path("protocols"))
    assert result.exit_code == 0, result.output
    for words in (
        "oracle-matched (ORACLE)",
        "strict (reference)",
        "Not tested: “oracle-matched (ORACLE)”, “oracle (the released code's) (ORACLE)”. These rows selected",
        "Holm: adjusted for the 1 row tested",
        "effect of selecting on the test speaker (oracle-matched minus strict): WA ",
        "effect of training on the validation speakers as well (oracle minus oracle-matched): WA ",
        "1 seed: a difference within the spread over seeds means nothing; use 5 or more",
        "sign-flip test, two-sided",
        "74.24/74.57 (1)",
        "published (1): iemocap, 10-fold leave one speaker out",
        "NOT COMPLETE",
    ):
        assert words in result.output, words


def test_other_rows_of_the_same_names_and_other_kinds_of_run_are_refused(
    corpus: Path, tmp_path: Path
) -> None:
    folder = copy_of(corpus, tmp_path / "x")
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID)
    ablate(short(folder, "x"), grid, names=["b"])
    with pytest.raises(MfhcaError, match=r"(?s)holds another run.*config.train.epochs: 1 in that run, 2 now"):
        ablate(short(folder, "x", epochs=2), grid, names=["b"])
    with pytest.raises(MfhcaError, match="holds an ablation"):
        cross_validate(short(folder, "x", **PADDED))
    cross_validate(short(folder, "y", config=row_config(short(folder, "y").config, grid.rows[1]), **PADDED))
    with pytest.raises(MfhcaError, match="holds a cv run"):
        ablate(short(folder, "y"), grid)


def test_a_chosen_row_refuses_rows_that_differ_in_more_than_the_rate(corpus: Path, tmp_path: Path) -> None:
    text = RATES.replace('"train.lr" = 3e-2', '"model.bilstm" = false')
    grid = write_grid(tmp_path / "rates.toml", "[base]\nrecipe = { tail = 'pad' }\nssl = 'hubert'\n" + text)
    with pytest.raises(MfhcaError, match="row best: slow and fast differ in more than"):
        ablate(short(corpus, "wrong"), grid)


def test_wrong_settings_name_their_row(corpus: Path, tmp_path: Path) -> None:
    for settings, words in (
        ('"model.hcaa" = "channel"', "row a: no setting is called 'model.hcaa'"),
        ('"model.inputs" = "spec", "model.hca" = "channel"', "row a: model.hca would be ignored"),
    ):
        grid = write_grid(tmp_path / "grid.toml", f"[[row]]\nname = 'a'\nset = {{ {settings} }}")
        with pytest.raises(MfhcaError, match=words):
            ablate(short(corpus, "wrong"), grid)
    grid = write_grid(tmp_path / "grid.toml", "[[row]]\nname = 'a'\nkind = 'svm'")
    with pytest.raises(MfhcaError, match="kind svm reads hidden states alone"):
        ablate(short(corpus, "wrong"), grid)
    grid = write_grid(tmp_path / "grid.toml", "[[row]]\nname = 'a'")
    with pytest.raises(MfhcaError, match=r"row a: .*recipes of"):
        ablate(short(corpus, "wrong"), grid)
