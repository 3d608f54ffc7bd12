"""CSV text is read back as it was written."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from mfhca_train.results.files import csv_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"))


@given(st.lists(st.tuples(TEXT, st.floats(allow_nan=False), st.integers())))
def test_text_and_floats_are_read_back_exactly(rows: list[tuple[str, float, int]]) -> None:
    header, *found = csv.reader(io.StringIO(csv_text(["name", "logp", "frames"], rows), newline=""))
    assert header == ["name", "logp", "frames"]
    assert [(name, float(logp), int(frames)) for name, logp, frames in found] == rows
