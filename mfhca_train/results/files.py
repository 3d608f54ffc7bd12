"""Tables as CSV text, for every file that a unit, a prediction or an evaluation writes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from mfhca_cache.common.text import as_cell


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV text; floats with all the digits that tell them apart, no text that a spreadsheet would run as a formula.

    >>> csv_text(["utterance", "logp"], [["a,b", 0.1]])
    'utterance,logp\\n"a,b",0.1\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(as_cell, header))
    writer.writerows(map(as_cell, row) for row in rows)
    return text.getvalue()
