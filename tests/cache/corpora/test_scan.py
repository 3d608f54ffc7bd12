"""mfhca_cache.corpora.scan: a corpus folder becomes a manifest and its card, or a list of problems."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from iemocap_factory import SMALL, write_iemocap

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan
from mfhca_cache.corpora.folder import Scan
from mfhca_cache.manifest.card import ExpectedCounts, find_card, read_card
from mfhca_cache.manifest.manifest import read_manifest
from mfhca_cache.manifest.utterance import Utterance


@pytest.fixture
def iemocap(tmp_path: Path) -> Path:
    """Four turns in IEMOCAP's layout."""
    write_iemocap(tmp_path / "iemocap", SMALL)
    return tmp_path / "iemocap"


def test_unusable_audio_is_an_error_even_where_all_counts_agree(iemocap: Path, tmp_path: Path) -> None:
    own = find_card("iemocap")
    assert own is not None
    text = own.read_text()
    (tmp_path / "x.toml").write_text(text[: text.index("[expected.four]")])
    (iemocap / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav").unlink()
    with pytest.raises(
        MfhcaError, match=r"(?s)differs from the card of iemocap.*F000: labelled, but there is no"
    ):
        scan.build("iemocap", iemocap, tmp_path / "x.csv")
    assert "not used, as allowed:" in str(scan.build("iemocap", iemocap, tmp_path / "x.csv", True))


def test_building_twice_gives_equal_bytes(iemocap: Path, tmp_path: Path) -> None:
    scan.build("iemocap", iemocap, tmp_path / "a.csv", allow_partial=True)
    first = (tmp_path / "a.csv").read_bytes()
    scan.build("iemocap", iemocap, tmp_path / "a.csv", allow_partial=True)
    assert (tmp_path / "a.csv").read_bytes() == first


def test_the_card_is_put_beside_the_manifest_but_never_replaced(iemocap: Path, tmp_path: Path) -> None:
    own = find_card("iemocap")
    assert own is not None
    scan.build("iemocap", iemocap, tmp_path / "out" / "new.csv", allow_partial=True)
    beside = tmp_path / "out" / "new.toml"
    assert read_card(beside) == read_card(own)
    text = beside.read_text()
    beside.write_text(text[: text.index("[expected.four]")])
    scan.build("iemocap", iemocap, tmp_path / "out" / "new.csv")
    assert "expected" not in beside.read_text()


def test_the_card_of_another_corpus_beside_the_manifest_is_refused(iemocap: Path, tmp_path: Path) -> None:
    own = find_card("emodb")
    assert own is not None
    shutil.copy(own, tmp_path / "x.toml")
    with pytest.raises(MfhcaError, match=r"x.toml: the card of emodb, not of iemocap; choose another --out"):
        scan.build("iemocap", iemocap, tmp_path / "x.csv", allow_partial=True)


def test_unknown_corpora_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        MfhcaError,
        match=r"no corpus 'msp'; there are: crema-d, demo, emodb, .*\. folders reads a corpus with one",
    ):
        scan.scan("msp", tmp_path)
    with pytest.raises(MfhcaError, match="nowhere: no such folder; --root must be the folder of emodb"):
        scan.build("emodb", tmp_path / "nowhere", tmp_path / "x.csv")
    (tmp_path / "nowhere").symlink_to("/mnt/absent")
    with pytest.raises(
        MfhcaError, match="nowhere: a symlink to /mnt/absent, and there is no such folder; --root"
    ):
        scan.build("emodb", tmp_path / "nowhere", tmp_path / "x.csv")
    (tmp_path / "nowhere").unlink()
    with pytest.raises(
        MfhcaError, match=r"no files of emodb in it; choose another --root, with the layout wav/03a01Fa.wav"
    ):
        scan.build("emodb", tmp_path, tmp_path / "x.csv")


def test_a_label_that_the_card_does_not_know_is_left_out_by_name(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "root", [*SMALL, ("Ses01F_impro01_M001", "bored", 100)])
    out = tmp_path / "iemocap.csv"
    with pytest.raises(MfhcaError, match="utterance Ses01F_impro01_M001: label 'bored' is not on the card"):
        scan.build("iemocap", tmp_path / "root", out)
    assert "M001: label 'bored'" in str(scan.build("iemocap", tmp_path / "root", out, allow_partial=True))
    assert len(read_manifest(out).utterances) == 4


@pytest.mark.parametrize(
    ("path", "session", "speaker"),
    [
        ("wav/x.wav", "no utterance of the speakers 3F, 3M", "no utterance of the speakers 3F"),
        ("all/Session{s}/wav/x.wav", "all/Session3: no file", "no utterance of the speakers 3F"),
        ("Actor_{s}{g}/x.wav", "Actor_3F: no file; Actor_3M: no file", "Actor_3F: no file"),
    ],
)
def test_what_is_missing_is_named_first(
    path: str, session: str, speaker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when a session of IEMOCAP is missing: otherwise every class, speaker and label set would be a line."""
    file = find_card("iemocap")
    assert file is not None
    card = read_card(file)
    rows = [
        Utterance(f"Ses0{s}{g}_{n}", path.format(s=s, g=g), f"{s}{g}", "ang", str(s))
        for s in (1, 2, 3)
        for g in "FM"
        for n in range(s)
    ]
    speakers = {f"{s}{g}": s for s in (1, 2, 3) for g in "FM"}
    counts = ExpectedCounts(utterances=12, classes={"ang": 12}, speakers=speakers)
    card = msgspec.structs.replace(card, expected={"utterances": 12, "four": counts})

    def differences(*left_out: str) -> list[str]:
        kept = [u for u in rows if u.speaker not in left_out and u.utterance not in left_out]
        return scan._differences(tmp_path, card, Scan(tuple(kept)))

    assert differences() == []
    assert differences("3F", "3M") == [f"{session}; the other speakers are complete"]
    assert differences("3F", "Ses02M_1") == [
        speaker,
        "utterances in all: 8 found, 12 expected",
        "label set four, utterances: 8 found, 12 expected",
        "label set four, class ang: 8 found, 12 expected",
        "label set four, speaker 2M: 1 found, 2 expected",
    ]
    (tmp_path / "Actor_3F").mkdir()
    assert ("Actor_3F: no usable file" in differences("3F")[0]) == path.startswith("Actor")
    monkeypatch.setattr(log, "level", lambda: log.VERBOSE)
    assert len(differences("3F", "3M")) > 2
