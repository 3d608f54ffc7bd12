"""The measurements run and are written down as they were found; how fast anything is, is not tested."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from places import REPOSITORY
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

sys.path.insert(0, str(REPOSITORY))  # `bench` is no part of the installed package

from bench import precision
from bench.report import Measurement, Section, Target, markdown
from bench.timing import Spread, in_turns, private_bytes


def bench(*arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench", "--quick", *arguments]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=120)


def test_quick_scale_runs_and_its_report_parses(tmp_path: Path) -> None:
    before = (REPOSITORY / "bench" / "results.json").read_bytes()
    bench("--only", "scale", "--out", str(tmp_path / "out"), "--scratch", str(tmp_path))
    results = json.loads((tmp_path / "out" / "quick.json").read_text(encoding="utf-8"))
    assert results["quick"]
    assert list(results["sections"]) == ["scale"]
    section = results["sections"]["scale"]
    assert len(section["figures"]) == 4
    assert [row[0] for row in section["tables"][0]["rows"]] == ["20", "80"]
    text = (tmp_path / "out" / "quick.md").read_text(encoding="utf-8")
    assert "its values mean nothing" in text
    assert str(tmp_path) not in text
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "the scratch folder is removed"
    assert (REPOSITORY / "bench" / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("target", "value", "reached"),
    [
        (Target(">=", 2), 2.0, True),
        (Target(">=", 2), 1.99, False),
        (Target("<", 2), 2.0, False),
        (Target("<=", 2), 2.0, True),
        (None, 2.0, None),
    ],
)
def test_whether_a_target_is_reached_is_computed(
    target: Target | None, value: float, reached: bool | None
) -> None:
    found = Measurement("a figure", Spread.of([value]), "s", target).to_dict()
    assert found["reached"] is reached
    assert found["verdict"] == {True: "reached", False: "not reached", None: ""}[reached]


def test_report_shows_failed_and_measured_sections() -> None:
    section = Section(
        "Reading", "How.", [Measurement("rate", Spread.of([1.0, 3.0, 2.0]), "GB/s", Target(">=", 2))]
    )
    failed = {"title": "step", "failed": "out of memory", "figures": []}
    sections = {"reading": section.to_dict(), "step": failed}
    text = markdown({"quick": False, "machine": {"cores": "2"}, "sections": sections})
    assert "| rate | 2 GB/s (1 to 3) | 3 | at least 2 GB/s | reached |  |" in text
    assert "**Failed:** out of memory" in text


def test_turns_alternate() -> None:
    order: list[str] = []

    def action(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = in_turns({"a": lambda: action("a"), "b": lambda: action("b")}, 3, {"b": 1})
    assert order == ["a", "b", "a", "b", "a", "a"]
    assert found == {"a": [3.0, 5.0, 6.0], "b": [4.0]}


def test_restated_head_has_the_parameters_of_the_released_one() -> None:
    from bench.released import Released, counts

    never_used = 38_293  # parameters that the released code makes and does not call
    assert counts(Released()) == (119_592, 3_545_088, 1_053_902 - never_used)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_private_memory_is_this_process_s() -> None:
    before = private_bytes()
    with mmap.mmap(-1, 20 << 20) as block:  # not from the heap, which may have room from before
        block.write(os.urandom(1 << 20) * 20)
        assert private_bytes() - before > 0.9 * len(block)
    assert private_bytes(2**22 + 1) == 0


def test_precisions_are_compared_over_the_same_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths, expected = [], {}
    for name in ("float32", "bfloat16"):
        folds, truth, predicted = [], {0: [], 1: []}, {0: [], 1: []}
        for seed, _ in itertools.product((0, 1), range(3)):
            labels, guesses = rng.integers(0, 3, (2, 40))
            truth[seed] += list(labels)
            predicted[seed] += list(guesses)
            folds.append({"seed": seed, "confusion": confusion_matrix(labels, guesses).tolist()})
        expected[name] = [balanced_accuracy_score(truth[seed], predicted[seed]) for seed in (0, 1)]
        row = {"corpus": "c", "label_set": "all", "protocol": "strict", "recipes": {}, "seeds": [0, 1]}
        row |= {"config": {"train": {"precision": name}}, "folds": folds}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(row))
    measured = precision.compare(paths)
    for name, scores in expected.items():
        assert [own["ua"] for own in measured["precisions"][name].values()] == pytest.approx(scores)
    gap = 100 * abs(np.mean(expected["float32"]) - np.mean(expected["bfloat16"]))
    assert f"The means of UA are {gap:.2f} points apart" in precision.section(measured)
    with pytest.raises(SystemExit, match=r"must differ in train\.precision, and in nothing else"):
        precision.compare([paths[0], paths[0]])
