"""The fault suite in its short form: a few trials of each kind, as `make torture` does hundreds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from places import FACTORIES, REPOSITORY
from shard_factory import write

from faults.command import Finished
from faults.flips import flip, regions
from faults.scene import difference
from faults.torture import FAMILIES, GROUPS, LONG, PROMISES, SHORT
from mfhca_cache.store.schema import USER_BLOCK

FAULTS = [fault for promises in PROMISES.values() for fault in promises]


@pytest.fixture(scope="module")
def tortured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program wrote, in a process of its own: a process that forks must have no threads."""
    folder = tmp_path_factory.mktemp("torture")
    places = ["--out", str(folder / "torture.json"), "--scratch", str(folder / "scratch")]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY / 'tests'}:{FACTORIES}:{REPOSITORY}",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "faults.torture", "--short", *places],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (folder / "torture.json").exists(), done.stderr
    found: dict[str, Any] = json.loads((folder / "torture.json").read_text())
    found["said"] = done.stderr
    found["code"] = done.returncode
    return found


@pytest.mark.parametrize("fault", SHORT)
def test_nothing_is_lost(fault: str, tortured: dict[str, Any]) -> None:
    (line,) = [line for line in tortured["faults"] if line["fault"] == fault]
    if line["skipped"]:
        pytest.skip(line["skipped"])
    assert line["trials"] == f"{SHORT[fault]} of {SHORT[fault]}"
    assert line["tried"] >= SHORT[fault]
    assert line["losses"] == 0, tortured["said"]


def test_the_long_form_is_long_enough_and_knows_every_fault() -> None:
    wanted = {group: sum(LONG[fault] for fault in promises) for group, promises in PROMISES.items()}
    assert wanted["flips"] >= 200
    assert wanted["full disk"] >= 20
    rows = [fault for fault in kills_of(LONG) for _ in range(LONG[fault])]
    assert len(rows) + 1 * (len(rows) // 3) >= 250  # every third trial kills two to four times
    assert set(LONG) == set(FAULTS)
    assert set(SHORT) <= set(FAULTS)
    assert set(FAMILIES) <= set(FAULTS)
    assert [
        trial.fault for module in GROUPS.values() for trial in module.trials(dict.fromkeys(FAULTS, 1))
    ] == FAULTS


def kills_of(counts: dict[str, int]) -> list[str]:
    return [fault for fault in counts if fault.startswith("kill")]


def test_every_byte_of_a_shard_is_in_one_region(tmp_path: Path) -> None:
    path = write(tmp_path, {"a": 2, "b": 0, "c": 3}).path
    spans = sorted(span for spans in regions(path).values() for span in spans)
    assert spans[0][0] == 0
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] == path.stat().st_size > USER_BLOCK
    assert all(regions(path).values())


def test_a_flip_changes_one_bit_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    before = path.stat()
    flip(path, 1, 3)
    assert path.read_bytes() == b"ajc"
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize(
    ("code", "output", "refused", "crashed"),
    [
        (1, "error: a file is damaged; delete it\n  a\n  b\n", True, False),
        (1, "error: one\nerror: two\n", False, False),
        (1, "error: unexpected error (KeyError: 1); please report it\n", False, True),
        (1, "Traceback (most recent call last):\nerror: it\n", False, True),
        (0, "error: none\n", False, False),
        (-7, "", False, True),
        (-9, "", False, False),
    ],
)
def test_how_a_command_ended_is_told_by_code_and_words(
    code: int, output: str, refused: bool, crashed: bool
) -> None:
    finished = Finished(code, output, 1.0)
    assert (finished.refused, finished.crashed) == (refused, crashed)


def test_a_difference_names_what_differs() -> None:
    assert difference({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) is None
    assert difference({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == "a (unexpected), b (other), c (missing)"
