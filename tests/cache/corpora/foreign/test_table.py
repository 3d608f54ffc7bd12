"""Tables of other tools give the manifest that one would write by hand."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from foreign_factory import corpus, made, manifest

from mfhca_cache.manifest.utterance import Utterance


def cells(rows: list[Utterance], root: Path | None = None) -> list[dict[str, str]]:
    """The rows under other headers; with absolute paths if a root is given."""
    return [
        {
            "filename": u.path if root is None else str((root / u.path).resolve()),
            "spk": u.speaker,
            "Label": u.emotion,
            "sex": u.gender.upper(),
            "text": "good, morning; all",
        }
        for u in rows
    ]


def write(path: Path, table: list[dict[str, str]]) -> Path:
    """Writes a table in the format of its suffix; .txt has semicolons."""
    if path.suffix == ".json":
        path.write_text(json.dumps(table, indent=1))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    elif path.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        parquet.write_table(pyarrow.Table.from_pylist(table), path)
    else:
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            delimiter = {".csv": ",", ".tsv": "\t", ".txt": ";"}[path.suffix]
            writer = csv.DictWriter(file, list(table[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(table)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("absolute", [False, True])
def test_every_format_gives_the_manifest_made_by_hand(tmp_path: Path, suffix: str, absolute: bool) -> None:
    rows = corpus(tmp_path / "audio")
    table = cells(rows, tmp_path / "audio" if absolute else None)
    assert made(tmp_path, "table", str(write(tmp_path / f"list{suffix}", table[::-1]))) == rows


def test_json_lines_may_be_empty_and_have_any_character_in_a_text(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    lines = [json.dumps(row | {"text": "one\u2028two\x85"}, ensure_ascii=False) for row in cells(rows)]
    (tmp_path / "list.jsonl").write_bytes("\r\n".join([*lines, "", ""]).encode())
    assert made(tmp_path, "table", str(tmp_path / "list.jsonl")) == rows


def test_guesses_are_said_and_columns_given_take_precedence(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    table = [
        row | {"who": "x" + row["spk"], "name": u.utterance} for row, u in zip(cells(rows), rows, strict=True)
    ]
    file = str(write(tmp_path / "list.csv", table))
    result = manifest(tmp_path, "table", file, "--column", "speaker=who", "--column", "utterance=name")
    said = " ".join(result.stderr.split())
    assert "speaker from who, utterance from name, path from filename (guessed)" in said
    assert "not used: spk, text" in said
    expected = [replace(u, speaker="x" + u.speaker) for u in rows]
    assert made(tmp_path, "table", file, "--column", "speaker=who", "--column", "utterance=name") == expected


def test_an_official_split_is_kept(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    table = [
        row | {"split": "test" if u.speaker == "dora" else "train"}
        for row, u in zip(cells(rows), rows, strict=True)
    ]
    found = made(tmp_path, "table", str(write(tmp_path / "list.csv", table)))
    assert found == [replace(u, fold="test" if u.speaker == "dora" else "train") for u in rows]


def test_spans_name_the_utterances_of_one_file(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    table = [{"file": "anna\\1.wav", "speaker": "anna", "emotion": "joy", "start": "0", "end": "0.05"}]
    table += [{**table[0], "emotion": "anger", "start": "0.05", "end": ""}]
    found = made(tmp_path, "table", str(write(tmp_path / "list.csv", table)))
    whole = replace(rows[1], gender="")
    assert found == [
        replace(whole, utterance="anna/1_0-50", emotion="joy", start_s=0.0, end_s=0.05),
        replace(whole, utterance="anna/1_50-end", start_s=0.05),
    ]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, ["--column", "spekaer=spk"], "a manifest has no column 'spekaer'; did you mean speaker?"),
        ({}, ["--column", "speaker=spq"], "has no column 'spq'; did you mean spk?"),
        ({"spk": None}, [], "no column looks like speaker; .*--column speaker=COLUMN"),
        ({"filename": "/elsewhere/1.wav"}, [], "path '/elsewhere/1.wav' is absolute"),
        ({"filename": "none.wav"}, [], "has none of its 1 audio files, e.g. none.wav; pass as --root"),
        ({"Label": ""}, [], "line 2: emotion is empty"),
        ({"spk": "nan"}, [], "speaker 'nan' stands for a missing value"),
        ({"end": "100"}, [], "utterance anna/0_0-100000: ends at 100.0 s, after the end of anna/0.wav"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(
    tmp_path: Path, change: dict[str, str | None], options: list[str], message: str
) -> None:
    rows = corpus(tmp_path / "audio")
    table = [{k: v for k, v in (row | change).items() if v is not None} for row in cells(rows)]
    result = manifest(tmp_path, "table", str(write(tmp_path / "list.csv", table)), *options)
    assert result.exit_code == 1
    assert re.search(message, " ".join(result.stderr.split())), result.stderr
    assert not (tmp_path / "out.csv").exists()


def test_rows_without_a_label_are_left_out_if_allowed(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    table = cells(rows)
    table[0]["Label"] = ""
    file = str(write(tmp_path / "list.csv", table))
    assert made(tmp_path, "table", file, "--allow-partial") == rows[1:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1\n", "line 2 has 1 fields, the header 2"),
        ("a,a\n1,2\n", "column 'a' appears twice; rename one"),
        ('a,b\n"1,2\n', "is not CSV"),
        ("file,speaker,label\n", "has no rows"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    corpus(tmp_path / "audio")
    (tmp_path / "list.csv").write_text(text)
    result = manifest(tmp_path, "table", str(tmp_path / "list.csv"))
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (1, True), result.stderr


def test_other_damaged_files_are_refused(tmp_path: Path) -> None:
    corpus(tmp_path / "audio")
    for name, content, message in (
        ("a.jsonl", b'{"file": 1}\n[]\n', "line 2 is not a JSON object"),
        ("b.jsonl", b"{\n", "line 1 is not JSON"),
        ("f.json", b'[{"file": 1}, 2]', "entry 2 is not a JSON object"),
        ("g.json", b'[{"file": 1}', "not JSON"),
        ("c.csv", b"\xff\xfe\x00", "not text in UTF-8"),
        ("d.parquet", b"PAR1", "not readable as parquet"),
        ("e.csv", None, "no such file or folder"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        result = manifest(tmp_path, "table", str(tmp_path / name))
        assert (result.exit_code, message in " ".join(result.stderr.split())) == (1, True), result.stderr


def test_files_and_columns_are_for_tables_alone(tmp_path: Path) -> None:
    for options in (["emodb", "list.csv"], ["emodb", "--column", "speaker=spk"]):
        result = manifest(tmp_path, *options)
        assert result.exit_code == 2
        assert "FILE and --column are for table" in result.stderr
    result = manifest(tmp_path, "table", "x.csv", "--column", "speaker")
    assert (result.exit_code, "write NAME=COLUMN" in result.stderr) == (2, True)
