"""Databases of audformat, written by the library itself."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from foreign_factory import SPEAKERS, corpus, made, made_as_the_page_says, manifest

from mfhca_cache.manifest.utterance import Utterance

pytestmark = pytest.mark.filterwarnings(
    "ignore:The inplace keyword:DeprecationWarning"
)  # audformat's, on pandas


def write(folder: Path, rows: list[Utterance], segments: dict[str, list[float]] | None = None) -> str:
    """A database with tables train and test, and a scheme for speakers whose labels have a gender."""
    audformat = pytest.importorskip("audformat")
    genders = {"f": "female", "m": "male"}
    database = audformat.Database("mine")
    database.schemes["emotion"] = audformat.Scheme(labels=sorted({u.emotion for u in rows}))
    database.schemes["speaker"] = audformat.Scheme(
        labels={s: {"gender": genders[g]} for s, g in SPEAKERS.items()}
    )
    for split, own in (("train", rows[2:]), ("test", rows[:2])):
        database.splits[split] = audformat.Split(split)
        index = audformat.filewise_index([u.path for u in own])
        if segments is not None:
            starts, ends = segments["starts"][: len(own)], segments["ends"][: len(own)]
            unit = "s"
            import pandas

            index = audformat.segmented_index(
                [u.path for u in own], pandas.to_timedelta(starts, unit), pandas.to_timedelta(ends, unit)
            )
        table = database[split] = audformat.Table(index, split_id=split)
        table["emotion"] = audformat.Column(scheme_id="emotion")
        table["emotion"].set([u.emotion for u in own])
        table["speaker"] = audformat.Column(scheme_id="speaker")
        table["speaker"].set([u.speaker for u in own])
    database.save(folder)
    return str(folder)


def test_a_database_gives_the_manifest_made_by_hand(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    genders = {"f": "female", "m": "male"}
    write(tmp_path / "audio", rows)
    expected = [
        replace(u, gender=genders[u.gender], fold="test" if u.speaker == "anna" else "train") for u in rows
    ]
    assert made_as_the_page_says(tmp_path, "audformat") == expected


def test_segments_become_spans(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    segments = {"starts": [0.0, 0.02] * 3, "ends": [0.05, float("nan")] * 3}
    found = made(tmp_path, "audformat", write(tmp_path / "database", rows, segments))
    spans = {(u.utterance, u.start_s, u.end_s) for u in found if u.speaker == "anna"}
    assert spans == {("anna/0_0-50", None, 0.05), ("anna/1_20-end", 0.02, None)}


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_nothing_in_a_database_is_executed(tmp_path: Path) -> None:
    """audformat prefers pickled tables, and its YAML may name any function."""
    rows = corpus(tmp_path / "audio")
    write(tmp_path / "audio", rows)
    expected = made(tmp_path, "audformat", str(tmp_path / "audio"))
    (tmp_path / "audio/db.train.pkl").write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    assert made(tmp_path, "audformat", str(tmp_path / "audio")) == expected
    with open(tmp_path / "audio/db.yaml", "a") as header:
        header.write(f"meta: !!python/object/apply:os.mkdir [{tmp_path}/made]\n")
    refused = manifest(tmp_path, "audformat", str(tmp_path / "audio"))
    assert refused.exit_code == 1
    assert "audformat cannot read it (could not determine a constructor for the tag" in refused.output
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "emotion=mood"], "has no scheme 'mood'; there are: emotion, gender, speaker"),
        (["--column", "emotion=emotoin"], "did you mean emotion?"),
    ],
)
def test_an_unknown_scheme_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    result = manifest(tmp_path, "audformat", write(tmp_path / "audio", corpus(tmp_path / "audio")), *options)
    assert (result.exit_code, message in " ".join(result.stderr.split())) == (1, True), result.stderr


def test_a_folder_without_a_database_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("audformat")
    corpus(tmp_path / "audio")
    result = manifest(tmp_path, "audformat", str(tmp_path / "audio"))
    assert "no db.yaml in it; pass the folder of an audformat database" in " ".join(result.stderr.split())
    (tmp_path / "audio/db.yaml").write_text("]")
    result = manifest(tmp_path, "audformat", str(tmp_path / "audio"))
    assert (result.exit_code, "audformat cannot read it" in result.stderr) == (1, True)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    write(tmp_path / "audio", corpus(tmp_path / "audio"))
    (tmp_path / "audio/db.test.parquet").write_bytes(b"x")
    result = manifest(tmp_path, "audformat", str(tmp_path / "audio"))
    assert result.exit_code == 1
    assert f"{tmp_path}/audio: audformat cannot read it (" in result.stderr
    assert f"{tmp_path}/audio/db.test.parquet" in result.stderr
    assert result.stderr.count("\n") == 1
