"""CSV text is read back as it was written."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.text import from_cell
from mfhca_train.results.checksums import read_rows
from mfhca_train.results.files import csv_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))


@given(st.lists(st.tuples(TEXT, st.floats(allow_nan=False), st.integers())))
def test_text_and_floats_are_read_back_exactly(rows: list[tuple[str, float, int]]) -> None:
    header, *found = csv.reader(io.StringIO(csv_text(["name", "logp", "frames"], rows), newline=""))
    assert header == ["name", "logp", "frames"]
    assert [(from_cell(name), float(logp), int(frames)) for name, logp, frames in found] == rows
    assert not [name for name, *_ in found if name[:1] in ("=", "+", "-", "@", "\t")]


def test_a_file_name_is_no_formula_and_is_read_back(tmp_path: Path) -> None:
    path, names = tmp_path / "a.csv", ["=cmd|'/c calc'!A1", "-x", "'=x", "@a", "+1", "'tis", "a=b"]
    path.write_text(csv_text(["=label", "logp"], [[name, -0.5] for name in names]))
    assert path.read_text().splitlines()[:3] == ["'=label,logp", "'=cmd|'/c calc'!A1,-0.5", "'-x,-0.5"]
    assert [(row["=label"], row["logp"]) for row in read_rows(path)] == [(name, "-0.5") for name in names]
