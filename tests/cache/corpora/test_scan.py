from __future__ import annotations

import csv
import shutil
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mfhca_cache.common import log
from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.corpora import scan
from mfhca_cache.manifest.card import find_card, read_card
from mfhca_cache.manifest.manifest import read_manifest

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
RATERS = (
    "C-E2:\tNeutral;\t()\nC-E3:\tAnger; Frustration;\t(loud)\n"
    "A-E3:\tval 3; act 2; dom  2;\t()\nA-F1:\tval 3; act 2; dom  2;\t()\n\n"
)


def write_wav(path: Path, samples: int) -> None:
    """A 16 kHz wav file whose samples are a hole in the file: zeros that take no room on disk."""
    size = 2 * samples
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + size,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        16000,
        32000,
        2,
        16,
        b"data",
        size,
    )
    with open(path, "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)


def write_iemocap(root: Path, turns: list[tuple[str, str, int]]) -> None:
    """A tree in IEMOCAP's layout, droppings of macOS included, of turns (name, label, samples)."""
    dialogues: dict[str, list[tuple[str, str, int]]] = {}
    for turn in turns:
        dialogues.setdefault(turn[0].rpartition("_")[0], []).append(turn)
    for dialogue, members in dialogues.items():
        session = root / f"Session{dialogue[4]}"
        evaluations, sentences = (
            session / "dialog" / "EmoEvaluation",
            session / "sentences" / "wav" / dialogue,
        )
        sentences.mkdir(parents=True)
        for folder in ("Attribute", "Categorical", "Self-evaluation"):
            (evaluations / folder).mkdir(parents=True, exist_ok=True)
        (evaluations / "Categorical" / f"{dialogue}_e2_cat.txt").write_text(
            f"{members[0][0]} :Neutral state; ()\n"
        )
        text = HEADER
        for index, (name, label, samples) in enumerate(members):
            turn = f"[{index}.2901 - {index + 1}.2357]\t{name}\t{label}\t[2.5000, 2.5000, 2.5000]"
            text += f"{turn}\n{RATERS}"
            write_wav(sentences / f"{name}.wav", samples)
        (evaluations / f"{dialogue}.txt").write_text(text)
        (evaluations / f"._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07\xff[1.0 - 2.0]\tx\tneu\t[1]")
        (sentences / f"._{members[0][0]}.wav").write_bytes(b"\x00\x05\x16\x07")
        (session / "sentences" / "wav" / ".DS_Store").touch()
        (evaluations / ".DS_Store").touch()


SMALL = [
    ("Ses01F_impro01_F000", "neu", 1000),
    ("Ses01F_impro01_M000", "xxx", 2000),
    ("Ses02M_script01_1b_F003", "exc", 3000),
    ("Ses02M_script01_1b_M004", "hap", 4000),
]


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


# --- EmoDB


def test_emodb_is_complete(shared: Path, tmp_path: Path) -> None:
    summary = scan.build("emodb", shared / "data" / "emodb", tmp_path / "emodb.csv")
    manifest = read_manifest(tmp_path / "emodb.csv")
    assert manifest.utterances == summary.scan.utterances
    assert len(manifest.utterances) == 535
    assert len(manifest.select("seven")) == 535
    assert len(manifest.select("four")) == 339
    assert manifest.label_set().classes == (
        "anger",
        "boredom",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
    )
    assert manifest.label_set("four").classes == ("anger", "happiness", "neutral", "sadness")
    assert not manifest.has_sessions
    genders = {utterance.speaker: utterance.gender for utterance in manifest.utterances}
    assert "".join(genders[speaker] for speaker in sorted(genders)) == "mffmmmffmf"
    first = manifest.utterances[0]
    assert (first.utterance, first.path, first.samples, first.sample_rate) == (
        "03a01Fa",
        "wav/03a01Fa.wav",
        30372,
        16000,
    )
    assert sum(utterance.samples or 0 for utterance in manifest.utterances) / 16000 / 3600 == pytest.approx(
        0.41, abs=0.005
    )
    assert "label set four: 339 utterances: anger 127, happiness 71, neutral 79, sadness 62" in str(summary)


@pytest.mark.parametrize("folder", ["wav", "."])
def test_emodb_may_lie_in_wav_or_in_the_root(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in ("16b10Td", "03a01Fa"):
        write_wav(tmp_path / folder / f"{name}.wav", 160)
    found = scan.scan("emodb", tmp_path)
    assert [utterance.utterance for utterance in found.utterances] == ["03a01Fa", "16b10Td"]
    assert found.utterances[0].path == (Path(folder) / "03a01Fa.wav").as_posix()
    assert (found.ignored, found.problems) == ({}, ())


def test_every_file_of_emodb_is_counted(tmp_path: Path) -> None:
    for name in ("03a01Fa", "03a01Xa", "3a01Fa", "._03a01Fa", "speech"):
        write_wav(tmp_path / f"{name}.wav", 160)
    write_wav(tmp_path / "03a01Wa.wav", 0)
    (tmp_path / "03a01Na.wav").write_text("no audio")
    (tmp_path / "erkennung.txt").touch()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "lablaut").mkdir()
    (tmp_path / "lablaut" / "03a01Fa.lablaut").touch()
    found = scan.scan("emodb", tmp_path)
    assert [utterance.utterance for utterance in found.utterances] == ["03a01Fa"]
    assert found.ignored == {
        "named almost like 03a01Fa": ["03a01Xa.wav", "3a01Fa.wav"],
        "hidden": [".DS_Store", "._03a01Fa.wav"],
        "without a label": ["speech.wav"],
        "not .wav": ["erkennung.txt", "lablaut/03a01Fa.lablaut"],
    }
    assert found.file_counts().splitlines()[0] == (
        "1 file used, 7 ignored: 2 hidden, 2 named almost like 03a01Fa, 2 not .wav, 1 without a label"
    )
    assert len(found.problems) == 2
    assert found.problems[0].startswith("utterance 03a01Na: 03a01Na.wav is not readable audio (")
    assert found.problems[1] == "utterance 03a01Wa: 03a01Wa.wav has no samples"


def test_missing_files_are_an_error_that_lists_every_difference_of_the_default_label_set(
    shared: Path, tmp_path: Path
) -> None:
    root = tmp_path / "emodb"
    root.mkdir()
    for file in (shared / "data" / "emodb" / "wav").iterdir():
        if file.stem not in ("03a01Fa", "08a01Lc"):
            (root / file.name).symlink_to(file)
    out = tmp_path / "emodb.csv"
    with pytest.raises(
        MfhcaError, match=r"differs from the card of emodb; complete it, or .*--allow-partial"
    ) as error:
        scan.build("emodb", root, out)
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "utterances in all: 533 found, 535 expected",
        "label set seven, utterances: 533 found, 535 expected",
        "label set seven, class boredom: 80 found, 81 expected",
        "label set seven, class happiness: 70 found, 71 expected",
        "label set seven, speaker 03: 48 found, 49 expected",
        "label set seven, speaker 08: 57 found, 58 expected",
    ]
    assert not out.exists()
    with (
        log.command(log.VERBOSE),
        pytest.raises(MfhcaError, match="label set four, speaker 03: 38 found, 39 exp"),
    ):
        scan.build("emodb", root, out)
    summary = scan.build("emodb", root, out, allow_partial=True)
    assert len(read_manifest(out).utterances) == 533
    assert "different from the card, as allowed" in str(summary)


# --- IEMOCAP


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
        MfhcaError, match=r"(?s)Session1: no folder dialog/EmoEvaluation.*M004: labelled, but there"
    ):
        scan.build("iemocap", iemocap, tmp_path / "iemocap.csv")
    with pytest.raises(
        MfhcaError, match="no files of iemocap in it; choose another --root, with the layout Session1/dialog"
    ):
        scan.build("iemocap", iemocap, tmp_path / "iemocap.csv", allow_partial=True)
    with pytest.raises(MfhcaError, match="no folder Session1 in it; --root must be"):
        scan.scan("iemocap", iemocap / "Session1")


def test_a_label_that_the_card_does_not_know_is_left_out_by_name(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "root", [*SMALL, ("Ses01F_impro01_M001", "bored", 100)])
    out = tmp_path / "iemocap.csv"
    with pytest.raises(MfhcaError, match="utterance Ses01F_impro01_M001: label 'bored' is not on the card"):
        scan.build("iemocap", tmp_path / "root", out)
    assert "M001: label 'bored'" in str(scan.build("iemocap", tmp_path / "root", out, allow_partial=True))
    assert len(read_manifest(out).utterances) == 4


# --- what all share


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
        MfhcaError, match=r"no corpus 'msp'; choose one of crema-d, demo, emodb, .*, or folders for a corpus"
    ):
        scan.scan("msp", tmp_path)
    with pytest.raises(MfhcaError, match="nowhere: no such folder; --root must be the folder of emodb"):
        scan.build("emodb", tmp_path / "nowhere", tmp_path / "x.csv")
    with pytest.raises(
        MfhcaError, match=r"no files of emodb in it; choose another --root, with the layout wav/03a01Fa.wav"
    ):
        scan.build("emodb", tmp_path, tmp_path / "x.csv")
