"""mfhca_cache.corpora.scan_record: a manifest follows its folder, and never loses what was edited."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from audio_factory import manifest_of, write_audio
from command_factory import call, command, done

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan, scan_record
from mfhca_cache.corpora.scan_record import read_record, record_path, report_new_recordings
from mfhca_cache.manifest.manifest import read_manifest

SPEAKER = re.compile(r"/(\w+)_\d")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three recordings, of which the class of one is not a folder's name."""
    for name in ("joy/anna_1", "anger/ben_1"):
        write_audio(tmp_path / f"data/{name}.wav", name, 0.05)
    write_audio(tmp_path / "data/noise.wav", "noise", 0.05)
    return tmp_path / "data"


def build(root: Path, out: Path) -> scan.Summary:
    emotion = re.compile(r"^(\w+)/")
    return scan.build(scan.FOLDERS, root, out, speaker=SPEAKER, emotion=emotion)


def test_a_manifest_that_is_up_to_date_is_left_untouched(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "mine.csv"
    build(root, out)
    before = out.stat()
    build(root, out)
    assert (out.stat().st_ino, out.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert f"{out}: up to date, not written again" in caplog.text
    record = read_record(out)
    assert record is not None
    assert (record.corpus, record.root) == (scan.FOLDERS, str(root))
    assert record.unlisted == ["noise.wav"]


def test_another_root_and_new_recordings_are_scanned_again(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "mine.csv"
    build(root, out)
    root.rename(tmp_path / "moved")
    write_audio(tmp_path / "moved/joy/anna_2.wav", "anna 2", 0.05)
    (tmp_path / "moved/anger/ben_1.wav").rename(tmp_path / "moved/joy/ben_1.wav")
    caplog.clear()
    build(tmp_path / "moved", out)
    assert {u.utterance for u in read_manifest(out).utterances} == {"joy/anna_1", "joy/anna_2", "joy/ben_1"}
    assert f"it was made from {root}" in caplog.text
    assert "joy/anna_2: only in the folder" in caplog.text
    assert "anger/ben_1: only in the manifest" in caplog.text
    record = read_record(out)
    assert record is not None
    assert record.root == str(tmp_path / "moved")


@pytest.mark.parametrize("recorded", [True, False])
def test_an_edited_manifest_is_not_replaced(root: Path, tmp_path: Path, recorded: bool) -> None:
    out = tmp_path / "mine.csv"
    build(root, out)
    edited = out.read_text().replace(",anger,", ",fury,")
    out.write_text(edited)
    if not recorded:
        record_path(out).unlink()
    reason = "has been edited since its scan" if recorded else "was not written by this command"
    with pytest.raises(MfhcaError, match=rf"{reason}.*; rename it to keep it, or delete it") as error:
        build(root, out)
    assert str(error.value).splitlines()[1:] == [
        "  anger/ben_1: emotion 'fury' in the manifest, 'anger' in the folder"
    ]
    assert out.read_text() == edited
    out.unlink()
    build(root, out)
    assert ",anger," in out.read_text()


def test_a_column_that_was_added_is_not_lost(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    build(root, out)
    out.write_text("".join(f"{line},x\n" for line in out.read_text().splitlines()))
    with pytest.raises(MfhcaError, match=r"(?s)has been edited.*the same utterances, written in another way"):
        build(root, out)
    out.write_text("nothing of the kind")
    with pytest.raises(MfhcaError, match=r"(?s)has been edited.*no column utterance, path, speaker, emotion"):
        build(root, out)


def test_status_says_which_recordings_are_new(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "rows.csv"
    build(root, out)
    root.rename(tmp_path / "audio")  # where `command` looks
    done(*command(tmp_path, tmp_path / "cache", name="status"))
    report_new_recordings(read_manifest(out), tmp_path / "audio", False)
    assert "since its scan" not in caplog.text
    write_audio(tmp_path / "audio/sadness/deep/cleo_1.flac", "cleo", 0.05)
    (tmp_path / "audio/joy/anna_1.txt").touch()
    printed = call(*command(tmp_path, tmp_path / "cache", name="status")).stderr
    assert (
        f"warning: {out}: 1 new audio file in {tmp_path / 'audio'} since its scan (sadness/deep/cleo_1.flac); "
        "make the manifest again to list them" in printed
    )


def test_a_manifest_that_was_not_scanned_is_compared_with_its_own_folders(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = build(root, tmp_path / "a.csv").scan.utterances
    manifest = manifest_of(tmp_path / "written.csv", [u for u in rows if u.emotion == "joy"])
    report_new_recordings(manifest, root, True)
    assert "does not list" not in caplog.text
    for name in ("joy/dora_1.wav", "joy/.hidden.wav"):
        write_audio(root / name, name, 0.05)
    report_new_recordings(manifest, root, True)
    caplog.clear()
    report_new_recordings(manifest, root, False)
    assert not caplog.text
    report_new_recordings(manifest, root, True)
    assert f"{root} has 1 audio file that {manifest.path} does not list: joy/dora_1.wav" in caplog.text
    report_new_recordings(manifest, tmp_path / "nowhere", True)  # reading the audio will say what is wrong


def test_a_damaged_record_is_an_error(root: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "mine.csv"
    build(root, manifest)
    record_path(manifest).write_text('{"corpus": "folders"}')
    with pytest.raises(MfhcaError, match=r"mine\.scan\.json: root is missing; delete it and run again"):
        scan_record.read_record(manifest)
