"""Cut sets, written by lhotse itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from foreign_factory import corpus, made, made_as_the_page_says, manifest

from mfhca_cache.manifest.utterance import Utterance


def cuts(root: Path, rows: list[Utterance]) -> list[Any]:
    """One cut and one supervision for each row."""
    lhotse = pytest.importorskip("lhotse")
    found = []
    for u in rows:
        recording = lhotse.Recording.from_file(root / u.path, recording_id=u.utterance)
        supervision = lhotse.SupervisionSegment(
            u.utterance,
            recording.id,
            0.0,
            recording.duration,
            speaker=u.speaker,
            gender=u.gender,
            text="good morning",
        )
        supervision.custom = {"emotion": u.emotion}
        cut = recording.to_cut()
        cut.supervisions = [supervision]
        found.append(cut)
    return found


def write(path: Path, made: list[Any]) -> str:
    import lhotse

    lhotse.CutSet.from_cuts(made).to_file(path)
    return str(path)


def test_a_cut_set_gives_the_manifest_made_by_hand(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    write(tmp_path / "cuts.jsonl.gz", cuts(tmp_path / "audio", rows))
    assert made_as_the_page_says(tmp_path, "lhotse") == rows


def test_resampling_is_no_change(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    resampled = [cut.resample(8000) for cut in cuts(tmp_path / "audio", rows)]
    assert made(tmp_path, "lhotse", write(tmp_path / "cuts.jsonl.gz", resampled)) == rows


def test_parts_of_a_recording_become_spans(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    whole = cuts(tmp_path / "audio", rows)
    part = whole[1].truncate(offset=0.03, duration=0.06, preserve_id=True)
    (found,) = made(tmp_path, "lhotse", write(tmp_path / "cuts.jsonl", [part]))
    # lhotse keeps the supervision's own ends, which may lie outside a truncated cut
    assert (found.utterance, found.start_s, found.end_s) == ("anna/1", None, None)
    part.supervisions = [part.supervisions[0].trim(part.duration)]
    (found,) = made(tmp_path, "lhotse", write(tmp_path / "cuts.jsonl", [part]))
    assert found.start_s == pytest.approx(0.03)
    assert found.end_s == pytest.approx(0.09)


def test_cuts_that_are_no_utterances_are_refused(tmp_path: Path) -> None:
    rows = corpus(tmp_path / "audio")
    first, second, *_ = cuts(tmp_path / "audio", rows)
    mixed = first.append(second)
    faster = second.perturb_speed(1.1)
    first.supervisions = []
    for cut, message in (
        (mixed, "is not a part of one audio file"),
        (first, "has no supervision"),
        (faster, "is changed by Speed when lhotse reads it"),
    ):
        result = manifest(tmp_path, "lhotse", write(tmp_path / "cuts.jsonl", [cut]))
        assert (result.exit_code, message in " ".join(result.stderr.split())) == (1, True), result.stderr
    (tmp_path / "cuts.jsonl").write_text("{")
    result = manifest(tmp_path, "lhotse", str(tmp_path / "cuts.jsonl"))
    assert (result.exit_code, "lhotse cannot read it" in result.stderr) == (1, True), result.stderr
    result = manifest(tmp_path, "lhotse")
    assert "a folder without *recordings*.jsonl.gz; pass a folder with" in " ".join(result.stderr.split())


def test_recordings_and_supervisions_give_the_manifest_made_by_hand(tmp_path: Path) -> None:
    import lhotse

    rows = corpus(tmp_path / "audio")
    made_cuts = cuts(tmp_path / "audio", rows)
    half = len(rows) // 2
    (tmp_path / "sets").mkdir()
    for part, chosen in (("train", made_cuts[:half]), ("test", made_cuts[half:])):
        lhotse.RecordingSet.from_recordings(cut.recording for cut in chosen).to_file(
            tmp_path / f"sets/mine_recordings_{part}.jsonl.gz"
        )
        lhotse.SupervisionSet.from_segments(s for cut in chosen for s in cut.supervisions).to_file(
            tmp_path / f"sets/mine_supervisions_{part}.jsonl.gz"
        )
    folds = ["train"] * half + ["test"] * (len(rows) - half)
    expected = [replace(u, fold=fold) for u, fold in zip(rows, folds, strict=True)]
    assert made(tmp_path, "lhotse", str(tmp_path / "sets")) == expected
    (tmp_path / "sets/mine_supervisions_test.jsonl.gz").unlink()
    result = manifest(tmp_path, "lhotse", str(tmp_path / "sets"))
    assert "no mine_supervisions_test.jsonl.gz beside it" in " ".join(result.stderr.split())
