"""mfhca_cache.corpora.iemocap: labels from the evaluation files, and every file accounted for."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from iemocap_factory import SMALL, write_iemocap, write_wav

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan
from mfhca_cache.manifest.manifest import read_manifest


@pytest.fixture
def iemocap(tmp_path: Path) -> Path:
    """Four turns in IEMOCAP's layout."""
    write_iemocap(tmp_path / "iemocap", SMALL)
    return tmp_path / "iemocap"


@pytest.fixture(scope="module")
def whole_iemocap(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """IEMOCAP's 5,531 usual utterances, with real names, labels and lengths, and turns of other labels."""
    root = tmp_path_factory.mktemp("iemocap")
    with open(shared / "data" / "iemocap" / "utterances.csv", newline="") as file:
        turns = [(row["utterance"], row["emotion"], int(row["samples"])) for row in csv.DictReader(file)]
    others = ["fru", "fea", "sur", "dis", "oth", "xxx"]
    dialogues = sorted({name.rpartition("_")[0] for name, _, _ in turns})
    turns += [(f"{dialogue}_F9{i % 100:02}", others[i % 6], 16000) for i, dialogue in enumerate(dialogues)]
    write_iemocap(root, turns)
    yield root
    shutil.rmtree(root)


def test_iemocap_gives_the_usual_set_exactly_and_lists_every_label(
    whole_iemocap: Path, tmp_path: Path
) -> None:
    summary = scan.build("iemocap", whole_iemocap, tmp_path / "iemocap.csv")
    assert (summary.differences, summary.scan.problems) == ((), ())
    manifest = read_manifest(tmp_path / "iemocap.csv")
    four = manifest.select("four")
    assert manifest.card is not None
    assert manifest.card.default_set == "four"
    assert len(four) == 5531
    assert {utterance.emotion for utterance in manifest.utterances} == set(manifest.card.labels)
    assert Counter(utterance.emotion for utterance in four) == {
        "neu": 1708,
        "ang": 1103,
        "sad": 1084,
        "exc": 1041,
        "hap": 595,
    }
    sessions = Counter(utterance.session for utterance in four)
    assert [sessions[session] for session in "12345"] == [1085, 1023, 1151, 1031, 1241]
    speakers = Counter(utterance.speaker for utterance in four)
    assert [speakers[s] for s in ["1F", "1M", "2F", "2M", "3F", "3M", "4F", "4M", "5F", "5M"]] == [
        528,
        557,
        481,
        542,
        522,
        629,
        528,
        503,
        590,
        651,
    ]
    assert manifest.has_sessions
    assert all(utterance.gender == utterance.speaker[1].lower() for utterance in manifest.utterances)
    lengths = [utterance.samples or 0 for utterance in four]
    assert sum(lengths) / 16000 / 3600 == pytest.approx(6.99, abs=0.005)
    assert sum(-(-length // 48000) for length in lengths) == 10993
    ordered = [utterance.utterance for utterance in manifest.utterances]
    assert ordered == sorted(ordered)


def test_iemocaps_speaker_is_in_the_last_field(iemocap: Path) -> None:
    found = scan.scan("iemocap", iemocap)
    assert [
        (u.utterance, u.speaker, u.session, u.gender, u.emotion, u.samples) for u in found.utterances
    ] == [
        ("Ses01F_impro01_F000", "1F", "1", "f", "neu", 1000),
        ("Ses01F_impro01_M000", "1M", "1", "m", "xxx", 2000),
        ("Ses02M_script01_1b_F003", "2F", "2", "f", "exc", 3000),
        ("Ses02M_script01_1b_M004", "2M", "2", "m", "hap", 4000),
    ]
    assert found.utterances[2].path == "Session2/sentences/wav/Ses02M_script01_1b/Ses02M_script01_1b_F003.wav"
    assert found.problems == ()
    assert {reason: len(files) for reason, files in found.ignored.items()} == {
        "hidden": 8,
        "in folders without utterances": 2,
    }


def test_turns_of_a_session_or_dialogue_without_any_audio_are_one_problem(iemocap: Path) -> None:
    write_iemocap(iemocap, [(f"Ses02F_impro07_M00{n}", "sad", 100) for n in range(3)])
    shutil.rmtree(iemocap / "Session1" / "sentences" / "wav" / "Ses01F_impro01")
    shutil.rmtree(iemocap / "Session2" / "sentences" / "wav" / "Ses02F_impro07")
    (iemocap / "Session2/sentences/wav/Ses02M_script01_1b/Ses02M_script01_1b_M004.wav").unlink()
    assert scan.scan("iemocap", iemocap).problems == (
        "Session1/sentences/wav: no audio of its 2 labelled turns",
        "Session2/sentences/wav/Ses02F_impro07: no audio of its 3 labelled turns",
        "utterance Ses02M_script01_1b_M004: labelled, but there is no "
        "Session2/sentences/wav/Ses02M_script01_1b/Ses02M_script01_1b_M004.wav",
    )


def test_iemocap_names_what_cannot_be_used(iemocap: Path) -> None:
    audio = iemocap / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    (audio / "Ses01F_impro01_F000.wav").unlink()
    (audio / "Ses01F_impro01_M000.wav").write_bytes(b"RIFFnothing")
    write_wav(audio / "Ses01F_impro01_M077.wav", 100)
    (audio / "notes.doc").touch()
    (audio.parent / "loose.wav").touch()
    evaluation = iemocap / "Session2" / "dialog" / "EmoEvaluation" / "Ses02M_script01_1b.txt"
    with open(evaluation, "a") as file:
        file.write("[1.0 - 2.0]\tSes02M_script01_1b_M004\tsad\t[2, 2, 2]\n")
        file.write("[1.0 - 2.0]\tSes01F_impro01_M077\tsad\t[2, 2, 2]\n")
        file.write("[1.0 - 2.0] Ses02M_script01_1b_M005 sad [2, 2, 2]\n")
        file.write("[1.0 - 2.0]\tSes02M_script01_1b_X005\tsad\t[2, 2, 2]\n")
    found = scan.scan("iemocap", iemocap)
    assert [utterance.utterance for utterance in found.utterances] == [SMALL[2][0], SMALL[3][0]]
    assert found.utterances[1].emotion == "hap"
    account = "\n".join(found.problems)
    for expected in (
        "utterance Ses01F_impro01_F000: labelled, but there is no Session1/sentences/wav/Ses01F_impro01",
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav is not readable audio (Format not",
        "utterance Ses02M_script01_1b_M004: labelled twice",
        "Ses02M_script01_1b.txt line 16: utterance Ses01F_impro01_M077 does not belong to Session2",
        "Ses02M_script01_1b.txt line 17: not in IEMOCAP's format of a turn",
        "Ses02M_script01_1b.txt line 18: not in IEMOCAP's format of a turn",
    ):
        assert expected in account
    assert len(found.problems) == 6
    assert found.ignored["without a label"] == [
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M077.wav"
    ]
    assert found.ignored["not .wav"] == ["Session1/sentences/wav/Ses01F_impro01/notes.doc"]
    assert found.ignored["outside the dialogue folders"] == ["Session1/sentences/wav/loose.wav"]


def test_iemocap_without_evaluations_or_sentences_is_named(iemocap: Path, tmp_path: Path) -> None:
    shutil.rmtree(iemocap / "Session1" / "dialog")
    shutil.rmtree(iemocap / "Session2" / "sentences")
    with pytest.raises(
        MfhcaError,
        match=r"(?s)Session1: no folder dialog/EmoEvaluation.*Session2/sentences/wav: no audio of its 2",
    ):
        scan.build("iemocap", iemocap, tmp_path / "iemocap.csv")
    with pytest.raises(
        MfhcaError, match="no files of iemocap in it; choose another --root, with the layout Session1/dialog"
    ):
        scan.build("iemocap", iemocap, tmp_path / "iemocap.csv", allow_partial=True)
    with pytest.raises(MfhcaError, match="no folder Session1 in it; --root must be"):
        scan.scan("iemocap", iemocap / "Session1")
