"""Finished units of other rows and runs are linked, unless they are damaged or made elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from grid_factory import RATES, SMALL_GRID, copy_of, short, write_grid
from run_factory import tree

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.results.checksums import read_sealed, write_result
from mfhca_train.runs.ablation import ablate


def test_a_damaged_neighbour_is_not_taken_over(corpus: Path, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID)
    folder = copy_of(corpus, tmp_path / "x")
    ablate(short(folder, "first"), grid, names=["b"])
    path = folder / "runs/first/b/seed-0/fold-s0/predictions.csv"
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    about = folder / "runs/broken/run.json"
    about.parent.mkdir()
    about.write_text("{")
    results = ablate(short(folder, "second"), grid, names=["b"])
    assert results["rows"]["b"]["n_utterances"] == 4
    assert (folder / "runs/second/b/seed-0/fold-s0/predictions.csv").stat().st_ino != path.stat().st_ino


def test_what_a_process_left_that_was_killed_while_taking_over_is_removed(
    corpus: Path, tmp_path: Path
) -> None:
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID)
    folder = copy_of(corpus, tmp_path / "x")
    ablate(short(folder, "first"), grid, names=["b"])
    seed = folder / "runs/second/b/seed-0"
    (seed / ".fold-s0.partial").mkdir(parents=True)
    (seed / ".fold-s0.partial/history.csv").write_text("a part")
    ablate(short(folder, "second"), grid, names=["b"])
    assert sorted(path.name for path in seed.iterdir()) == [".fold-s0.lock", "fold-s0"]
    assert tree(seed / "fold-s0") == tree(folder / "runs/first/b/seed-0/fold-s0")


def test_units_of_other_versions_are_not_taken_over(corpus: Path, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "small.toml", SMALL_GRID)
    folder = copy_of(corpus, tmp_path / "x")
    ablate(short(folder, "first"), grid, names=["b"])
    unit = folder / "runs/first/b/seed-0/fold-s0"
    result = read_sealed(unit / "result.json")
    elsewhere = {**result["environment"], "versions": {**result["environment"]["versions"], "torch": "1.0"}}
    write_result(unit, {**result, "environment": elsewhere})
    ablate(short(folder, "second"), grid, names=["b"])
    own = read_sealed(folder / "runs/second/b/seed-0/fold-s0/result.json")
    assert own == result  # trained again here, and not with the other version


def test_a_chosen_row_takes_the_unit_that_did_best_on_validation(corpus: Path, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "rates.toml", "[base]\nrecipe = { tail = 'pad' }\nssl = 'hubert'\n" + RATES)
    request = short(corpus, "rates", epochs=2, folds=("s0", "s1", "s4"), seeds=(0, 1))
    results = ablate(request, grid, names=["best"])  # and what it chooses among
    assert list(results["rows"]) == ["slow", "fast", "best"]
    assert "lr" not in results["rows"]["best"]["config"]["train"]
    run = corpus / "runs/rates"
    for told in results["rows"]["best"]["folds"]:
        place = f"seed-{told['seed']}/fold-{told['id']}"
        found = {row: read_sealed(run / row / place / "result.json") for row in ("slow", "fast", "best")}
        score = {row: found[row]["validation_wa"] + found[row]["validation_ua"] for row in ("slow", "fast")}
        assert told["chosen"] == found["best"]["chosen"] == max(score, key=lambda row: score[row])
        chosen = run / told["chosen"] / place
        for name in ("predictions.csv", "best.safetensors"):
            assert (chosen / name).stat().st_ino == (run / "best" / place / name).stat().st_ino
        told_by_it = next(
            fold
            for fold in results["rows"][told["chosen"]]["folds"]
            if (fold["id"], fold["seed"]) == (told["id"], told["seed"])
        )
        assert {key: value for key, value in told.items() if key != "chosen"} == told_by_it
        assert found["best"]["identity"] != found[told["chosen"]]["identity"]
    before = tree(run)
    ablate(request, grid)
    assert tree(run) == before
    shutil.rmtree(run / "best")
    ablate(request, grid, names=["best"])
    assert tree(run) == before
    with (run / "best/seed-0/fold-s0/history.csv").open("a") as file:  # of the chosen one's too
        file.write("x")
    with pytest.raises(MfhcaError, match="damaged, its content does not have the digest"):
        ablate(request, grid)
