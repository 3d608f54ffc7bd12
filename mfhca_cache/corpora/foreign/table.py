"""Tables in CSV (comma, semicolon or tab), JSON (lines or an array) and parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.common.extras import optional
from mfhca_cache.common.files import read_text
from mfhca_cache.corpora.foreign.columns import Table, make_table

DELIMITERS = ",;\t"
JSON = (".jsonl", ".ndjson", ".json")
REMEDY = "save it as CSV, TSV or JSON lines in UTF-8, or as parquet"


def read(source: Path, root: Path, columns: Mapping[str, str]) -> Table:  # noqa: ARG001
    """Reads a table.

    Args:
        source: .parquet; .jsonl, .ndjson or .json (one object per line, or an array of objects); or a text file with a
            header, in which the character that separates most columns of the header counts as the delimiter.
        root, columns: not used.

    Raises:
        MfhcaError: it cannot be read or is none of these, or a line has another number of fields than the header.
    """
    suffix = source.suffix.lower()
    if suffix == ".parquet":
        return _parquet(source)
    text = read_text(source, REMEDY).removeprefix("\ufeff")
    if suffix in JSON:
        is_array = text.lstrip().startswith("[")
        return make_table(source, _json_array(source, text) if is_array else _json_lines(source, text))
    header = text.partition("\n")[0]
    delimiter = "\t" if suffix == ".tsv" else max(DELIMITERS, key=header.count)
    rows = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = [name.strip() for name in next(reader, [])]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise MfhcaError(f"{source}: column {twice[0]!r} appears twice; rename one")
        line = reader.line_num + 1
        for fields in reader:
            if any(fields):
                if len(fields) != len(names):
                    raise MfhcaError(
                        f"{source}: line {line} has {len(fields)} fields, the header {len(names)}; {REMEDY}"
                    )
                rows.append((line, {name: field.strip() for name, field in zip(names, fields, strict=True)}))
            line = reader.line_num + 1
    except csv.Error as error:
        raise MfhcaError(f"{source}: line {reader.line_num} is not CSV ({error}); {REMEDY}") from error
    return Table(source, tuple(names), tuple(rows))


def _json_array(source: Path, text: str) -> Iterator[dict[str, object]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MfhcaError(f"{source}: not JSON ({error}); {REMEDY}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise MfhcaError(f"{source}: entry {number} is not a JSON object; write one object per utterance")
        yield row


def _json_lines(source: Path, text: str) -> Iterator[dict[str, object]]:
    for number, line in enumerate(
        text.split("\n"), start=1
    ):  # str.splitlines also splits within JSON strings
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise MfhcaError(f"{source}: line {number} is not JSON ({error}); {REMEDY}") from error
        if not isinstance(row, dict):
            raise MfhcaError(f"{source}: line {number} is not a JSON object; write one object per line")
        yield row


def _parquet(source: Path) -> Table:
    parquet = optional("pyarrow.parquet", "parquet")
    try:
        rows = parquet.read_table(source).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are among these
        raise MfhcaError(
            f"{source}: not readable as parquet ({str(error).splitlines()[0]}); {REMEDY}"
        ) from error
    return make_table(source, rows)
