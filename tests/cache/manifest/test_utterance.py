"""Rows of a manifest: names are compared as they are meant, and what stands for a missing value is refused."""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfhca_cache.common.errors import MfhcaError
from mfhca_cache.manifest.manifest import Manifest, read_manifest, resolve_audio
from mfhca_cache.manifest.utterance import Utterance, nfc, similar, warnings

HEADER = "utterance,path,speaker,emotion\n"


def read(folder: Path, *rows: str) -> Manifest:
    path = folder / "own.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return read_manifest(path)


@given(st.text("aüñé한", min_size=1, max_size=6))
def test_both_unicode_forms_of_a_name_are_one_name(text: str) -> None:
    assert nfc(unicodedata.normalize("NFD", text)) == nfc(text) == unicodedata.normalize("NFC", text)


def test_a_speaker_in_two_unicode_forms_is_one_speaker(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Jürgen")
    manifest = read(tmp_path, f"u1,a.wav,{decomposed},x", "u2,b.wav,Jürgen,y")
    assert {u.speaker for u in manifest.utterances} == {"Jürgen"}


def test_an_utterance_in_two_unicode_forms_is_listed_twice(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "ü1")
    with pytest.raises(MfhcaError, match="utterance 'ü1' is on line 2 too"):
        read(tmp_path, "ü1,a.wav,1,x", f"{decomposed},b.wav,1,x")


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u200b", "ZERO WIDTH SPACE"),
        ("\u200d", "ZERO WIDTH JOINER"),
        ("\u202e", "RIGHT-TO-LEFT OVERRIDE"),
        ("\u2066", "LEFT-TO-RIGHT ISOLATE"),
        ("\u00ad", "SOFT HYPHEN"),
        ("\u00a0", "NO-BREAK SPACE"),
    ],
)
@pytest.mark.parametrize("row", ["u{}1,a.wav,s,x", "u1,a.wav,s{}1,x", "u1,a.wav,s,x{}y"])
def test_invisible_characters_are_refused_by_name(
    tmp_path: Path, row: str, character: str, name: str
) -> None:
    with pytest.raises(MfhcaError, match=f"line 2: .* has the invisible character {name}; remove it"):
        read(tmp_path, row.format(character))


def test_bidirectional_marks_are_refused_in_paths_and_other_marks_are_not(tmp_path: Path) -> None:
    with pytest.raises(MfhcaError, match=r"path .* has the invisible character RIGHT-TO-LEFT OVERRIDE"):
        read(tmp_path, "u1,a\u202evaw.wav,s,x")
    with pytest.raises(MfhcaError, match=r"speaker .* has a line break or another control character"):
        read(tmp_path, "u1,a.wav,s\x85t,x")
    assert read(tmp_path, "u1,می\u200cروم.wav,s,x").utterances[0].path == "می\u200cروم.wav"


@pytest.mark.parametrize("value", ["nan", "NaN", "NA", "N/A", "#N/A", "n/a", "None", "null", "Null", "<NA>"])
def test_a_missing_value_is_not_a_class_nor_a_speaker(tmp_path: Path, value: str) -> None:
    with pytest.raises(MfhcaError, match=f"emotion {value!r} stands for a missing value; write the emotion"):
        read(tmp_path, f"u1,a.wav,1,{value}")
    with pytest.raises(MfhcaError, match=f"speaker {value!r} stands for a missing value"):
        read(tmp_path, f"u1,a.wav,{value},x")
    with pytest.raises(MfhcaError, match="line 2: emotion is empty"):
        read(tmp_path, "u1,a.wav,1,")


def test_a_label_of_the_card_may_be_called_none(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        "".join(f'{key} = "x"\n' for key in ("name", "title", "citation", "licence", "source", "layout"))
        + 'labels = ["None", "joy"]\ndefault_set = "all"\n[classes.all]\nNone = "neutral"\njoy = "joy"\n'
    )
    assert read(tmp_path, "u1,a.wav,1,None").utterances[0].emotion == "None"


def test_names_that_look_alike_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ("u1,a.wav,03,Joy", "u2,b.wav,3,joy", "U2,c.wav,\uff13,joy", "u3,d.wav,3.0,j\u043ey")
    manifest = read(tmp_path, *rows)
    with caplog.at_level(logging.WARNING, "mfhca"):
        manifest.warn()
    (speakers, labels, utterances) = caplog.messages
    assert (
        "own.csv: speakers that differ only in letter case, zeros of numbers, width of characters or"
        in speakers
    )
    assert "'03' and '3' and '3.0' and '３'; give" in speakers
    assert "'Joy' and 'joy' and 'j\u043ey'" in labels  # a Cyrillic letter
    assert "'U2' and 'u2'" in utterances


def test_sessions_folds_and_genders_that_look_alike_are_warned_of() -> None:
    """The partner in a dialogue would be trained on, and a man and a woman would not be found."""
    rows = [
        Utterance(f"u{k}", f"{k}.wav", f"s{k}", "joy", session=s, gender=g)
        for k, (s, g) in enumerate([("01", "f"), ("1", "female"), ("2", "m"), ("", "")])
    ]
    rows = [replace(row, fold=fold) for row, fold in zip(rows, ("1", "01", "train", "Train"), strict=True)]
    sessions, folds, genders = warnings(rows)
    assert "folds that differ only in" in folds
    assert "'01' and '1'; give" in folds
    assert "sessions that differ only in" in sessions
    assert "'01' and '1'; give" in sessions
    assert "'f', 'female', 'm'; write f and m" in genders
    assert not list(warnings(rows[1:]))


@given(st.lists(st.integers(1, 10**6), unique=True))
def test_numbers_that_differ_are_not_similar(numbers: list[int]) -> None:
    assert similar(map(str, numbers)) == []
    assert len(similar([*map(str, numbers), *(f"00{number}" for number in numbers)])) == len(numbers)


@pytest.mark.parametrize(("written", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_finds_its_file_in_the_other_unicode_form(tmp_path: Path, written: str, on_disk: str) -> None:
    text = "Müller/größe.wav"
    file = tmp_path / unicodedata.normalize(on_disk, text)
    file.parent.mkdir()
    file.touch()
    utterance = Utterance("u", unicodedata.normalize(written, text), "s", "x")
    assert resolve_audio(tmp_path, utterance) == file.resolve()
    with pytest.raises(MfhcaError, match="no file"):
        resolve_audio(tmp_path, Utterance("u", "Müller/groß.wav", "s", "x"))


def test_classes_that_nobody_has_are_warned_of_and_complete_label_sets_proposed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "own.toml").write_text(
        "".join(f'{key} = "x"\n' for key in ("name", "title", "citation", "licence", "source", "layout"))
        + 'labels = ["joy", "fear", "calm"]\ndefault_set = "all"\n'
        + '[classes.all]\njoy = "joy"\nfear = "fear"\ncalm = "calm"\n[classes.two]\njoy = "joy"\ncalm = "calm"\n'
    )
    manifest = read(tmp_path, "u1,a.wav,1,joy", "u2,b.wav,2,calm")
    with caplog.at_level(logging.WARNING, "mfhca"):
        manifest.warn(manifest.label_set())
        manifest.warn(manifest.label_set("two"))
    (message,) = caplog.messages
    assert (
        "no utterance of the classes fear of label set all; label sets with all their classes: two" in message
    )


def test_a_manifest_with_other_counts_than_its_card_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that lost its last rows is a valid manifest of a smaller corpus with the same name."""
    (tmp_path / "own.toml").write_text(
        "".join(f'{key} = "x"\n' for key in ("name", "title", "citation", "licence", "source", "layout"))
        + 'labels = ["joy", "calm"]\ndefault_set = "all"\n[classes.all]\njoy = "joy"\ncalm = "calm"\n'
        + '[classes.one]\njoy = "joy"\n[expected.all]\nspeakers = { 1 = 1, 2 = 1 }\n[expected.one]\nutterances = 9\n'
    )
    rows = ("u1,a.wav,1,joy", "u2,b.wav,2,calm")
    for lost in (0, 1):
        manifest = read(tmp_path, *rows[: 2 - lost])
        with caplog.at_level(logging.WARNING, "mfhca"):
            manifest.warn()
            assert not caplog.messages
            manifest.warn(manifest.label_set())
        assert [text.splitlines()[1:] for text in caplog.messages if "other counts" in text] == (
            [["  label set all, speaker 2: 0 found, 1 expected"]] * lost
        )
