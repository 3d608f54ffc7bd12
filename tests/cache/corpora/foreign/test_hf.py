"""Datasets of Hugging Face, written by the library itself."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from foreign_factory import LABELS, corpus, made, made_as_the_page_says, manifest

from mfhca_cache.manifest.utterance import Utterance


def dataset(root: Path, rows: list[Utterance]) -> Any:
    datasets = pytest.importorskip("datasets")
    values = {
        "audio": [str(root / u.path) for u in rows],
        "utt_id": [u.utterance for u in rows],
        "speaker_id": [u.speaker for u in rows],
        "label": [LABELS.index(u.emotion) for u in rows],
        "gender": [u.gender for u in rows],
    }
    made = datasets.Dataset.from_dict(values)
    made = made.cast_column("label", datasets.ClassLabel(names=list(LABELS)))
    return made.cast_column("audio", datasets.Audio())


def test_a_saved_dataset_gives_the_manifest_made_by_hand_and_its_audio(tmp_path: Path) -> None:
    """save_to_disk puts the bytes of the files into the dataset; they are written below the root again."""
    rows = corpus(tmp_path / "original")
    # file names alone are kept, so they must be different
    for u in rows:
        (tmp_path / "original" / u.path).rename(tmp_path / f"original/{u.speaker}-{Path(u.path).name}")
    named = [replace(u, path=f"{u.speaker}-{Path(u.path).name}") for u in rows]
    saved = tmp_path / "saved-dataset"
    dataset(tmp_path / "original", named).save_to_disk(saved)
    assert made_as_the_page_says(tmp_path, "hf") == named
    for u in named:
        assert (tmp_path / "audio" / u.path).read_bytes() == (tmp_path / "original" / u.path).read_bytes()
    assert made(tmp_path, "hf", str(saved)) == named  # the files are there now
    (tmp_path / "audio" / named[0].path).write_bytes(b"other")
    result = manifest(tmp_path, "hf", str(saved))
    assert "has other audio than row 0" in result.stderr


def test_splits_are_folders(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "original")
    datasets = pytest.importorskip("datasets")
    splits = {
        name: dataset(tmp_path / "original", rows[part])
        for name, part in (("a", slice(0, 2)), ("b", slice(2, 4)))
    }
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    found = made(tmp_path, "hf", str(tmp_path / "saved"))
    assert [(u.utterance, u.path, u.fold) for u in found] == [
        ("anna/0", "a/0.wav", "a"),
        ("anna/1", "a/1.wav", "a"),
        ("ben/0", "b/0.wav", "b"),
        ("ben/1", "b/1.wav", "b"),
    ]


@pytest.mark.parametrize("split", ["", "train"])
def test_an_audio_folder_gives_the_manifest_made_by_hand(tmp_path: Path, split: str) -> None:
    folder = tmp_path / "audio" / split
    rows = corpus(folder)
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "utt_id", "speaker", "emotion", "gender"])
        writer.writerows((u.path, u.utterance, u.speaker, u.emotion, u.gender) for u in rows)
    expected = [replace(u, path=f"{split}/{u.path}".lstrip("/"), fold=split) for u in rows]
    assert made(tmp_path, "hf") == expected


def test_other_folders_and_damaged_datasets_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    corpus(tmp_path / "audio")
    result = manifest(tmp_path, "hf")
    assert "neither a dataset of save_to_disk nor an audio folder with metadata.csv" in " ".join(
        result.stderr.split()
    )
    (tmp_path / "audio/state.json").write_text("{")
    result = manifest(tmp_path, "hf")
    assert (result.exit_code, "datasets cannot read it" in result.stderr) == (1, True)
