"""The file of an analysis: what is written is read, damage is refused, and changed units are noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfhca_cache.common.errors import MfhcaError
from mfhca_train.analysis.selection import Selection
from mfhca_train.analysis.stored import (
    FILE,
    Analysis,
    Summary,
    is_current,
    read,
    read_summary,
    source_of,
    write,
)


def units(row: Path) -> list[Path]:
    """Two units of a row, as far as an analysis identifies them."""
    folders = [row / "seed-0" / f"fold-{fold}" for fold in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(folder.name)
        (folder / "predictions.csv").write_text("p")
    return folders


def analysis(folders: list[Path]) -> Analysis:
    summary: Summary = {
        "format": 1,
        "origin": source_of("identity", folders, Selection("a", ("u",), "row")),
        "classes": ["joy"],
        "seed": 0,
        "protocol": "strict",
        "config": {"model": {}, "train": {}},
        "attended": None,
        "weights": None,
        "folds": [],
    }
    return Analysis(summary, {"points.features": np.arange(6.0).reshape(2, 3).T})


def test_what_is_written_is_read_and_equal_analyses_give_equal_bytes(tmp_path: Path) -> None:
    written = analysis(units(tmp_path / "row"))
    for name in ("one", "two"):
        write(tmp_path / name, written)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    found = read(tmp_path / "one")
    assert {key: value for key, value in found.summary.items() if key != "digest"} == written.summary
    np.testing.assert_array_equal(found.arrays["points.features"], written.arrays["points.features"])


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "flipped", "version", "text"])
def test_a_damaged_file_is_refused_with_a_remedy(tmp_path: Path, damage: str) -> None:
    path = tmp_path / FILE
    write(path, analysis(units(tmp_path / "row")))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    contents = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "flipped": bytes(flipped),
        "version": whole.replace(b'\\"format\\":1', b'\\"format\\":9'),
        "text": b"x" * 200,
    }
    if damage == "missing":
        path.unlink()
    else:
        assert contents[damage] != whole
        path.write_bytes(contents[damage])
    with pytest.raises(
        MfhcaError,
        match=r"analysis\.safetensors: cannot be read .*; delete it, and run the same cv or ablate",
    ):
        read(path)
    assert read_summary(path) is None


def test_an_analysis_is_current_until_a_unit_changes(tmp_path: Path) -> None:
    row = tmp_path / "row"
    folders = units(row)
    stored = analysis(folders)
    assert is_current(stored, row, 2)
    assert not is_current(stored, row, 3)
    (folders[1] / "predictions.csv").write_text("q")
    assert not is_current(stored, row, 2)
